//! Limits how often a client, a consumer, a key or a whole API may be called.
//!
//! ```yaml
//! plugin: rate-limit
//! config: { requests: 100, per: 1m, burst: 20, by: consumer }
//! ```
//!
//! `by` says whose requests are counted together: `client` (the address; of IPv6 the first
//! `ipv6_prefix` bits, 64 unless told otherwise, because one host has that many addresses),
//! `consumer`, `api`, `header:NAME` or `claim:NAME`. A request without the value (no consumer, no
//! such header) is counted by its address instead, so that nobody escapes by leaving it out. A
//! header is the client's own word: only a limit by something that was checked holds back someone
//! who wants to cheat.
//!
//! Responses carry `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers);
//! over the limit the answer is 429 with `Retry-After`. `headers: false` hides the fields, not
//! `Retry-After`.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use witgate::limit::{Limiter, Outcome, Quota};
use witgate::prelude::*;
use witgate::setting::Period;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many requests are allowed in each period.
    #[schemars(range(min = 1))]
    requests: u32,
    /// The period, such as `1m`.
    per: Period,
    /// How many may come at once; as many as `requests` unless told otherwise.
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// Whose requests are counted together: `client`, `consumer`, `api`, `header:NAME`,
    /// `claim:NAME`.
    #[serde(default)]
    by: By,
    /// How many bits of an IPv6 address make a client.
    #[serde(default = "ipv6_prefix")]
    #[schemars(range(min = 1, max = 128))]
    ipv6_prefix: u8,
    /// Whether responses tell the limit and what is left of it.
    #[serde(default = "yes")]
    headers: bool,
    /// The name of the limit in the response's fields.
    #[serde(default = "name")]
    #[schemars(regex(pattern = r"^[a-zA-Z0-9_-]{1,64}$"))]
    name: String,
}

/// Whose requests are counted together.
#[derive(Default, Deserialize)]
#[serde(try_from = "String")]
enum By {
    #[default]
    Client,
    /// The plan's name of the value.
    Value(String),
}

pub struct RateLimit {
    /// By what the operator said, unless that is the address.
    keyed: Option<(Read, Limiter)>,
    /// By address: a limiter of its own, so that no key can be mistaken for an address.
    by_client: Limiter,
    client: Read,
    ipv6_mask: u128,
    /// `RateLimit-Policy`; none if the fields are hidden.
    policy: Option<String>,
    name: String,
    detail: String,
}

impl Policy for RateLimit {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        let Config { requests, per, burst, by, ipv6_prefix, headers, name } = config;
        if requests == 0 || burst == Some(0) {
            return Err("requests, burst: 0 would let nobody in".into());
        }
        if !(1..=128).contains(&ipv6_prefix) {
            return Err(format!("ipv6_prefix: {ipv6_prefix} is not from 1 to 128"));
        }
        // The name becomes a string of structured fields (RFC 9651), where quotes need care.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        {
            return Err(format!("name: `{name}` is not letters, digits, `-` and `_`"));
        }
        let period_millis = per.millis().ok_or("per: longer than 49 days is a quota, not a rate")?;
        let quota = Quota { count: requests, period_millis, burst: burst.unwrap_or(0) };
        let seconds = per.duration().as_millis().div_ceil(1000);
        if headers {
            plan.write([LEFT, POLICY]);
        }
        Ok(RateLimit {
            keyed: match by {
                By::Client => None,
                By::Value(value) => Some((plan.read(value), Limiter::new(&name, quota)?)),
            },
            by_client: Limiter::new(&format!("{name}:client"), quota)?,
            client: plan.read("client:ip"),
            ipv6_mask: u128::MAX << (128 - u32::from(ipv6_prefix)),
            policy: headers.then(|| format!("\"{name}\";q={requests};w={seconds}")),
            detail: format!("{requests} requests are allowed every {}", spoken(per)),
            name,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let outcome = self.check(request);
        if !outcome.allowed {
            return Ok(self.refuse(&outcome).into());
        }
        Ok(match &self.policy {
            Some(_) => Verdict::proceed().note(Left::of(&outcome).to_bytes()),
            None => Verdict::Proceed,
        })
    }

    fn on_response(&self, response: &Response) -> Result<Verdict, String> {
        let left = Left::from_bytes(response.note());
        Ok(match (&self.policy, left) {
            (Some(policy), Some(left)) => {
                Verdict::proceed().set(LEFT, left.field(&self.name)).set(POLICY, policy)
            }
            _ => Verdict::Proceed,
        })
    }
}

witgate::policy!(RateLimit);

const LEFT: &str = "ratelimit";
const POLICY: &str = "ratelimit-policy";

