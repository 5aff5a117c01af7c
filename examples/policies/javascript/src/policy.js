// Lets a webhook through if its signature is right, its time is now and its delivery is new. The sender signs
// `TIMESTAMP.BODY` with a secret that both know (HMAC-SHA256), and names each delivery.
import { equal, hmac } from "witgate:policy/crypto@0.1.0";
import { unixMillis } from "witgate:policy/env@0.1.0";
import * as metrics from "witgate:policy/metrics@0.1.0";
import * as plan from "witgate:policy/plan@0.1.0";
import { Bucket } from "witgate:policy/shared-state@0.1.0";
import { amend, bytes, concat, note, proceed, problem, set, text } from "./witgate.js";

const BODY_BYTES = 65_536;

let settings, deliveries, counted;

export function configSchema() {
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

export function configure(config) {
  settings = { window: 300, ...JSON.parse(config) };
  deliveries = Bucket.open("deliveries");
  const counter = (outcome) => metrics.define("counter", "webhook_signatures_total", [["outcome", outcome]]);
  counted = { accepted: counter("accepted"), refused: counter("refused"), replayed: counter("replayed") };
  plan.requestReads(["x-signature", "x-timestamp", "x-delivery"]);
  plan.requestBody("buffer", BODY_BYTES);
  plan.writes(["x-webhook"]);
}

export function onRequest(values) {
  const [signature, timestamp, delivery] = values.map((value) => value ?? "");
  if (!/^sha256=[0-9a-f]{64}$/.test(signature)) return refuse(401, "x-signature is missing or malformed");
  if (!/^\d{1,12}$/.test(timestamp)) return refuse(401, "x-timestamp is missing or malformed");
  if (!/^[\w-]{1,64}$/.test(delivery)) return refuse(401, "x-delivery is missing or malformed");
  const seconds = Math.abs(Number(timestamp) - Math.floor(unixMillis() / 1000));
  if (seconds > settings.window) return refuse(401, "x-timestamp is too far from now");
  return amend(note(bytes([timestamp, delivery, signature.slice(7)].join("\n"))));
}

export function onRequestBody(body, noted) {
  const [timestamp, delivery, signature] = text(noted).split("\n");
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

export function onResponse(_, noted) {
  return text(noted) === "verified" ? amend(set("x-webhook", "verified")) : proceed;
}

export function onResponseBody() {
  return proceed;
}

function refuse(status, detail, outcome = "refused") {
  console.info(`refused: ${detail}`);
  metrics.add(counted[outcome], 1);
  return problem(status, "The webhook was refused", detail);
}
