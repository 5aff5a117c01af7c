//! What a policy may use beyond the message: what the operator wrote down, and nothing else.
//!
//! A name counts as granted if the policy's own configuration has it as a whole value, or `allow`
//! lists it. Secrets are looked up here; only granted ones ever reach the runtime.

use crate::config::model::{Config, Policy};
use crate::plugin::policy::{Grants, SecretBytes};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

pub fn of(policy: &Policy, config: &Config, base: &Path) -> Grants {
    let mut named = BTreeSet::new();
    strings(&policy.config, &mut named);
    let granted = |allowed: &[String]| named.iter().chain(allowed).cloned().collect::<BTreeSet<_>>();
    let of_kind = |allowed: &[String], is: &dyn Fn(&str) -> bool| {
        granted(allowed).into_iter().filter(|name| is(name)).collect::<BTreeSet<_>>()
    };
    let secrets = granted(&policy.allow.secrets);
    Grants {
        upstreams: of_kind(&policy.allow.upstreams, &|name| config.upstreams.iter().any(|u| u.name == name)),
        buckets: granted(&policy.allow.buckets),
        urls: of_kind(&policy.allow.urls, &|name| {
            name.starts_with("https://") || name.starts_with("http://")
        }),
        files: granted(&policy.allow.files),
        secrets: config
            .secrets
            .iter()
            .filter(|secret| secrets.contains(&secret.name))
            .map(|secret| (secret.name.clone(), SecretBytes(secret.value.reveal().as_bytes().into())))
            .collect(),
        writes: policy.allow.writes.as_ref().map(|names| names.iter().map(|n| n.to_lowercase()).collect()),
        base: base.to_path_buf(),
    }
}

fn strings(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(into.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| strings(value, into)),
        Value::Object(fields) => fields.values().for_each(|value| strings(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
