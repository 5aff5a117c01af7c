// The conformance suite's guest in TypeScript: each scenario of ../../suite.yaml, as ../../rust does it.
import { type Consumer, identifyByKey, identifyByName } from "witgate:policy/consumers@0.1.0";
import * as crypto from "witgate:policy/crypto@0.1.0";
import * as env from "witgate:policy/env@0.1.0";
import { fetch, fetchAll, type FetchRequest, type FetchResponse } from "witgate:policy/http-client@0.1.0";
import { type KeySource, Verifier } from "witgate:policy/jwt@0.1.0";
import * as log from "witgate:policy/log@0.1.0";
import { headers } from "witgate:policy/message@0.1.0";
import * as metrics from "witgate:policy/metrics@0.1.0";
import * as plan from "witgate:policy/plan@0.1.0";
import { Limiter, type Outcome } from "witgate:policy/rate-limit@0.1.0";
import { Bucket } from "witgate:policy/shared-state@0.1.0";
import type { ChunkVerdict, Direction } from "witgate:policy/body-stream@0.1.0";
import {
  amend, append, bytes, note, proceed, remove, replace, respond, set, text,
  type BodyVerdict, type Reply, type Values, type Verdict,
} from "./witgate.js";

// Of "password", and made weak so that it is quick.
const HASHED = "$argon2id$v=19$m=64,t=1,p=1$ZhDKCbdbeOfz8SxEaeh23A$LZGaupyDSr25QL75JXj/x1KkJ9YyIniFkm2WGkbavGA";

// What `configure` made for the scenario.
let scenario = "";
let bucket: Bucket;
let limiter: Limiter;
let verifier: Verifier;
let defined: number[] = [];
const kept: Uint8Array[] = [];

export function configSchema(): string {
  return JSON.stringify({
    type: "object", properties: { do: { type: "string" } }, required: ["do"], additionalProperties: false,
  });
}

export function configure(config: string): void {
  scenario = JSON.parse(config).do;
  const reads = ["x-a", ":path", "client:ip", "query:q"];
  if (scenario === "refuse") throw "refused as told";
  if (scenario === "unknown-read") reads.push("no such:name");
  if (scenario === "message") reads.push("headers:*");
  if (scenario === "skip") plan.onError("skip");
  if (scenario === "tick") plan.tickMillis(1000);
  if (scenario === "open-ungranted") Bucket.open("other");
  if (scenario === "state") bucket = Bucket.open("suite");
  if (scenario === "rate") limiter = Limiter.create("suite", { count: 2, periodMillis: 60_000, burst: 0 });
  if (scenario === "jwt") {
    verifier = Verifier.create({
      keys: [{ tag: "secret", val: "signing" } satisfies KeySource], algorithms: [], issuers: ["https://issuer.example"], audiences: [],
      requiredClaims: ["sub"], leewaySeconds: 0,
    });
  }
  if (scenario === "metrics") {
    const kinds: [metrics.Kind, string][] = [
      ["counter", "suite_total"], ["gauge", "suite_level"], ["histogram", "suite_seconds"],
    ];
    defined = kinds.map(([kind, name]) => metrics.define(kind, name, [["kind", "suite"]]));
  }
  if (scenario.startsWith("body-")) {
    plan.requestBody("buffer", 1000);
    plan.responseBody("buffer", 1000);
  }
  if (scenario.startsWith("stream-")) {
    plan.requestBody("stream", 0);
    plan.responseBody("stream", 0);
  }
  plan.requestReads(reads);
  plan.responseReads([":status", "x-b"]);
  plan.logReads([":status", "answered:by"]);
  plan.writes(["x-*"]);
}

export function onRequest(values: Values): Verdict {
  const first = values[0] ?? "";
  const result = (value: string) => amend(set("x-result", value));
  switch (scenario) {
    case "edits":
      return amend(set("x-set", "1"), append("x-append", "2"), remove("x-remove"), note(bytes("nä")));
    case "body-amend":
      return amend(note(bytes("from headers")));
    case "respond":
      return respond(teapot(418));
    case "bad-status":
      return respond(teapot(99));
    case "error":
    case "skip":
      throw "as told";
    case "trap":
      // An exception is an error; what is no verdict cannot be taken out of the guest.
      return { tag: "no verdict" } as unknown as Verdict;
    case "spin":
      for (;;);
    case "grow":
      for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
    case "undeclared":
      return amend(set("undeclared", "1"));
    case "forbidden-value":
      return amend(set("x-set", "a\r\nb: c"));
    case "many-edits":
      return amend(...Array.from({ length: 1_000 }, () => set("x-set", "1")));
    case "echo":
      return result(joined(values));
    case "env":
      return result(environment());
    case "log":
      for (const level of ["trace", "debug", "info", "warn", "error"] as const) log.write(level, `at ${level}`);
      log.print(bytes("printed in "));
      log.print(bytes("pieces\n"));
      return result(String(log.maxLevel() === "trace"));
    case "metrics":
      metrics.add(defined[0], 2.5);
      metrics.add(defined[1], -1);
      metrics.observe(defined[2], 0.25);
      return result(refusal(() => String(metrics.define("counter", "suite_late", []))));
    case "message":
      return result(headers().map(([name, value]) => `${name}=${value}`).join(","));
    case "state":
      return result(state());
    case "late-open":
      return result(refusal(() => String(Bucket.open("suite"))));
    case "rate": {
      const outcomes = [1, 2, 3].map(() => limiter.check("key", 1));
      const told = ({ allowed, remaining, retryAfterMillis }: Outcome) => `${allowed},${remaining},${retryAfterMillis}`;
      return result(outcomes.map(told).join("|"));
    }
    case "jwt":
      return result(refusal(() => verifier.verify(first)));
    case "by-key":
      return result(refusal(() => consumer(identifyByKey(first))));
    case "by-name":
      return result(refusal(() => consumer(identifyByName(first))));
    case "crypto":
      return result(cryptography());
    case "fetch":
      return result(refusal(() => fetched(fetch(request("backend")))));
    case "fetch-ungranted":
      return result(refusal(() => fetched(fetch(request("elsewhere")))));
    case "fetch-all": {
      const answers = fetchAll([request("backend"), request("broken")]);
      return result(answers.map((one) => (one.tag === "ok" ? fetched(one.val) : one.val)).join("|"));
    }
  }
  return proceed;
}

