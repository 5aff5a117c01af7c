// What QuickJS lacks and a policy may expect of JavaScript, made of what the gateway offers. `witgate plugin build`
// imports it on the policy's first line. There are no timers and no network: a hook answers at once.
import { randomBytes, randomU64 } from "witgate:policy/env@0.1.0";
import { write } from "witgate:policy/log@0.1.0";

// All the work on texts is done by functions of the engine: a loop over bytes would take longer than a hook may. A
// "binary" string has one letter, U+0000 to U+00FF, for each byte.
const LETTERS_AT_ONCE = 8192;
const UTF8 = new RegExp(
  "([\\xc2-\\xdf][\\x80-\\xbf]|\\xe0[\\xa0-\\xbf][\\x80-\\xbf]|\\xed[\\x80-\\x9f][\\x80-\\xbf]|" +
    "[\\xe1-\\xec\\xee\\xef][\\x80-\\xbf]{2}|\\xf0[\\x90-\\xbf][\\x80-\\xbf]{2}|[\\xf1-\\xf3][\\x80-\\xbf]{3}|" +
    "\\xf4[\\x80-\\x8f][\\x80-\\xbf]{2})|[\\x80-\\xff]",
  "g",
);

class Utf8Encoder {
  encoding = "utf-8";
  encode(text = "") {
    const binary = unescape(encodeURIComponent(String(text).toWellFormed()));
    return Uint8Array.fromBase64(btoa(binary));
  }
}

class Utf8Decoder {
  encoding = "utf-8";
  constructor(label = "utf-8", { fatal = false } = {}) {
    if (!/^utf-?8$/i.test(label)) throw new RangeError(`${label}: only UTF-8 is decoded`);
    this.fatal = fatal;
  }
  decode(source = new Uint8Array()) {
    const bytes = ArrayBuffer.isView(source)
      ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
      : new Uint8Array(source);
    let binary = "";
    for (let at = 0; at < bytes.length; at += LETTERS_AT_ONCE) {
      binary += String.fromCharCode.apply(null, bytes.subarray(at, at + LETTERS_AT_ONCE));
    }
    try {
      return decodeURIComponent(escape(binary));
    } catch {
      if (this.fatal) throw new TypeError("not UTF-8");
    }
    // Each byte that is no part of a letter becomes U+FFFD.
    return decodeURIComponent(escape(binary.replace(UTF8, (_, letter) => letter ?? "\xef\xbf\xbd")));
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