impl RateLimit {
    fn check(&self, request: &Request) -> Outcome {
        if let Some((value, limiter)) = &self.keyed
            && let Some(key) = request.get(*value)
        {
            return limiter.check(key, 1);
        }
        let client = request.get(self.client).unwrap_or("");
        // Most clients have IPv4, where the text is the key.
        match client.contains(':').then(|| client.parse()) {
            Some(Ok(IpAddr::V6(address))) => match address.to_ipv4_mapped() {
                Some(address) => self.by_client.check(&address.to_string(), 1),
                None => {
                    let network = Ipv6Addr::from(u128::from(address) & self.ipv6_mask);
                    self.by_client.check(&network.to_string(), 1)
                }
            },
            _ => self.by_client.check(client, 1),
        }
    }

    fn refuse(&self, outcome: &Outcome) -> Reply {
        // At least one: "now" would be answered with the next 429.
        let seconds = outcome.retry_after_millis.div_ceil(1000).max(1);
        let reply = Reply::problem(429, "Too many requests").detail(&self.detail).retry_after(seconds);
        match &self.policy {
            Some(policy) => reply.header(LEFT, Left::of(outcome).field(&self.name)).header(POLICY, policy),
            None => reply,
        }
    }
}

/// What is left of a limit: the note that travels to the response.
struct Left {
    requests: u32,
    reset_seconds: u32,
}

impl Left {
    fn of(outcome: &Outcome) -> Self {
        Left { requests: outcome.remaining, reset_seconds: outcome.reset_millis.div_ceil(1000) }
    }

    fn to_bytes(&self) -> Vec<u8> {
        [self.requests.to_le_bytes(), self.reset_seconds.to_le_bytes()].concat()
    }

    /// None where this policy left nothing: the request was answered before it ran.
    fn from_bytes(note: &[u8]) -> Option<Self> {
        let (requests, reset) = note.split_first_chunk()?;
        let reset_seconds = u32::from_le_bytes(reset.try_into().ok()?);
        Some(Left { requests: u32::from_le_bytes(*requests), reset_seconds })
    }

    fn field(&self, name: &str) -> String {
        // Two numbers of at most ten digits.
        let mut field = String::with_capacity(name.len() + 28);
        let written = write!(field, "\"{name}\";r={};t={}", self.requests, self.reset_seconds);
        debug_assert!(written.is_ok(), "writing into a string cannot fail");
        field
    }
}

impl TryFrom<String> for By {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            None => match text.as_str() {
                "client" => return Ok(By::Client),
                "consumer" => return Ok(By::Value("consumer:name".into())),
                "api" => return Ok(By::Value("api:name".into())),
                _ => {}
            },
            Some(("header", name)) if witgate::is_header(name) => return Ok(By::Value(name.into())),
            Some(("claim", name)) if !name.is_empty() => return Ok(By::Value(text)),
            Some(_) => {}
        }
        Err(format!("by: `{text}` is not client, consumer, api, header:NAME or claim:NAME"))
    }
}

impl JsonSchema for By {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "By".into()
    }

    fn json_schema(_: &mut witgate::schemars::SchemaGenerator) -> witgate::schemars::Schema {
        let pattern = "^(client|consumer|api|header:.+|claim:.+)$";
        witgate::schemars::json_schema!({ "type": "string", "pattern": pattern, "default": "client" })
    }
}

/// `60 s`: for a problem document.
fn spoken(per: Period) -> String {
    let millis = per.duration().as_millis();
    if millis.is_multiple_of(1000) { format!("{} s", millis / 1000) } else { format!("{millis} ms") }
}

fn ipv6_prefix() -> u8 {
    64
}

fn yes() -> bool {
    true
}

