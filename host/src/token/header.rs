//! The outer form of a compact JWS: three parts, and what its header says.
//!
//! Used by `verifier` before any crypto. Takes only `alg` and `kid` from a header; keys and
//! links to keys in it (`jwk`, `jku`, `x5c`, `x5u`) are never looked at (RFC 8725 3.10).
//!
//! Read here rather than by `jsonwebtoken::decode_header`, which parses a key that a token brings
//! along, takes `"crit": null` for no `crit`, keeps the last of repeated names that it does not
//! know, `b64` among them, and cannot tell an algorithm that it does not know from no header.

use super::TokenFault;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// Twice what servers accept as one header field by default; a longer token has not come in one.
const TOKEN_BYTES_MAX: usize = 16 << 10;

pub(super) struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    /// Still in base64url.
    pub(super) signature: &'a str,
    /// Header and payload with the dot between: what is signed.
    pub(super) message: &'a str,
}

#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    pub(super) kid: Option<String>,
    /// Extensions that must be understood, of which we understand none; an empty list is wrong
    /// too (RFC 7515 4.1.11).
    #[serde(default)]
    crit: Present,
    /// Changes what is signed (RFC 7797).
    #[serde(default)]
    b64: Present,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Present {
    #[default]
    No,
    Yes,
}

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Present, D::Error> {
        // Whatever its value is, also null.
        IgnoredAny::deserialize(deserializer).map(|_| Present::Yes)
    }
}

impl<'a> Parts<'a> {
    /// Looks at no more than the length and the dots: what is not a token at all costs nothing.
    pub(super) fn split(token: &'a str) -> Result<Parts<'a>, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::Malformed);
        }
        let (header, rest) = token.split_once('.').ok_or(TokenFault::Malformed)?;
        let (payload, signature) = rest.split_once('.').ok_or(TokenFault::Malformed)?;
        let whole = !header.is_empty() && !payload.is_empty() && !signature.is_empty();
        if !whole || signature.contains('.') {
            return Err(TokenFault::Malformed);
        }
        let message = &token[..header.len() + 1 + payload.len()];
        Ok(Parts { header, payload, signature, message })
    }

    pub(super) fn header(&self) -> Result<Header, TokenFault> {
        // A repeated `alg`, `kid`, `crit` or `b64` is an error of serde's (RFC 7515 4).
        let header: Header =
            serde_json::from_slice(&decode(self.header)?).map_err(|_| TokenFault::Malformed)?;
        if header.crit == Present::Yes || header.b64 == Present::Yes {
            return Err(TokenFault::Malformed);
        }
        Ok(header)
    }

    pub(super) fn payload(&self) -> Result<String, TokenFault> {
        String::from_utf8(decode(self.payload)?).map_err(|_| TokenFault::Malformed)
    }
}

/// Without padding, line breaks or stray last bits: a token has one spelling.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(json: &str) -> Result<Header, TokenFault> {
        let token = format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(json));
        Parts::split(&token)?.header()
    }

    #[test]
    fn three_parts_and_no_more() {
        for bad in ["", ".", "..", "a.b", "a.b.", ".b.c", "a..c", "a.b.c.d", "a.b.c.", &".".repeat(60_000)] {
            assert!(Parts::split(bad).is_err(), "{bad:.20}");
        }
        assert!(Parts::split(&format!("a.{}.c", "b".repeat(TOKEN_BYTES_MAX))).is_err());
        let parts = Parts::split("ab.cd.ef").unwrap();
        assert_eq!((parts.message, parts.signature), ("ab.cd", "ef"));
    }

    #[test]
    fn extensions_are_refused_whatever_they_are() {
        assert_eq!(header(r#"{"alg":"HS256","kid":"a","typ":"JWT"}"#).unwrap().kid.as_deref(), Some("a"));
        for bad in [
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":null}"#,
            r#"{"alg":"HS256","b64":false}"#,
            r#"{"alg":"HS256","b64":true}"#,
            r#"{"alg":"none","alg":"HS256"}"#,
            r#"{"alg":"HS256","kid":"a","kid":"b"}"#,
            r#"{"alg":"HS256","kid":{}}"#,
            r#"{"alg":7}"#,
            r#"{}"#,
            r#"[]"#,
            "",
        ] {
            assert!(header(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_part_has_one_spelling() {
        for bad in ["AB", "AA==", "A A", "@@@", "A", "AA\n"] {
            assert!(decode(bad).is_err(), "{bad:?}");
        }
        assert!(decode("AA").is_ok());
    }
}