export function onResponse(values: Values, note: Uint8Array): Verdict {
  if (scenario === "edits" || scenario === "echo") return amend(set("x-response", `${joined(values)}|${text(note)}`));
  if (scenario === "response-respond") return respond(teapot(418));
  if (scenario === "response-error") throw "as told";
  return proceed;
}

export const onRequestBody = onBody;
export const onResponseBody = onBody;

function onBody(body: Uint8Array, note: Uint8Array): BodyVerdict {
  if (scenario === "body-amend") return amend(set("x-result", `${body.length}|${text(note)}`));
  if (scenario === "body-replace") return replace(bytes(upper(text(body))), set("x-result", String(body.length)));
  if (scenario === "body-respond") return respond(teapot(418));
  if (scenario === "body-error") throw "as told";
  return proceed;
}

class BodyFilter {
  #which: Direction;
  #chunks = 0;
  constructor(which: Direction, _note: Uint8Array) {
    this.#which = which;
  }
  chunk(data: Uint8Array, last: boolean): ChunkVerdict {
    this.#chunks++;
    if (scenario === "stream-replace") {
      return { tag: "replace", val: bytes(`${this.#which} ${this.#chunks} ${upper(text(data))} ${last};`) };
    }
    if (scenario === "stream-swallow" && !last) return { tag: "replace", val: new Uint8Array() };
    if (scenario === "stream-abort") return { tag: "abort", val: "as told" };
    if (scenario === "stream-error") throw "as told";
    return proceed;
  }
}
export const bodyStream = { BodyFilter };

export function onLog(entries: Values[]): void {
  for (const entry of entries) log.write("info", `entry ${joined(entry)}`);
  if (scenario === "log-error") throw "as told";
}

export function onTick(): void {
  log.write("info", "tick");
}

function environment(): string {
  const [millis, nanos, earlier] = [env.unixMillis(), env.unixNanos(), env.monotonicNanos()];
  const isSteady = earlier <= env.monotonicNanos();
  const differ = env.randomU64() !== env.randomU64();
  const sameTime = Math.floor(nanos / 1_000_000) === millis;
  return [millis, sameTime, isSteady, differ, env.randomBytes(5).length].join("|");
}

function state(): string {
  const get = () => text(bucket.get("k") ?? bytes("-"));
  const steps = [
    get(), bucket.set("k", bytes("v"), 0), get(), bucket.increment("n", 5, 0), bucket.increment("n", -7, 60_000),
    bucket.compareAndSet("k", bytes("v"), bytes("w"), 0), bucket.compareAndSet("k", null, bytes("x"), 0), get(),
  ];
  bucket.remove("k");
  return [...steps, get()].join("|");
}

function cryptography(): string {
  const hmac = (secret: string) => refusal(() => hex(crypto.hmac("sha256", secret, bytes("abc"))));
  const [a, b] = [bytes("a"), bytes("b")];
  return [
    hex(crypto.hash("sha256", bytes("abc"))), crypto.hash("sha384", bytes("")).length,
    crypto.hash("sha512", bytes("")).length, hmac("signing"), hmac("unknown"), crypto.equal(a, a), crypto.equal(a, b),
    crypto.verifyPassword("password", HASHED), crypto.verifyPassword("passwort", HASHED),
  ].join("|");
}

const request = (upstream: string): FetchRequest => ({
  upstream, method: "POST", path: "/x?y=1", headers: [["x-h", "1"]], body: bytes("hi"), timeoutMillis: 500,
});

const fetched = ({ status, headers, body }: FetchResponse) =>
  `${status} ${headers.find(([name]) => name === "x-r")?.[1] ?? "-"} ${text(body)}`;

const consumer = ({ name, product }: Consumer) => `${name} ${product ?? "-"}`;

const teapot = (status: number): Reply => ({
  status, headers: [["content-type", "text/plain"], ["x-two", "1"], ["x-two", "2"]], body: bytes("short and stout"),
});

const joined = (values: Values) => values.map((value) => value ?? "-").join("|");
const hex = (data: Uint8Array) => Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
const upper = (value: string) => value.replace(/[a-z]/g, (letter) => letter.toUpperCase());

// What a call returns, or the error that the gateway gives instead, which is thrown.
function refusal(call: () => string): string {
  try {
    return call();
  } catch (error) {
    return String((error as { payload?: unknown }).payload ?? error);
  }
}
