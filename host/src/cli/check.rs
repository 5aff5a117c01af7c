//! `witgate check`: says all that is wrong with a configuration, or explains what it does.
//!
//! The explanation is the effective chain of each operation, as no single place of the file shows
//! it. Plugins are loaded by a callback, because only `compile` can.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::config::diagnostic::Report;
use crate::config::model::{Api, At, Config, HostField, Link, Policy, Rewrite};
use crate::config::{self, Loaded};
use crate::telemetry::trace::one_line;

/// What is to be said of the policy at a place: what it reads, writes and is granted, a line each.
#[derive(Clone, Debug)]
pub struct Note {
    pub policy: At,
    pub lines: Vec<String>,
}

/// Checks the file at `path` and prints errors (and warnings) to `err`, the explanation to `out`;
/// with `json`, one document with all of it to `out`. `describe` compiles the configuration, adds
/// what it finds wrong to the report and describes the policies. Returns the exit code: 1 if the
/// configuration would be refused, else 0.
pub fn run(
    path: &Path,
    json: bool,
    describe: impl FnOnce(&Loaded, &mut Report) -> Vec<Note>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let (loaded, report, notes) = match config::load(path) {
        Ok(loaded) => {
            let mut report = loaded.report();
            let notes = describe(&loaded, &mut report);
            (Some(loaded), report, notes)
        }
        Err(report) => (None, report, Vec::new()),
    };
    let refused = report.errors() > 0;
    let config = loaded.as_ref().filter(|_| !refused).map(|loaded| &loaded.config);
    if json {
        let document = json!({
            "valid": !refused,
            "diagnostics": report.to_json(),
            "apis": config.map(|config| apis_json(config, &notes)),
        });
        writeln!(out, "{document:#}")?;
    } else {
        write!(err, "{report}")?;
        if let Some(config) = config {
            write!(out, "{}", explanation(config, path, &notes))?;
        }
    }
    Ok(u8::from(refused))
}

/// A part of an API and the policies that its requests pass, in order.
struct Part<'c> {
    name: String,
    upstream: Option<&'c str>,
    chain: Vec<&'c Link>,
}

fn parts<'c>(api: &'c Api) -> Vec<Part<'c>> {
    let mut parts = Vec::with_capacity(api.operations.len() + 1);
    for operation in &api.operations {
        let inherited = if operation.inherit { api.chain.as_slice() } else { &[] };
        parts.push(Part {
            name: operation.name.clone(),
            upstream: operation.upstream.as_deref().or(api.upstream.as_deref()),
            chain: inherited.iter().chain(&operation.chain).collect(),
        });
    }
    if !api.operations_only {
        let name = if api.operations.is_empty() { "all requests" } else { "all other requests" };
        parts.push(Part {
            name: name.to_owned(),
            upstream: api.upstream.as_deref(),
            chain: api.chain.iter().collect(),
        });
    }
    parts
}

fn policy_of<'c>(config: &'c Config, link: &'c Link) -> Option<&'c Policy> {
    match link {
        Link::Named { policy, .. } => config.policies.get(*policy),
        Link::InPlace(policy) => Some(policy),
    }
}

/// `corporate-jwt (jwt)`, or `jwt` for a policy in place.
fn called(policy: &Policy) -> String {
    match &policy.name {
        Some(name) if *name != policy.plugin => format!("{name} ({})", policy.plugin),
        _ => policy.plugin.clone(),
    }
}

fn explanation(config: &Config, path: &Path, notes: &[Note]) -> String {
    let mut lines = vec![format!("{}: {}", path.display(), counts(config))];
    for api in &config.apis {
        lines.push(String::new());
        lines.push(format!("{}: {}{} on {}", api.name, api.path, rewritten(&api.rewrite), hosts(api)));
        for part in parts(api) {
            let answers = part.upstream.map_or_else(
                || "the policies answer".to_owned(),
                |name| format!("upstream {name}{}", host_seen(config, name)),
            );
            lines.push(format!("  {}: {answers}", part.name));
            for (index, policy) in part.chain.iter().filter_map(|link| policy_of(config, link)).enumerate() {
                lines.push(format!("    {}. {}", index + 1, called(policy)));
                let about = notes.iter().filter(|note| note.policy == policy.at).flat_map(|note| &note.lines);
                // Names that a component chose stand in them.
                lines.extend(about.map(|line| format!("       {}", one_line(line, usize::MAX))));
            }
        }
    }
    lines.join("\n") + "\n"
}

fn counts(config: &Config) -> String {
    let counts = [
        (config.listeners.len(), "listener", "listeners"),
        (config.upstreams.len(), "upstream", "upstreams"),
        (config.policies.len(), "named policy", "named policies"),
        (config.apis.len(), "API", "APIs"),
        (config.products.len(), "product", "products"),
        (config.consumers.len(), "consumer", "consumers"),
    ];
    let said = |(number, one, many): &(usize, &str, &str)| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {many}"),
    };
    counts.iter().map(said).collect::<Vec<_>>().join(", ")
}