fn name() -> String {
    "default".into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use serde_json::{Value, json};
    use witgate::testing::{self, Harness, Host};

    fn limit(config: Value) -> Harness<RateLimit> {
        testing::policy(config).expect("configured")
    }

    fn allowed(policy: &Harness<RateLimit>, values: &[(&str, &str)]) -> bool {
        policy.request(values.iter().copied()).reply().is_none()
    }

    #[test]
    fn over_the_limit() {
        let host = Host::new();
        let policy = limit(json!({ "requests": 2, "per": "1m" }));
        let client = [("client:ip", "192.0.2.1")];
        policy.request(client);
        let verdict = policy.response([]);
        assert_eq!(verdict.written("ratelimit"), Some("\"default\";r=1;t=30"));
        assert_eq!(verdict.written("ratelimit-policy"), Some("\"default\";q=2;w=60"));
        policy.request(client);
        let verdict = policy.request(client);
        let reply = verdict.reply().expect("refused");
        assert_eq!(reply.status, 429);
        assert_eq!(reply.get("retry-after"), Some("30"));
        assert_eq!(reply.get("ratelimit"), Some("\"default\";r=0;t=60"));
        assert!(allowed(&policy, &[("client:ip", "192.0.2.2")]));
        host.advance(Duration::from_secs(30));
        assert!(allowed(&policy, &client));
        assert!(!allowed(&policy, &client));
    }

    #[test]
    fn hidden_fields_still_limit() {
        let policy = limit(json!({ "requests": 1, "per": "1s", "headers": false }));
        assert_eq!(policy.request([("client:ip", "192.0.2.1")]), Verdict::Proceed);
        assert_eq!(policy.response([]), Verdict::Proceed);
        let verdict = policy.request([("client:ip", "192.0.2.1")]);
        let reply = verdict.reply().expect("refused");
        assert_eq!((reply.status, reply.get("retry-after"), reply.get("ratelimit")), (429, Some("1"), None));
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let policy = limit(json!({ "requests": 1, "per": "1m" }));
        assert!(allowed(&policy, &[("client:ip", "2001:db8:0:1::1")]));
        assert!(!allowed(&policy, &[("client:ip", "2001:db8:0:1:ffff::2")]));
        assert!(allowed(&policy, &[("client:ip", "2001:db8:0:2::1")]));
        assert!(allowed(&policy, &[("client:ip", "192.0.2.1")]));
        assert!(!allowed(&policy, &[("client:ip", "::ffff:192.0.2.1")]));
        let whole = limit(json!({ "requests": 1, "per": "1m", "ipv6_prefix": 128, "name": "whole" }));
        assert!(allowed(&whole, &[("client:ip", "2001:db8:0:1::1")]));
        assert!(allowed(&whole, &[("client:ip", "2001:db8:0:1::2")]));
    }

    #[test]
    fn by_a_value_or_else_by_address() {
        for (by, value) in [
            ("consumer", "consumer:name"),
            ("api", "api:name"),
            ("header:X-Tenant", "x-tenant"),
            ("claim:sub", "claim:sub"),
        ] {
            let _host = Host::new();
            let policy = limit(json!({ "requests": 1, "per": "1m", "by": by }));
            let address = ("client:ip", "192.0.2.1");
            assert!(allowed(&policy, &[(value, "a"), address]), "{by}");
            assert!(!allowed(&policy, &[(value, "a"), ("client:ip", "192.0.2.2")]), "{by}");
            assert!(allowed(&policy, &[(value, "b"), address]), "{by}");
            assert!(allowed(&policy, &[(value, "192.0.2.1"), address]), "a value that looks like an address");
            assert!(allowed(&policy, &[address]), "{by}: no value");
            assert!(!allowed(&policy, &[address]), "{by}: no value, again");
        }
    }

    #[test]
    fn a_burst_is_less_than_the_period_allows() {
        let host = Host::new();
        let policy = limit(json!({ "requests": 60, "per": "1m", "burst": 2 }));
        let client = [("client:ip", "192.0.2.1")];
        assert!(allowed(&policy, &client) && allowed(&policy, &client) && !allowed(&policy, &client));
        host.advance(Duration::from_secs(1));
        assert!(allowed(&policy, &client) && !allowed(&policy, &client));
    }

    #[test]
    fn a_response_to_somebody_elses_answer_is_left_alone() {
        let policy = limit(json!({ "requests": 1, "per": "1m" }));
        assert_eq!(policy.response([]), Verdict::Proceed);
    }

    #[test]
    fn mistakes() {
        for bad in [
            json!({}),
            json!({ "requests": 0, "per": "1m" }),
            json!({ "requests": -1, "per": "1m" }),
            json!({ "requests": 1, "per": "1 minute" }),
            json!({ "requests": 1, "per": "50d" }),
            json!({ "requests": 1, "per": "1m", "burst": 0 }),
            json!({ "requests": 1, "per": "1m", "by": "ip" }),
            json!({ "requests": 1, "per": "1m", "by": "header:" }),
            json!({ "requests": 1, "per": "1m", "by": "header:a b" }),
            json!({ "requests": 1, "per": "1m", "ipv6_prefix": 0 }),
            json!({ "requests": 1, "per": "1m", "ipv6_prefix": 129 }),
            json!({ "requests": 1, "per": "1m", "name": "a\"b" }),
            json!({ "requests": 1, "per": "1m", "limit": 1 }),
        ] {
            assert!(testing::policy::<RateLimit>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_schema_says_what_is_required() {
        let schema = testing::schema::<RateLimit>();
        assert_eq!(schema["required"], json!(["requests", "per"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["requests"]["minimum"], json!(1));
    }
}
