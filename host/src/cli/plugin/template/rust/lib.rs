//! Lets only requests with a certain header through, and tells the upstream who sent them.
//!
//! ```yaml
//! plugin: plugin-name
//! config: { header: x-tenant }
//! ```

use witgate::prelude::*;

/// What the upstream learns; whatever a client sends in it is overwritten.
const ADDRESS: &str = "x-client-address";

/// Becomes the schema that `witgate check` and editors show: comments and all.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The header that a request must have.
    header: String,
}

pub struct RequireHeader {
    header: String,
    sent: Read,
    address: Read,
}

impl Policy for RequireHeader {
    type Config = Config;

    /// What is neither read nor written here never reaches the policy, nor leaves it.
    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        if !witgate::is_header(&config.header) {
            return Err(format!("header: `{}` is no header name", config.header));
        }
        plan.write([ADDRESS]);
        Ok(RequireHeader {
            sent: plan.read(&config.header),
            address: plan.read("client:ip"),
            header: config.header,
        })
    }

    /// An `Err` is the policy's own failure (503); to refuse a request is to answer it.
    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        if request.get(self.sent).is_none_or(str::is_empty) {
            let missing = format!("the header `{}` must be sent", self.header);
            let refusal = Reply::problem(400, "A header is missing");
            return Ok(refusal.detail(&missing).into());
        }
        let address = request.get(self.address).ok_or("no address")?;
        Ok(Verdict::proceed().set(ADDRESS, address))
    }
}

// More hooks: override them in the trait, and name them here: `RequireHeader: on_request, on_response`.
witgate::policy!(RequireHeader: on_request);

#[cfg(test)]
mod tests {
    use super::*;
    use witgate::serde_json::json;
    use witgate::testing;

    #[test]
    fn the_header_is_required_and_the_upstream_hears_the_address() {
        let config = json!({ "header": "x-tenant" });
        let policy = testing::policy::<RequireHeader>(config).expect("configured");
        let sent = policy.request([("x-tenant", "blue"), ("client:ip", "192.0.2.7")]);
        assert_eq!(sent.written(ADDRESS), Some("192.0.2.7"));
        for request in [vec![], vec![("x-tenant", "")]] {
            assert_eq!(policy.request(request).status(), Some(400));
        }
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        for (key, value) in [("header", "a b"), ("haeder", "x-tenant")] {
            assert!(testing::policy::<RequireHeader>(json!({ key: value })).is_err());
        }
    }
}
