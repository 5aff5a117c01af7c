// Lets only signed webhooks through: an HMAC over time and body, no older than a window, and each delivery once.
import { equal, hmac } from "witgate:policy/crypto@0.1.0";
import { unixMillis } from "witgate:policy/env@0.1.0";
import * as metrics from "witgate:policy/metrics@0.1.0";
import * as plan from "witgate:policy/plan@0.1.0";
import { Bucket } from "witgate:policy/shared-state@0.1.0";
import { amend, bytes, concat, note, problem, proceed, set, text } from "./witgate.js";
import type { BodyVerdict, Values, Verdict } from "./witgate.js";

// What each header must look like. A header that came twice has a newline in it, and so fits none.
const SHAPES: [name: string, shape: RegExp][] = [
  ["x-signature", /^sha256=[0-9a-f]{64}$/],
  ["x-timestamp", /^[0-9]{1,12}$/],
  ["x-delivery", /^[^\n]+$/],
];
const OUTCOMES = ["accepted", "refused", "replayed"] as const;
type Outcome = (typeof OUTCOMES)[number];

interface Config {
  secret: string;
  window?: number;
}

let secret: string;
let windowMillis: number;
let deliveries: Bucket;
const counters = {} as Record<Outcome, number>;

// Checked before `configure`, and shown by editors.
export function configSchema(): string {
  return JSON.stringify({
    type: "object",
    properties: {
      secret: { type: "string", description: "The name of the secret that the sender signs with." },
      window: {
        type: "integer", minimum: 1, maximum: 86400, default: 300,
        description: "How many seconds a timestamp may be away from the gateway's clock.",
      },
    },
    required: ["secret"],
    additionalProperties: false,
  });
}

export function configure(config: string): void {
  const { secret: name, window = 300 }: Config = JSON.parse(config);
  secret = name;
  windowMillis = window * 1000;
  plan.requestReads(SHAPES.map(([name]) => name));
  plan.requestBody("buffer", 65536);
  plan.writes(["x-webhook"]);
  deliveries = Bucket.open("deliveries");
  for (const outcome of OUTCOMES)
    counters[outcome] = metrics.define("counter", "webhook_signatures_total", [["outcome", outcome]]);
}

// What needs no body is checked before there is one.
export function onRequest(values: Values): Verdict {
  for (const [at, [name, shape]] of SHAPES.entries())
    if (!shape.test(values[at] ?? "")) return refuse(401, `${name} is missing or malformed`);
  const [signature, timestamp, delivery] = values as string[];
  if (Math.abs(unixMillis() - Number(timestamp) * 1000) > windowMillis)
    return refuse(401, "x-timestamp is outside the window");
  return amend(note(bytes([timestamp, delivery, signature.slice("sha256=".length)].join("\n"))));
}

// What is thrown, by `hmac` too, is the policy's own failure (503).
export function onRequestBody(body: Uint8Array, left: Uint8Array): BodyVerdict {
  const [timestamp, delivery, signature] = text(left).split("\n");
  const tag = hmac("sha256", secret, concat(bytes(`${timestamp}.`), body));
  if (!equal(bytes(hex(tag)), bytes(signature))) return refuse(401, "x-signature does not fit the body");
  // Kept for as long as the timestamp could still pass: it may come from one window ahead.
  if (!deliveries.compareAndSet(delivery, null, bytes("1"), 2 * windowMillis))
    return refuse(409, "the delivery came before", "replayed");
  metrics.add(counters.accepted, 1);
  return amend(note(bytes("verified")));
}

export function onResponse(_: Values, left: Uint8Array): Verdict {
  return text(left) === "verified" ? amend(set("x-webhook", "verified")) : proceed;
}

export function onResponseBody(): BodyVerdict {
  return proceed;
}

function refuse(status: number, detail: string, outcome: Outcome = "refused") {
  console.info(`refused: ${detail}`);
  metrics.add(counters[outcome], 1);
  return problem(status, "The webhook was refused", detail);
}

const hex = (tag: Uint8Array) => Array.from(tag, (byte) => byte.toString(16).padStart(2, "0")).join("");
