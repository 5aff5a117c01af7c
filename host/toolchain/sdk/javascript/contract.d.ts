// The contract, as a policy in JavaScript sees it; wit/policy.wit says what everything means. A `result` of an
// import is returned or thrown; what a hook throws is its error.
declare module "witgate:policy/types@0.1.0" {
  export type Edit =
    | { tag: "set"; val: [string, string] }
    | { tag: "append"; val: [string, string] }
    | { tag: "remove"; val: string }
    | { tag: "note"; val: Uint8Array };
  export interface Reply { status: number; headers: [string, string][]; body: Uint8Array }
  export type Verdict = { tag: "proceed" } | { tag: "amend"; val: Edit[] } | { tag: "respond"; val: Reply };
  export type BodyVerdict = Verdict | { tag: "replace"; val: [Uint8Array, Edit[]] };
  export type BodyMode = "skip" | "buffer" | "stream";
  export type Fallback = "deny" | "skip";
}
declare module "witgate:policy/plan@0.1.0" {
  import type { BodyMode, Fallback } from "witgate:policy/types@0.1.0";
  export function requestReads(names: string[]): void;
  export function responseReads(names: string[]): void;
  export function logReads(names: string[]): void;
  export function writes(names: string[]): void;
  export function requestBody(mode: BodyMode, limit: number): void;
  export function responseBody(mode: BodyMode, limit: number): void;
  export function onError(action: Fallback): void;
  export function tickMillis(period: number): void;
}
declare module "witgate:policy/env@0.1.0" {
  export function unixMillis(): number;
  export function unixNanos(): number;
  export function monotonicNanos(): number;
  export function randomU64(): number;
  export function randomBytes(len: number): Uint8Array;
}
declare module "witgate:policy/log@0.1.0" {
  export type Level = "trace" | "debug" | "info" | "warn" | "error";
  export function maxLevel(): Level;
  export function write(level: Level, message: string): void;
  export function print(bytes: Uint8Array): void;
}
declare module "witgate:policy/metrics@0.1.0" {
  export type Kind = "counter" | "gauge" | "histogram";
  export function define(kind: Kind, name: string, labels: [string, string][]): number;
  export function add(metric: number, delta: number): void;
  export function observe(metric: number, value: number): void;
}
declare module "witgate:policy/message@0.1.0" {
  export function headers(): [string, string][];
}
declare module "witgate:policy/shared-state@0.1.0" {
  export class Bucket {
    static open(name: string): Bucket;
    get(key: string): Uint8Array | null;
    set(key: string, value: Uint8Array, ttlMillis: number): boolean;
    remove(key: string): void;
    increment(key: string, delta: number, ttlMillis: number): number;
    compareAndSet(key: string, expected: Uint8Array | null, value: Uint8Array, ttlMillis: number): boolean;
  }
}
declare module "witgate:policy/rate-limit@0.1.0" {
  export interface Quota { count: number; periodMillis: number; burst: number }
  export interface Outcome { allowed: boolean; remaining: number; retryAfterMillis: number; resetMillis: number }
  export class Limiter {
    static create(name: string, quota: Quota): Limiter;
    check(key: string, cost: number): Outcome;
  }
}
declare module "witgate:policy/jwt@0.1.0" {
  export type TokenFault =
    | "malformed" | "unknown-key" | "bad-signature" | "expired" | "not-yet-valid" | "bad-issuer" | "bad-audience"
    | "missing-claim" | "algorithm-refused" | "keys-unavailable";
  export interface KeySource { tag: "inline" | "file" | "url" | "secret"; val: string }
  export interface Rules {
    keys: KeySource[]; algorithms: string[]; issuers: string[]; audiences: string[]; requiredClaims: string[];
    leewaySeconds: number;
  }
  export class Verifier {
    static create(rules: Rules): Verifier;
    verify(token: string): string;
  }
}
declare module "witgate:policy/consumers@0.1.0" {
  export interface Consumer { name: string; product: string | null }
  export type Refusal = "unknown" | "suspended" | "expired" | "not-subscribed" | "quota-exceeded";
  export function identifyByKey(key: string): Consumer;
  export function identifyByName(name: string): Consumer;
}
declare module "witgate:policy/crypto@0.1.0" {
  export type Digest = "sha256" | "sha384" | "sha512";
  export function hash(digest: Digest, data: Uint8Array): Uint8Array;
  export function hmac(digest: Digest, secret: string, data: Uint8Array): Uint8Array;
  export function equal(a: Uint8Array, b: Uint8Array): boolean;
  export function verifyPassword(password: string, phc: string): boolean;
}
declare module "witgate:policy/http-client@0.1.0" {
  export interface FetchRequest {
    upstream: string; method: string; path: string; headers: [string, string][]; body: Uint8Array;
    timeoutMillis: number;
  }
  export interface FetchResponse { status: number; headers: [string, string][]; body: Uint8Array }
  export type FetchError =
    | "not-granted" | "no-healthy-endpoint" | "timeout" | "connect" | "protocol" | "too-large";
  export type FetchResult = { tag: "ok"; val: FetchResponse } | { tag: "err"; val: FetchError };
  export function fetch(request: FetchRequest): FetchResponse;
  export function fetchAll(requests: FetchRequest[]): FetchResult[];
}
declare module "witgate:policy/body-stream@0.1.0" {
  export type Direction = "request" | "response";
  export type ChunkVerdict =
    | { tag: "proceed" } | { tag: "replace"; val: Uint8Array } | { tag: "abort"; val: string };
}
/** What QuickJS has beside the language's library of 2022. */
interface Uint8ArrayConstructor {
  fromHex(text: string): Uint8Array<ArrayBuffer>;
  fromBase64(text: string): Uint8Array<ArrayBuffer>;
}
interface Uint8Array<TArrayBuffer extends ArrayBufferLike> {
  toHex(): string;
  toBase64(): string;
}
declare function btoa(binary: string): string;
declare function atob(base64: string): string;
/** What the prelude adds to QuickJS. */
declare class TextEncoder { encode(text?: string): Uint8Array }
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean });
  decode(bytes?: Uint8Array): string;
}
declare const console: Record<"trace" | "debug" | "log" | "info" | "warn" | "error", (...values: unknown[]) => void>;
declare const crypto: { getRandomValues<T extends ArrayBufferView>(array: T): T };
