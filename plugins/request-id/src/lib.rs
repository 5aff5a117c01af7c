//! Gives every request an identifier: upstream in a header, and back to the client in the same.
//!
//! ```yaml
//! plugin: request-id
//! config: { header: x-request-id, trust: false }
//! ```
//!
//! The identifier is the gateway's own, the one of the access log. With `trust: true` a client's
//! takes its place if it is 1 to 128 letters, digits and `-_.:/+=`; anything else is replaced,
//! so that nobody writes into the logs of others. Trust only where all clients are your own.

use witgate::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The header of the identifier, on requests and responses.
    #[serde(default = "header")]
    header: String,
    /// Keep a well-formed identifier that the client sent.
    #[serde(default)]
    trust: bool,
}

pub struct RequestId {
    header: String,
    /// Where the client's identifier is read, if it is trusted.
    sent: Option<Read>,
    id: Read,
    id_of_response: Read<Response>,
}

impl Policy for RequestId {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        if !witgate::is_header(&config.header) {
            return Err(format!("header: `{}` is no header name", config.header));
        }
        plan.write([&config.header]);
        Ok(RequestId {
            sent: config.trust.then(|| plan.read(&config.header)),
            id: plan.read("request:id"),
            id_of_response: plan.read_of_response("request:id"),
            header: config.header,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let sent = self.sent.and_then(|sent| request.get(sent));
        if let Some(sent) = sent.filter(|sent| is_well_formed(sent)) {
            return Ok(Verdict::proceed().note(sent));
        }
        let id = request.get(self.id).ok_or("the request has no identifier")?;
        Ok(Verdict::proceed().set(&self.header, id))
    }

    /// The note is the client's identifier, if that one was kept.
    fn on_response(&self, response: &Response) -> Result<Verdict, String> {
        let id = match response.note() {
            [] => response.get(self.id_of_response).ok_or("the request has no identifier")?,
            kept => std::str::from_utf8(kept).map_err(|error| error.to_string())?,
        };
        Ok(Verdict::proceed().set(&self.header, id))
    }
}

witgate::policy!(RequestId);

fn header() -> String {
    "x-request-id".into()
}

fn is_well_formed(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use witgate::testing;

    fn check(trust: bool, sent: &[(&str, &str)], upstream: Option<&str>, back: &str) {
        let policy = testing::policy::<RequestId>(json!({ "trust": trust })).expect("configured");
        let request = [("request:id", "own")].into_iter().chain(sent.iter().copied());
        assert_eq!(policy.request(request).written("x-request-id"), upstream, "{sent:?}");
        assert_eq!(policy.response([]).written("x-request-id"), Some(back), "{sent:?}");
    }

    #[test]
    fn the_gateways_own_by_default() {
        check(false, &[], Some("own"), "own");
        check(false, &[("x-request-id", "theirs")], Some("own"), "own");
    }

    #[test]
    fn a_trusted_one_stays() {
        check(true, &[("X-Request-Id", "theirs-1")], None, "theirs-1");
        check(true, &[], Some("own"), "own");
    }

    #[test]
    fn an_ill_formed_one_is_replaced() {
        let long = "a".repeat(129);
        for bad in ["", "a b", "a\"b", "é", &long] {
            check(true, &[("x-request-id", bad)], Some("own"), "own");
        }
        check(true, &[("x-request-id", "a"), ("x-request-id", "b")], Some("own"), "own");
    }

    #[test]
    fn a_header_must_be_one() {
        for bad in ["", "x y", "client:ip", "x\n"] {
            assert!(testing::policy::<RequestId>(json!({ "header": bad })).is_err(), "{bad}");
        }
        assert!(testing::policy::<RequestId>(json!({ "headers": "x" })).is_err());
    }
}
