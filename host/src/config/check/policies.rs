//! Checks `policies` and the chains that name them or hold policies in place.

use std::sync::Arc;
use std::time::Duration;

use super::super::diagnostic::Diagnostic;
use super::super::model::{Allow, Isolation, Link, OnError, Policy, PolicyLimits};
use super::super::source::{Positions, Value};
use super::super::units;
use super::keys;
use super::reader::{Field, Names, Reader, Table, quoted};

/// Names of the things that policies and chains refer to.
pub(super) struct Declared<'s> {
    pub(super) upstreams: Names<'s>,
    pub(super) policies: Names<'s>,
    pub(super) secrets: Names<'s>,
}

/// Policies in a chain, of which an operation's request passes two: more would be a mistake of a
/// generator, and each costs every request.
const CHAIN_MAX: usize = 100;

/// The policies that ship with the gateway, to tell one from a named policy that does not exist.
const FIRST_PARTY: [&str; 8] =
    ["jwt", "api-key", "rate-limit", "header-rewrite", "aggregate", "cors", "ip-filter", "request-id"];

/// One policy per name, in the file's order: links refer to them by that order, so a name whose
/// policy is wrong still has its place.
pub(super) fn policies<'s>(
    reader: &mut Reader<'s>,
    root: &Table<'s>,
    declared: &Declared<'_>,
) -> Vec<Policy> {
    let mut policies = Vec::new();
    for (name, field) in reader.named(root, "policies") {
        if let Some(policy) = policy(reader, &field, Some(name), declared) {
            policies.push(policy);
        }
    }
    policies
}

fn policy<'s>(
    reader: &mut Reader<'s>,
    field: &Field<'s>,
    name: Option<String>,
    declared: &Declared<'_>,
) -> Option<Policy> {
    let table = reader.table(field, &keys::POLICY)?;
    let at = reader.at_place(table.place, &table.path);
    let plugin = plugin(reader, &table);
    let mut config = serde_json::Value::Object(Default::default());
    let mut config_at = at.clone();
    let mut positions = Positions::none(reader.source.file.clone());
    if let Some(field) = table.get("config") {
        if field.is_map() {
            config = field.node.to_json();
            config_at = reader.at(&field);
            positions = Positions::of(reader.source, field.node, &field.path);
        } else {
            reader.wrong_kind(&field, "a map");
        }
    }
    let on_error = [("deny", Some(OnError::Deny)), ("skip", Some(OnError::Skip))];
    let isolation = [("reuse", Isolation::Reuse), ("request", Isolation::Request)];
    Some(Policy {
        at,
        name,
        plugin,
        config_at,
        config,
        config_positions: Arc::new(positions),
        on_error: reader.word(&table, "on_error", None, &on_error),
        isolation: reader.word(&table, "isolation", Isolation::Reuse, &isolation),
        limits: policy_limits(reader, &table),
        allow: allow(reader, &table, declared),
    })
}

fn plugin<'s>(reader: &mut Reader<'s>, table: &Table<'s>) -> String {
    let Some(field) = table.get("plugin") else {
        reader.missing(table, "plugin", "the name of a plugin, such as `jwt`");
        return String::new();
    };
    let Some(text) = reader.text(&field) else { return String::new() };
    if let Some(stem) = text.reveal().strip_suffix(".wasm") {
        reader.error(&field, format!("{} is a file name", quoted(text.written())), &format!("`{stem}`"));
        return String::new();
    }
    reader.unit(&field, units::name).unwrap_or_default()
}

/// `limits` of a policy, or of `plugins` for all of them.
pub(super) fn policy_limits<'s>(reader: &mut Reader<'s>, table: &Table<'s>) -> PolicyLimits {
    let Some(table) = reader.table_at(table, "limits", &keys::POLICY_LIMITS) else {
        return PolicyLimits::default();
    };
    let time = table.get("time").and_then(|field| {
        let time = reader.unit(&field, units::duration)?;
        // A hook holds its worker: above a second the gateway would seem dead.
        if (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&time) {
            return Some(time);
        }
        let message = format!("{} is out of range", reader.shown(&field));
        reader.error(&field, message, "1ms to 10s");
        None
    });
    let instances = table.get("instances").and_then(|field| reader.whole_number(&field, 1..=1024));
    PolicyLimits {
        // A page at least; 4 GiB is all that a 32-bit guest can name.
        memory: reader.bytes(&table, "memory", 64 << 10..=4 << 30),
        time,
        instances: instances.and_then(|number| u32::try_from(number).ok()),
    }
}

fn allow<'s>(reader: &mut Reader<'s>, policy: &Table<'s>, declared: &Declared<'_>) -> Allow {
    let Some(table) = reader.table_at(policy, "allow", &keys::ALLOW) else { return Allow::default() };
    let text = |text: &str| units::label(text);
    let writes = table.get("writes").map(|_| {
        // An empty list is a grant of nothing.
        let fields = reader.list(&table, "writes").unwrap_or_default();
        fields.iter().filter_map(|field| reader.unit(field, text)).collect()
    });
    Allow {
        upstreams: reader.references(&table, "upstreams", "upstream", &declared.upstreams),
        buckets: reader.units(&table, "buckets", units::name),
        secrets: reader.references(&table, "secrets", "secret", &declared.secrets),
        urls: reader.units(&table, "urls", text),
        files: reader.units(&table, "files", text),
        writes,
    }
}

/// `chain:` of an API or an operation.
pub(super) fn chain<'s>(reader: &mut Reader<'s>, table: &Table<'s>, declared: &Declared<'_>) -> Vec<Link> {
    let fields = reader.list(table, "chain").unwrap_or_default();
    if let (true, Some(field)) = (fields.len() > CHAIN_MAX, table.get("chain")) {
        let message = format!("the chain has {} policies", fields.len());
        reader.error(&field, message, &format!("at most {CHAIN_MAX}"));
        return Vec::new();
    }
    fields.iter().filter_map(|field| link(reader, field, declared)).collect()
}

fn link<'s>(reader: &mut Reader<'s>, field: &Field<'s>, declared: &Declared<'_>) -> Option<Link> {
    match &field.node.value {
        Value::Map(_) => policy(reader, field, None, declared).map(Link::InPlace),
        Value::Text(text) => {
            if let Some(policy) = declared.policies.index(text.reveal()) {
                return Some(Link::Named { at: reader.at(field), policy });
            }
            if FIRST_PARTY.contains(&text.reveal()) && !text.is_secret() {
                let name = text.reveal();
                let at = reader.at(field);
                let message =
                    format!("no policy is named {}, but there is a plugin of that name", quoted(name));
                let expected =
                    format!("`- plugin: {name}` to use it in place, or a `{name}` under `policies`");
                reader.push(Diagnostic::error(&at, message).expecting(expected));
                return None;
            }
            reader.reference(field, "policy", &declared.policies);
            None
        }
        Value::Broken => None,
        _ => {
            let message = format!("{} is not a policy", reader.shown(field));
            reader.error(field, message, "the name of a policy, or a map with `plugin`");
            None
        }
    }
}
