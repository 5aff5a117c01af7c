// Lets a webhook through if its signature is right, its time is now and its delivery is new. The sender signs
// `TIMESTAMP.BODY` with a secret that both know (HMAC-SHA256), and names each delivery.
import { equal, hmac } from "witgate:policy/crypto@0.1.0";
import { unixMillis } from "witgate:policy/env@0.1.0";
import * as metrics from "witgate:policy/metrics@0.1.0";
import * as plan from "witgate:policy/plan@0.1.0";
import { Bucket } from "witgate:policy/shared-state@0.1.0";
import {
  amend, bytes, concat, note, proceed, problem, set, text, type BodyVerdict, type Values, type Verdict,
} from "./witgate.js";

type Outcome = "accepted" | "refused" | "replayed";

interface Settings {
  secret: string;
  window: number;
}

const BODY_BYTES = 65_536;

let settings: Settings;
let deliveries: Bucket;
let counted: Record<Outcome, number>;

export function configSchema(): string {
  return JSON.stringify({
    type: "object",
    properties: {
      secret: { type: "string", description: "The name of the secret." },
      window: { type: "integer", minimum: 1, maximum: 86_400, description: "Seconds." },
    },
    required: ["secret"],
    additionalProperties: false,
  });
}

export function configure(config: string): void {
  settings = { window: 300, ...JSON.parse(config) };
  deliveries = Bucket.open("deliveries");
  const counter = (outcome: Outcome) => metrics.define("counter", "webhook_signatures_total", [["outcome", outcome]]);
  counted = { accepted: counter("accepted"), refused: counter("refused"), replayed: counter("replayed") };
  plan.requestReads(["x-signature", "x-timestamp", "x-delivery"]);
  plan.requestBody("buffer", BODY_BYTES);
  plan.writes(["x-webhook"]);
}

export function onRequest(values: Values): Verdict {
  const [signature, timestamp, delivery] = values.map((value) => value ?? "") as [string, string, string];
  if (!/^sha256=[0-9a-f]{64}$/.test(signature)) return refuse(401, "x-signature is missing or malformed");
  if (!/^\d{1,12}$/.test(timestamp)) return refuse(401, "x-timestamp is missing or malformed");
  if (!/^[\w-]{1,64}$/.test(delivery)) return refuse(401, "x-delivery is missing or malformed");
  const seconds = Math.abs(Number(timestamp) - Math.floor(unixMillis() / 1000));
  if (seconds > settings.window) return refuse(401, "x-timestamp is too far from now");
  return amend(note(bytes([timestamp, delivery, signature.slice(7)].join("\n"))));
}

export function onRequestBody(body: Uint8Array, noted: Uint8Array): BodyVerdict {
  const [timestamp, delivery, signature] = text(noted).split("\n") as [string, string, string];
  const signed = concat(bytes(`${timestamp}.`), body);
  const given = Uint8Array.fromHex(signature);
  if (!equal(hmac("sha256", settings.secret, signed), given)) {
    return refuse(401, "the signature is not that of the body");
  }
  if (!deliveries.compareAndSet(delivery, null, bytes("1"), 2_000 * settings.window)) {
    return refuse(409, "this delivery was seen before", "replayed");
  }
  metrics.add(counted.accepted, 1);
  return amend(note(bytes("verified")));
}

export function onResponse(_: Values, noted: Uint8Array): Verdict {
  return text(noted) === "verified" ? amend(set("x-webhook", "verified")) : proceed;
}

export function onResponseBody(): BodyVerdict {
  return proceed;
}

function refuse(status: number, detail: string, outcome: Outcome = "refused") {
  console.info(`refused: ${detail}`);
  metrics.add(counted[outcome], 1);
  return problem(status, "The webhook was refused", detail);
}
