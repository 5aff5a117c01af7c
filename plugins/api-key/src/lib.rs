//! Identifies consumers by the subscription keys that the gateway knows.
//!
//! ```yaml
//! plugin: api-key
//! config: { header: Ocp-Apim-Subscription-Key, query: subscription-key, optional: false }
//! ```
//!
//! The key is taken from the header, else from the query parameter; `query: ""` takes none from
//! the query. It must be a key of a subscription to a product that contains the API; then
//! `consumer:name` and `product:name` are known from here on. The key is never passed on: not in
//! the header, not in the query, under no spelling of the parameter's name.
//!
//! 401: no key, or one that nobody has; 403: the subscription is suspended, over, or to another
//! product; 429: the product's quota is used up. With `optional: true` a request without a key
//! goes on unnamed; a wrong key is refused all the same.

use witgate::consumers::{self, Refusal};
use witgate::prelude::*;
use witgate::uri;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The header of the key.
    #[serde(default = "header")]
    header: String,
    /// The query parameter of the key; empty: none.
    #[serde(default = "query")]
    query: String,
    /// Let requests without a key pass.
    #[serde(default)]
    optional: bool,
}

pub struct ApiKey {
    header: String,
    optional: bool,
    header_key: Read,
    parameter: Option<Parameter>,
    challenge: String,
}

struct Parameter {
    name: String,
    key: Read,
    query: Read,
}

impl Policy for ApiKey {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        let Config { header, query: parameter, optional } = config;
        if !witgate::is_header(&header) {
            return Err(format!("header: `{header}` is no header name"));
        }
        plan.write([&header]);
        let challenge = format!("ApiKey realm=\"api\", name=\"{header}\", in=\"header\"");
        let header_key = plan.read(&header);
        let parameter = (!parameter.is_empty()).then(|| {
            plan.write([":query"]);
            Parameter {
                key: plan.read(format!("query:{parameter}")),
                query: plan.read(":query"),
                name: parameter,
            }
        });
        Ok(ApiKey { header, optional, header_key, parameter, challenge })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let in_header = request.get(self.header_key);
        let key = in_header.or_else(|| request.get(self.parameter.as_ref()?.key));
        let Some(key) = key else {
            if self.optional {
                return Ok(Verdict::Proceed);
            }
            return Ok(self.unauthorized("A subscription key is missing").into());
        };
        // Two keys, joined by a newline, are no key either.
        if key.is_empty() || key.contains('\n') {
            return Ok(self.unauthorized("The subscription key is not valid").into());
        }
        if let Err(refusal) = consumers::identify_by_key(key) {
            return Ok(self.refuse(refusal).into());
        }
        let mut verdict = Verdict::proceed();
        if in_header.is_some() {
            verdict = verdict.remove(&self.header);
        }
        if let Some(parameter) = &self.parameter
            && let Some(query) = request.get(parameter.query)
            && let Some(rest) = uri::query_without(query, &parameter.name)
        {
            verdict = verdict.set(":query", rest);
        }
        Ok(verdict)
    }
}

witgate::policy!(ApiKey: on_request);

impl ApiKey {
    fn refuse(&self, refusal: Refusal) -> Reply {
        let (status, title) = match refusal {
            Refusal::Unknown => return self.unauthorized("The subscription key is not valid"),
            Refusal::Suspended => (403, "The subscription is suspended"),
            Refusal::Expired => (403, "The subscription has expired"),
            Refusal::NotSubscribed => (403, "The subscription does not include this API"),
            Refusal::QuotaExceeded => (429, "The quota of the subscription is used up"),
        };
        let reply = Reply::problem(status, title);
        match refusal {
            Refusal::QuotaExceeded => reply.retry_after(consumers::retry_after()),
            _ => reply,
        }
    }

    fn unauthorized(&self, title: &str) -> Reply {
        Reply::problem(401, title).header("www-authenticate", &self.challenge)
    }
}

fn header() -> String {
    "Ocp-Apim-Subscription-Key".into()
}

fn query() -> String {
    "subscription-key".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use witgate::testing::{self, Harness, Host};

    const HEADER: &str = "ocp-apim-subscription-key";

    fn host() -> Host {
        Host::new()
            .consumer_key("good", "mobile-app", Some("starter"))
            .refused_key("suspended", Refusal::Suspended)
            .refused_key("expired", Refusal::Expired)
            .refused_key("elsewhere", Refusal::NotSubscribed)
            .refused_key("used-up", Refusal::QuotaExceeded)
    }

    fn api_key(config: serde_json::Value) -> Harness<ApiKey> {
        testing::policy(config).expect("configured")
    }

    #[test]
    fn a_key_in_the_header_is_not_passed_on() {
        let _host = host();
        let verdict = api_key(json!({})).request([(HEADER, "good")]);
        assert_eq!(verdict, Verdict::proceed().remove("Ocp-Apim-Subscription-Key"));
    }

    #[test]
    fn a_key_in_the_query_is_not_passed_on() {
        let _host = host();
        let policy = api_key(json!({}));
        let verdict = policy
            .request([("query:subscription-key", "good"), (":query", "a=1&subscription%2Dkey=good&b=2")]);
        assert_eq!(verdict, Verdict::proceed().set(":query", "a=1&b=2"));
        let both = [(HEADER, "good"), ("query:subscription-key", "x"), (":query", "subscription-key=x")];
        let verdict = policy.request(both);
        assert!(verdict.removes(HEADER));
        assert_eq!(verdict.written(":query"), Some(""));
    }

    #[test]
    fn refusals() {
        let _host = host();
        let policy = api_key(json!({}));
        for (key, status) in [
            ("nobodys", 401),
            ("", 401),
            ("suspended", 403),
            ("expired", 403),
            ("elsewhere", 403),
            ("used-up", 429),
        ] {
            let verdict = policy.request([(HEADER, key)]);
            let reply = verdict.reply().expect("refused");
            assert_eq!(reply.status, status, "{key}");
            assert_eq!(reply.get("www-authenticate").is_some(), status == 401, "{key}");
            assert_eq!(reply.get("retry-after").is_some(), status == 429, "{key}");
        }
        assert_eq!(policy.request([]).status(), Some(401));
        assert_eq!(policy.request([(HEADER, "good"), (HEADER, "good")]).status(), Some(401));
    }

    #[test]
    fn an_optional_key_is_still_checked() {
        let _host = host();
        let policy = api_key(json!({ "optional": true }));
        assert_eq!(policy.request([]), Verdict::Proceed);
        assert_eq!(policy.request([(HEADER, "nobodys")]).status(), Some(401));
    }

    #[test]
    fn without_a_parameter_the_query_is_not_even_read() {
        let policy = api_key(json!({ "query": "", "header": "x-key" }));
        assert_eq!(policy.plan().request_reads, ["x-key"]);
        assert_eq!(policy.plan().writes, ["x-key"]);
    }

    #[test]
    fn mistakes() {
        for bad in [json!({ "header": "" }), json!({ "header": "a b" }), json!({ "keys": ["x"] })] {
            assert!(testing::policy::<ApiKey>(bad.clone()).is_err(), "{bad}");
        }
    }
}
