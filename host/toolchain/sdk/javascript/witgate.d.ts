import type { BodyVerdict, Edit, Reply, Verdict } from "witgate:policy/types@0.1.0";
export type { BodyVerdict, Edit, Reply, Verdict };
/** What was asked for in `configure`, in that order; what is not there is null, so say `value ?? ""`. */
export type Values = (string | null)[];

export function bytes(text: string): Uint8Array;
export function text(bytes: Uint8Array): string;
export function concat(...parts: Uint8Array[]): Uint8Array;
export const proceed: { tag: "proceed" };
export function amend(...edits: Edit[]): { tag: "amend"; val: Edit[] };
export function respond(reply: Reply): { tag: "respond"; val: Reply };
export function replace(body: Uint8Array, ...edits: Edit[]): { tag: "replace"; val: [Uint8Array, Edit[]] };
export function set(name: string, value: string): Edit;
export function append(name: string, value: string): Edit;
export function remove(name: string): Edit;
export function note(bytes: Uint8Array): Edit;
export function problem(status: number, title: string, detail: string): { tag: "respond"; val: Reply };