fn rewritten(rewrite: &Rewrite) -> String {
    match rewrite {
        Rewrite::Keep => String::new(),
        Rewrite::StripPrefix => " (taken off)".to_owned(),
        Rewrite::ReplacePrefix(prefix) => format!(" (becomes {prefix})"),
    }
}

fn hosts(api: &Api) -> String {
    let hosts = if api.hosts.is_empty() { "every host".to_owned() } else { api.hosts.join(", ") };
    match api.listeners.as_slice() {
        [] => hosts,
        listeners => format!("{hosts}, listener {}", listeners.join(", ")),
    }
}

fn host_seen(config: &Config, upstream: &str) -> String {
    match config.upstreams.iter().find(|it| it.name == upstream).map(|it| &it.host) {
        Some(HostField::Fixed(host)) => format!(" as {host}"),
        _ => String::new(),
    }
}

fn apis_json(config: &Config, notes: &[Note]) -> Value {
    let policy_json = |policy: &Policy| {
        let notes = notes.iter().filter(|note| note.policy == policy.at).flat_map(|note| &note.lines);
        json!({ "name": policy.name, "plugin": policy.plugin, "notes": notes.collect::<Vec<_>>() })
    };
    let part_json = |part: Part<'_>| {
        let chain = part.chain.iter().filter_map(|link| policy_of(config, link)).map(policy_json);
        json!({ "name": part.name, "upstream": part.upstream, "chain": chain.collect::<Vec<_>>() })
    };
    let api_json = |api: &Api| {
        let parts: Vec<Value> = parts(api).into_iter().map(part_json).collect();
        json!({ "name": api.name, "path": api.path, "hosts": api.hosts, "operations": parts })
    };
    config.apis.iter().map(api_json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Diagnostic;

    const TEXT: &str = "\
listeners: [{ name: public, address: \"127.0.0.1:8080\" }]
upstreams: { flights: { endpoints: [\"http://127.0.0.1:9001\"] } }
policies: { ids: { plugin: request-id } }
apis:
  - name: flights
    path: /flights
    upstream: flights
    strip_prefix: true
    chain: [ids]
    operations:
      - match: { methods: [GET], path: \"/{id}\" }
        chain: [{ plugin: cors }]
      - match: { methods: [PUT] }
        inherit: false
";

    fn checked(text: &str, json: bool, mistake: bool) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.yaml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let describe = |loaded: &Loaded, report: &mut Report| {
            let policy = &loaded.config.policies[0];
            if mistake {
                report.push(Diagnostic::error(&policy.config_at, "plugin `request-id` says: no"));
            }
            vec![Note {
                policy: policy.at.clone(),
                lines: vec![
                    "writes x-request-id".to_owned(),
                    "reads context:a\n  2. cors\u{1b}[2J".to_owned(),
                ],
            }]
        };
        let code = run(&path, json, describe, &mut out, &mut err).unwrap();
        let clean = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(&format!("{}/", folder.path().display()), "")
        };
        (code, clean(out), clean(err))
    }

    #[test]
    fn explains_the_effective_chain_of_each_operation() {
        let (code, out, err) = checked(TEXT, false, false);
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(
            out,
            "\
w.yaml: 1 listener, 1 upstream, 1 named policy, 1 API, 0 products, 0 consumers

flights: /flights (taken off) on every host
  GET /{id}: upstream flights
    1. ids (request-id)
       writes x-request-id
       reads context:a\\n  2. cors\\u{1b}[2J
    2. cors
  PUT: upstream flights
  all other requests: upstream flights
    1. ids (request-id)
       writes x-request-id
       reads context:a\\n  2. cors\\u{1b}[2J
"
        );
    }

    #[test]
    fn what_compiling_finds_is_reported_with_its_line() {
        let (code, out, err) = checked(TEXT, false, true);
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(
            err,
            "\
w.yaml:3:13: policies[ids]: plugin `request-id` says: no
   | policies: { ids: { plugin: request-id } }
   |             ^^^
1 error
"
        );
    }

    #[test]
    fn json_has_both() {
        let (code, out, _) = checked(TEXT, true, false);
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &document["valid"]), (0, &json!(true)));
        assert_eq!(document["apis"][0]["operations"][0]["chain"][1]["plugin"], "cors");
        let (code, out, _) = checked("apis: []\n", true, false);
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &document["valid"]), (1, &json!(false)));
        assert_eq!(document["diagnostics"][0]["message"], "the key `listeners` is missing");
    }
}
