//! Lets only requests with a certain header through, and tells the upstream who sent them.
//!
//! ```yaml
//! plugin: plugin-name
//! config: { header: x-tenant }
//! ```

wit_bindgen::generate!({ path: "wit", world: "request-policy" });

use serde::Deserialize;
use witgate::policy::plan;
use witgate::policy::types::{Edit, Reply};

/// What the upstream learns; whatever a client sends in it is overwritten.
const ADDRESS: &str = "x-client-address";

#[derive(Deserialize)]
struct Config {
    header: String,
}

struct Policy;

impl Guest for Policy {
    /// Checked before `configure`, and shown by editors.
    fn config_schema() -> String {
        r#"{
            "type": "object",
            "properties": {
                "header": { "type": "string", "description": "The header that a request must have." }
            },
            "required": ["header"],
            "additionalProperties": false
        }"#
        .into()
    }

    /// What is neither read nor written here never reaches the policy, nor leaves it.
    fn configure(config: String) -> Result<(), String> {
        let Config { header } = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        if !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(format!("header: `{header}` is no header name"));
        }
        plan::request_reads(&[header, "client:ip".into()]);
        plan::writes(&[ADDRESS.into()]);
        Ok(())
    }

    /// An `Err` is the policy's own failure (503); to refuse a request is to respond.
    fn on_request(values: Vec<Option<String>>) -> Result<Verdict, String> {
        let mut values = values.into_iter().map(Option::unwrap_or_default);
        let (sent, address) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
        if sent.is_empty() {
            return Ok(Verdict::Respond(Reply {
                status: 400,
                headers: vec![("content-type".into(), "application/problem+json".into())],
                body: br#"{"title":"A header is missing","status":400}"#.into(),
            }));
        }
        Ok(Verdict::Amend(vec![Edit::Set((ADDRESS.into(), address))]))
    }
}

export!(Policy);
