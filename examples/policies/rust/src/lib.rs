//! Lets a webhook through if its signature is right, its time is now and its delivery is new.
//!
//! The sender signs `TIMESTAMP.BODY` with a secret that both know (HMAC-SHA256), and names each
//! delivery.

use std::time::Duration;
use witgate::crypto::{self, Digest};
use witgate::metrics::Counter;
use witgate::prelude::*;
use witgate::state::Bucket;
use witgate::{Body, BodyVerdict, Response, env, log};

const BODY_BYTES: u32 = 65_536;
const VERIFIED: &[u8] = b"verified";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of the secret.
    secret: String,
    /// Seconds.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    window: u32,
}

fn five_minutes() -> u32 {
    300
}

pub struct Webhook {
    config: Config,
    signature: Read,
    timestamp: Read,
    delivery: Read,
    deliveries: Bucket,
    accepted: Counter,
    refused: Counter,
    replayed: Counter,
}

impl Policy for Webhook {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        let counter = |outcome| Counter::new("webhook_signatures_total", &[("outcome", outcome)]);
        plan.buffer_request_body(BODY_BYTES).write(["x-webhook"]);
        Ok(Webhook {
            config,
            signature: plan.read("x-signature"),
            timestamp: plan.read("x-timestamp"),
            delivery: plan.read("x-delivery"),
            deliveries: Bucket::open("deliveries")?,
            accepted: counter("accepted")?,
            refused: counter("refused")?,
            replayed: counter("replayed")?,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let Some(signature) = request.get(self.signature).and_then(signature) else {
            return Ok(self.refuse("x-signature is missing or malformed").into());
        };
        let Some((timestamp, seconds)) = request.get(self.timestamp).and_then(seconds) else {
            return Ok(self.refuse("x-timestamp is missing or malformed").into());
        };
        let Some(delivery) = request.get(self.delivery).filter(|delivery| is_id(delivery)) else {
            return Ok(self.refuse("x-delivery is missing or malformed").into());
        };
        if seconds.abs_diff(env::unix_time().as_secs()) > u64::from(self.config.window) {
            return Ok(self.refuse("x-timestamp is too far from now").into());
        }
        Ok(Verdict::proceed().note(format!("{timestamp}\n{delivery}\n{signature}")))
    }

    fn on_request_body(&self, body: Body) -> Result<BodyVerdict, String> {
        let note = String::from_utf8(body.note).map_err(|error| error.to_string())?;
        let mut noted = note.split('\n');
        let (Some(timestamp), Some(delivery), Some(signature)) = (noted.next(), noted.next(), noted.next())
        else {
            return Err("no note".into());
        };
        let message = [timestamp.as_bytes(), b".", &body.bytes].concat();
        let expected = crypto::hmac(Digest::Sha256, &self.config.secret, &message)?;
        let expected: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        if !crypto::equal(expected.as_bytes(), signature.as_bytes()) {
            return Ok(BodyVerdict::respond(self.refuse("the signature is not that of the body")));
        }
        let forgotten = Duration::from_secs(2 * u64::from(self.config.window));
        if !self.deliveries.compare_and_set(delivery, None, b"1", Some(forgotten)) {
            self.replayed.increment();
            return Ok(BodyVerdict::respond(refusal(409, "this delivery was seen before")));
        }
        self.accepted.increment();
        Ok(BodyVerdict::proceed().note(VERIFIED))
    }

    fn on_response(&self, response: &Response) -> Result<Verdict, String> {
        match response.note() == VERIFIED {
            true => Ok(Verdict::proceed().set("x-webhook", "verified")),
            false => Ok(Verdict::Proceed),
        }
    }
}

impl Webhook {
    fn refuse(&self, detail: &str) -> Reply {
        self.refused.increment();
        refusal(401, detail)
    }
}

fn refusal(status: u16, detail: &str) -> Reply {
    log::info!("refused: {detail}");
    Reply::problem(status, "The webhook was refused").detail(detail)
}

/// The digits of `sha256=HEX`.
fn signature(value: &str) -> Option<&str> {
    let digits = value.strip_prefix("sha256=").filter(|digits| digits.len() == 64)?;
    digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)).then_some(digits)
}

fn seconds(value: &str) -> Option<(&str, u64)> {
    let is_number = value.len() <= 12 && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().ok()).flatten().map(|seconds| (value, seconds))
}

fn is_id(value: &str) -> bool {
    (1..=64).contains(&value.len())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

witgate::policy!(Webhook: on_request, on_request_body, on_response);
