//! Warns of chains that are legal but foolish, by the names of well-known plugins.
//!
//! Looks at each effective chain, that is, an API's and its operations'. Refuses nothing: whoever
//! put a plugin of the same name in the place of ours may know better.

use std::collections::HashSet;

use super::super::diagnostic::{Diagnostic, Report};
use super::super::model::{At, Config, Link, Policy};

/// Plugins after which the caller is known.
const AUTHENTICATING: [&str; 5] = ["jwt", "api-key", "basic-auth", "oidc", "hmac"];

pub(super) fn advise(config: &Config, report: &mut Report) {
    // An API's chain is part of each of its operations'.
    let mut said = HashSet::new();
    for api in &config.apis {
        let mut chains = Vec::new();
        if !api.operations_only {
            chains.push(api.chain.iter().collect::<Vec<_>>());
        }
        for operation in &api.operations {
            let inherited = if operation.inherit { api.chain.as_slice() } else { &[] };
            chains.push(inherited.iter().chain(&operation.chain).collect());
        }
        for chain in chains {
            for (at, message, expected) in foolish(config, &chain) {
                if said.insert((at.line, at.column, message)) {
                    report.push(Diagnostic::warning(&at, message).expecting(expected));
                }
            }
        }
    }
}

fn foolish(config: &Config, chain: &[&Link]) -> Vec<(At, &'static str, &'static str)> {
    let mut found = Vec::new();
    let mut known = false;
    for link in chain {
        let (at, policy) = match link {
            Link::Named { at, policy } => match config.policies.get(*policy) {
                Some(policy) => (at, policy),
                None => continue,
            },
            Link::InPlace(policy) => (&policy.at, policy),
        };
        if AUTHENTICATING.contains(&policy.plugin.as_str()) {
            known = true;
        } else if known && policy.plugin == "cors" {
            let message = "`cors` after authentication: browsers send preflights without credentials, and they would be refused";
            found.push((at.clone(), message, "`cors` before the policies that authenticate"));
        } else if !known && counts_by_consumer(policy) {
            let message = "counts by consumer before any policy says who the consumer is: all callers would share one counter";
            found.push((at.clone(), message, "`jwt`, `api-key` or the like before it"));
        } else if !known && policy.plugin == "cache" && chain.iter().any(|link| authenticates(config, link)) {
            let message = "`cache` before authentication: answers would go to callers who may not have them";
            found.push((at.clone(), message, "`cache` after the policies that authenticate"));
        }
    }
    found
}

fn counts_by_consumer(policy: &Policy) -> bool {
    policy.plugin == "rate-limit" && policy.config.get("by").and_then(|by| by.as_str()) == Some("consumer")
}

fn authenticates(config: &Config, link: &Link) -> bool {
    let policy = match link {
        Link::Named { policy, .. } => config.policies.get(*policy),
        Link::InPlace(policy) => Some(policy),
    };
    policy.is_some_and(|policy| AUTHENTICATING.contains(&policy.plugin.as_str()))
}
