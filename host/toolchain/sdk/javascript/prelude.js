// What QuickJS lacks and a policy may expect of JavaScript, made of what the gateway offers. `witgate plugin build`
// imports it on the policy's first line. There are no timers and no network: a hook answers at once.
import { randomBytes, randomU64 } from "witgate:policy/env@0.1.0";
import { write } from "witgate:policy/log@0.1.0";

class Utf8Encoder {
  encoding = "utf-8";
  encode(text = "") {
    // Each escape of a URI component is one byte.
    const escaped = encodeURIComponent(text.toWellFormed ? text.toWellFormed() : text);
    const bytes = new Uint8Array(escaped.length);
    let length = 0;
    for (let at = 0; at < escaped.length; at++) {
      const isEscape = escaped[at] === "%";
      bytes[length++] = isEscape ? parseInt(escaped.slice(at + 1, at + 3), 16) : escaped.charCodeAt(at);
      if (isEscape) at += 2;
    }
    return bytes.slice(0, length);
  }
}

class Utf8Decoder {
  encoding = "utf-8";
  constructor(label = "utf-8", { fatal = false } = {}) {
    if (!/^utf-?8$/i.test(label)) throw new RangeError(`${label}: only UTF-8 is decoded`);
    this.fatal = fatal;
  }
  decode(source = new Uint8Array()) {
    const bytes = source instanceof Uint8Array ? source : new Uint8Array(source.buffer ?? source);
    let text = "";
    for (let at = 0; at < bytes.length; ) {
      const first = bytes[at];
      const length = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
      let letter = "\ufffd";
      let used = 1;
      try {
        const escaped = Array.from(bytes.subarray(at, at + length), (byte) => `%${byte.toString(16).padStart(2, "0")}`);
        letter = decodeURIComponent(escaped.join(""));
        used = length;
      } catch {
        if (this.fatal) throw new TypeError("not UTF-8");
      }
      text += letter;
      at += used;
    }
    return text;
  }
}

const shown = (value) => {
  if (value instanceof Error) return `${value}\n${value.stack ?? ""}`.trimEnd();
  return typeof value === "string" ? value : (JSON.stringify(value) ?? String(value));
};
const at = (level) => (...values) => write(level, values.map(shown).join(" "));

globalThis.TextEncoder ??= Utf8Encoder;
globalThis.TextDecoder ??= Utf8Decoder;
globalThis.console = {
  trace: at("trace"), debug: at("debug"), log: at("info"), info: at("info"), warn: at("warn"), error: at("error"),
};
globalThis.crypto ??= {
  getRandomValues(array) {
    const { buffer, byteOffset, byteLength } = array;
    new Uint8Array(buffer, byteOffset, byteLength).set(randomBytes(byteLength));
    return array;
  },
};
// QuickJS seeds its own once, when the component is built: each instance would draw the same numbers.
Math.random = () => Math.floor(randomU64() / 2 ** 11) / 2 ** 53;
