// Makes what hooks return. A policy can do without it: each is an object that the contract describes.
const encoder = new TextEncoder();

/** UTF-8 of a text. */
export const bytes = (text) => encoder.encode(text);
/** The text of UTF-8. */
export const text = (bytes) => new TextDecoder().decode(bytes);
/** Bytes one after the other; `[...a, ...b]` takes milliseconds for a body. */
export const concat = (...parts) => {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
};

/** Nothing to change. */
export const proceed = { tag: "proceed" };
/** Goes on with these edits. */
export const amend = (...edits) => ({ tag: "amend", val: edits });
/** Stops here and answers. */
export const respond = (reply) => ({ tag: "respond", val: reply });
/** Another body, and edits. */
export const replace = (body, ...edits) => ({ tag: "replace", val: [body, edits] });

/** Edits of the message in hand. */
export const set = (name, value) => ({ tag: "set", val: [name, value] });
export const append = (name, value) => ({ tag: "append", val: [name, value] });
export const remove = (name) => ({ tag: "remove", val: name });
/** Bytes that the policy's later hooks for this exchange get. */
export const note = (bytes) => ({ tag: "note", val: bytes });

/** A refusal as a problem document (RFC 9457). */
export const problem = (status, title, detail) =>
  respond({
    status,
    headers: [["content-type", "application/problem+json"]],
    body: bytes(JSON.stringify({ title, status, detail })),
  });
