//! Lets only signed webhooks through: an HMAC over time and body, no older than a window, and each delivery once.

use std::time::Duration;
use witgate::crypto::{self, Digest};
use witgate::metrics::Counter;
use witgate::prelude::*;
use witgate::state::Bucket;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of the secret that the sender signs with.
    secret: String,
    /// How many seconds a timestamp may be away from the gateway's clock.
    #[serde(default = "default_window")]
    #[schemars(range(min = 1, max = 86400))]
    window: u32,
}

fn default_window() -> u32 {
    300
}

pub struct Webhook {
    secret: String,
    window: Duration,
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
        plan.buffer_request_body(65536).write(["x-webhook"]);
        let counter = |outcome| Counter::new("webhook_signatures_total", &[("outcome", outcome)]);
        Ok(Webhook {
            secret: config.secret,
            window: Duration::from_secs(config.window.into()),
            signature: plan.read("x-signature"),
            timestamp: plan.read("x-timestamp"),
            delivery: plan.read("x-delivery"),
            deliveries: Bucket::open("deliveries")?,
            accepted: counter("accepted")?,
            refused: counter("refused")?,
            replayed: counter("replayed")?,
        })
    }

    /// What needs no body is checked before there is one.
    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        // A header that came twice is as good as none.
        let one = |header| request.one(header).ok().flatten().unwrap_or_default();
        let malformed =
            |name| Ok(self.refuse(401, &format!("{name} is missing or malformed"), self.refused).into());
        let Some(signature) = one(self.signature).strip_prefix("sha256=").filter(|hex| is_tag(hex)) else {
            return malformed("x-signature");
        };
        let timestamp = one(self.timestamp);
        // No sign, and no more digits than a clock has: `parse` would take both.
        let is_plain = timestamp.len() <= 12 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let Some(seconds) = timestamp.parse().ok().filter(|_| is_plain) else {
            return malformed("x-timestamp");
        };
        let delivery = one(self.delivery);
        if delivery.is_empty() {
            return malformed("x-delivery");
        }
        let now = Duration::from_millis(witgate::env::unix_millis());
        if now.abs_diff(Duration::from_secs(seconds)) > self.window {
            return Ok(self.refuse(401, "x-timestamp is outside the window", self.refused).into());
        }
        Ok(Verdict::proceed().note(format!("{timestamp}\n{delivery}\n{signature}")))
    }

    fn on_request_body(&self, body: Body) -> Result<BodyVerdict, String> {
        let note = String::from_utf8(body.note).map_err(|error| error.to_string())?;
        let mut parts = note.split('\n');
        let (Some(timestamp), Some(delivery), Some(signature)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("the note is not its own".into());
        };
        let signed = [timestamp.as_bytes(), b".", &body.bytes].concat();
        let tag = crypto::hmac(Digest::Sha256, &self.secret, &signed)?;
        let tag: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        if !crypto::equal(tag.as_bytes(), signature.as_bytes()) {
            return Ok(self.refuse(401, "x-signature does not fit the body", self.refused).into());
        }
        // Kept for as long as the timestamp could still pass: it may come from one window ahead.
        if !self.deliveries.compare_and_set(delivery, None, b"1", Some(2 * self.window)) {
            return Ok(self.refuse(409, "the delivery came before", self.replayed).into());
        }
        self.accepted.increment();
        Ok(BodyVerdict::proceed().note("verified"))
    }

    fn on_response(&self, response: &Response) -> Result<Verdict, String> {
        let is_verified = response.note() == b"verified";
        Ok(if is_verified { Verdict::proceed().set("x-webhook", "verified") } else { Verdict::proceed() })
    }
}

impl Webhook {
    fn refuse(&self, status: u16, detail: &str, counter: Counter) -> Reply {
        witgate::log::info!("refused: {detail}");
        counter.increment();
        Reply::problem(status, "The webhook was refused").detail(detail)
    }
}

fn is_tag(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

witgate::policy!(Webhook: on_request, on_request_body, on_response);
