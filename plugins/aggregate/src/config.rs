//! The configuration and its mistakes.

use std::collections::BTreeMap;

use witgate::prelude::*;
use witgate::setting::Period;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What to ask for, by the name of its member in the document.
    pub(crate) parts: BTreeMap<String, PartConfig>,
    /// Headers of the client that the upstreams get; no others are passed on.
    #[serde(default)]
    pub(crate) pass_headers: Vec<String>,
    /// The member that tells why optional parts are missing.
    #[serde(default = "errors")]
    pub(crate) errors_member: String,
    /// Bytes of all answers together, 3 MiB at most. They are read through in the time of one hook
    /// call: more of them want more `limits.time`.
    #[serde(default = "bytes")]
    pub(crate) max_bytes: u32,
}

/// Beside them stand the document that is made of them and the one before it: all three fit into the
/// memory that an instance has unless told otherwise.
const BYTES_MAX: u32 = 3 << 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartConfig {
    /// The upstream's name.
    pub(crate) upstream: String,
    /// The path and query, with values in braces: `/api/employee/{param:id}`.
    pub(crate) path: String,
    #[serde(default = "get")]
    pub(crate) method: String,
    /// How long to wait, such as `2s`; unless told otherwise the upstream's own time.
    #[serde(default)]
    pub(crate) timeout: Option<Period>,
    /// Whether the document is worth something without this part.
    #[serde(default)]
    pub(crate) optional: bool,
    /// Headers of the call.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.parts.is_empty() {
            return Err("parts: there are none".into());
        }
        if !(1..=BYTES_MAX).contains(&self.max_bytes) {
            return Err(format!("max_bytes: {} is not from 1 to {BYTES_MAX}", self.max_bytes));
        }
        // Of the gateway's own, or such that a part would answer without its document.
        const REFUSED: [&str; 15] = [
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
            "te",
            "upgrade",
            "expect",
            "accept-encoding",
            "range",
            "if-match",
            "if-none-match",
            "if-modified-since",
            "if-unmodified-since",
            "if-range",
            "content-type",
        ];
        let refused = |name: &str| REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(name));
        for name in &self.pass_headers {
            if !witgate::is_header(name) {
                return Err(format!("pass_headers: `{name}` is no header name"));
            }
            if refused(name) {
                return Err(format!("pass_headers: `{name}` is not the client's to say here"));
            }
        }
        let is_member = |name: &str| witgate::is_header(name) && !name.contains(['"', '\\']);
        if !is_member(&self.errors_member) || self.parts.contains_key(&self.errors_member) {
            return Err(format!("errors_member: `{}` is taken or no name", self.errors_member));
        }
        for (name, part) in &self.parts {
            if !is_member(name) {
                return Err(format!("parts: `{name}` is not letters, digits, `-` and `_`"));
            }
            if part.upstream.is_empty() {
                return Err(format!("parts.{name}.upstream: is empty"));
            }
            if !witgate::is_header(&part.method) || part.method == "CONNECT" {
                return Err(format!("parts.{name}.method: `{}` is no method to ask by", part.method));
            }
            if part.method.bytes().any(|byte| byte.is_ascii_lowercase()) {
                let upper = part.method.to_ascii_uppercase();
                return Err(format!("parts.{name}.method: `{}` is not `{upper}`: case counts", part.method));
            }
            for (header, value) in &part.headers {
                if !witgate::is_header(header)
                    || refused(header) && !header.eq_ignore_ascii_case("content-type")
                {
                    return Err(format!("parts.{name}.headers: `{header}` cannot be set"));
                }
                if value.contains(|c: char| c.is_ascii_control()) {
                    return Err(format!("parts.{name}.headers.{header}: has a control character"));
                }
            }
        }
        Ok(())
    }
}

fn get() -> String {
    "GET".into()
}

fn errors() -> String {
    "errors".into()
}

/// What a hook reads in the time that it has unless told otherwise, twice over.
fn bytes() -> u32 {
    512 << 10
}
