//! The demo's own policy: lets only well-formed tail numbers through to the flight logs, and
//! tells the upstream where the aircraft is registered.
//!
//! ```yaml
//! plugin: tail-number
//! config: { parameter: tail, registries: { D: Germany, N: United States } }
//! ```
//!
//! A request without the parameter passes. A tail number of no listed registry, or one that
//! cannot be, gets 400.

use std::collections::BTreeMap;

use witgate::prelude::*;

/// The header that tells the registry; what a client sends in it is overwritten.
const REGISTRY: &str = "x-aircraft-registry";
/// `D-AIBC`, `N123AB`: no registry has longer ones.
const LENGTH_MAX: usize = 8;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The query parameter that holds the tail number.
    parameter: String,
    /// Registries by their prefix.
    registries: BTreeMap<String, String>,
}

pub struct TailNumber {
    tail: Read,
    registries: BTreeMap<String, String>,
}

impl Policy for TailNumber {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        if config.registries.is_empty() {
            return Err("registries: there are none, so that no aircraft could be asked for".into());
        }
        plan.write([REGISTRY]);
        let tail = plan.read(format!("query:{}", config.parameter));
        Ok(TailNumber { tail, registries: config.registries })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let Some(tail) = request.get(self.tail) else {
            return Ok(Verdict::proceed().remove(REGISTRY));
        };
        match self.registry(tail) {
            Some(registry) => Ok(Verdict::proceed().set(REGISTRY, registry)),
            None => {
                let listed: Vec<&str> = self.registries.keys().map(String::as_str).collect();
                let known = format!("it must begin with one of {}", listed.join(", "));
                Ok(Reply::problem(400, "That is no tail number we know").detail(&known).into())
            }
        }
    }
}

witgate::policy!(TailNumber: on_request);

impl TailNumber {
    fn registry(&self, tail: &str) -> Option<&str> {
        if tail.len() > LENGTH_MAX {
            return None;
        }
        self.registries.iter().find_map(|(prefix, name)| {
            let mark = tail.strip_prefix(prefix.as_str())?.trim_start_matches('-');
            let well_formed = mark.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
            (well_formed && mark.len() >= 2).then_some(name.as_str())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use witgate::testing::{Harness, policy};

    fn tail_number() -> Harness<TailNumber> {
        let registries = json!({ "D": "Germany", "N": "United States" });
        policy(json!({ "parameter": "tail", "registries": registries })).expect("configured")
    }

    #[test]
    fn the_upstream_hears_of_the_registry() {
        let policy = tail_number();
        for (tail, registry) in [("D-AIBC", "Germany"), ("N123AB", "United States"), ("N42", "United States")]
        {
            assert_eq!(policy.request([("query:tail", tail)]).written(REGISTRY), Some(registry), "{tail}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let policy = tail_number();
        for tail in ["", "N", "N1", "X-AAAA", "d-aibc", "D-AI BC", "N123ABCDEF", "N12\nN34", "DÄÄ"] {
            assert_eq!(policy.request([("query:tail", tail)]).status(), Some(400), "{tail:?}");
        }
    }

    #[test]
    fn without_a_tail_number_nobody_names_a_registry() {
        assert!(tail_number().request([(REGISTRY, "Atlantis")]).removes(REGISTRY));
    }

    #[test]
    fn a_configuration_without_registries_is_refused() {
        assert!(policy::<TailNumber>(json!({ "parameter": "tail", "registries": {} })).is_err());
        assert!(policy::<TailNumber>(json!({ "parameter": "tail" })).is_err());
    }
}
