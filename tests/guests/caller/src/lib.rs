//! A policy that calls upstreams, as its configuration tells it, and puts what they said into its
//! answer: `{"calls": [{"upstream": "a", "path": "/x"}], "together": true}`.
//!
//! Loaded by the end-to-end tests as a real component, written on the bare contract. Apart from
//! `probe`, because a component that imports `http-client` runs asynchronously in the gateway.

use serde::Deserialize;
use std::sync::OnceLock;

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "witgate:policy/callout-policy",
        generate_all,
        pub_export_macro: true,
    });
}

use bindings::witgate::policy::http_client::{self, FetchError, FetchRequest, FetchResponse};
use bindings::witgate::policy::plan;
use bindings::witgate::policy::types::{Edit, Reply};
use bindings::{Values, Verdict};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    calls: Vec<Call>,
    /// All at once by `fetch-all`, else one after another by `fetch`.
    #[serde(default)]
    together: bool,
    /// Go on to the upstream with `x-fetched` instead of answering.
    #[serde(default)]
    amend: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    upstream: String,
    path: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    #[serde(default)]
    timeout_millis: u32,
}

static CONFIG: OnceLock<Config> = OnceLock::new();

struct Caller;

impl bindings::Guest for Caller {
    fn config_schema() -> String {
        String::new()
    }

    fn configure(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        plan::writes(&["x-fetched".to_string()]);
        CONFIG.set(config).map_err(|_| "configured twice".into())
    }

    fn on_request(_values: Values) -> Result<Verdict, String> {
        let config = CONFIG.get().ok_or("not configured")?;
        let requests: Vec<FetchRequest> = config.calls.iter().map(request).collect();
        let answers = if config.together {
            http_client::fetch_all(&requests)
        } else {
            requests.iter().map(http_client::fetch).collect()
        };
        let told: Vec<String> = answers.into_iter().map(tell).collect();
        if config.amend {
            return Ok(Verdict::Amend(vec![Edit::Set(("x-fetched".into(), told.join(";")))]));
        }
        Ok(Verdict::Respond(Reply {
            status: 200,
            headers: vec![("content-type".into(), "text/plain".into())],
            body: told.join(";").into_bytes(),
        }))
    }

    fn on_response(_values: Values, _note: Vec<u8>) -> Result<Verdict, String> {
        Ok(Verdict::Proceed)
    }
}

fn request(call: &Call) -> FetchRequest {
    FetchRequest {
        upstream: call.upstream.clone(),
        method: call.method.clone().unwrap_or_else(|| "GET".into()),
        path: call.path.clone(),
        headers: call.headers.clone(),
        body: call.body.clone().into_bytes(),
        timeout_millis: call.timeout_millis,
    }
}

fn tell(answer: Result<FetchResponse, FetchError>) -> String {
    match answer {
        Ok(response) => format!("{} {}", response.status, String::from_utf8_lossy(&response.body)),
        Err(error) => match error {
            FetchError::NotGranted => "not-granted",
            FetchError::NoHealthyEndpoint => "no-healthy-endpoint",
            FetchError::Timeout => "timeout",
            FetchError::Connect => "connect",
            FetchError::Protocol => "protocol",
            FetchError::TooLarge => "too-large",
        }
        .to_string(),
    }
}

#[expect(unsafe_code, reason = "generated exports")]
mod exports {
    use super::{Caller, bindings};
    bindings::export!(Caller with_types_in bindings);
}
