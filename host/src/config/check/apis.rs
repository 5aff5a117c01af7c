//! Checks `apis` with their operations.

use std::collections::HashMap;

use super::super::diagnostic::Diagnostic;
use super::super::model::{Api, Link, Operation, Rewrite};
use super::super::units;
use super::keys;
use super::policies::{Declared, chain};
use super::reader::{Field, Names, Reader, Table};

pub(super) fn apis<'s>(
    reader: &mut Reader<'s>,
    root: &Table<'s>,
    declared: &Declared<'_>,
    listeners: &Names<'_>,
) -> Vec<Api> {
    let mut names = HashMap::new();
    let mut routes = Routes::default();
    let mut apis = Vec::new();
    for field in reader.list(root, "apis").unwrap_or_default() {
        let Some(table) = reader.table(&field, &keys::API) else { continue };
        let api = api(reader, &field, &table, declared, listeners, &mut names);
        routes.add(reader, &table, &api);
        apis.push(api);
    }
    apis
}

fn api<'s>(
    reader: &mut Reader<'s>,
    field: &Field<'s>,
    table: &Table<'s>,
    declared: &Declared<'_>,
    listeners: &Names<'_>,
    names: &mut HashMap<String, u32>,
) -> Api {
    let name = reader.name(table, units::name, names);
    let display_name = reader.unit_at(table, "display_name", units::label).unwrap_or_else(|| name.clone());
    let path = reader.needed(table, "path", units::path_prefix, "a path such as `/api/employee`, or `/`");
    let upstream = upstream(reader, table, declared);
    let api = Api {
        at: reader.at(field),
        name,
        display_name,
        hosts: reader.units(table, "hosts", units::host_pattern),
        path: path.unwrap_or_default(),
        upstream: upstream.clone(),
        rewrite: rewrite(reader, table),
        chain: chain(reader, table, declared),
        operations: operations(reader, table, declared),
        operations_only: reader.boolean(table, "operations_only", false),
        listeners: reader.references(table, "listeners", "listener", listeners),
    };
    if api.operations_only
        && table.get("operations").is_none()
        && let Some(field) = table.get("operations_only")
    {
        reader.error(&field, "the API has no operations, so nothing could match", "`operations`, or `false`");
    }
    if !table.has_unknown {
        answered(reader, table, &api);
    }
    api
}

fn upstream<'s>(reader: &mut Reader<'s>, table: &Table<'s>, declared: &Declared<'_>) -> Option<String> {
    let field = table.get("upstream")?;
    // A wrong name has been reported; it is not also a missing one.
    Some(reader.reference(&field, "upstream", &declared.upstreams).unwrap_or_default())
}

fn rewrite<'s>(reader: &mut Reader<'s>, table: &Table<'s>) -> Rewrite {
    let strip = reader.boolean(table, "strip_prefix", false);
    let prefix = reader.unit_at(table, "rewrite", units::path_prefix);
    match (table.get("rewrite"), prefix) {
        (Some(field), _) if strip => {
            let at = reader.at_place(field.place, &field.path);
            reader.push(
                Diagnostic::error(&at, "`rewrite` and `strip_prefix` contradict each other")
                    .expecting("one of them; `strip_prefix: true` is the same as `rewrite: /`"),
            );
            Rewrite::Keep
        }
        (Some(_), Some(prefix)) => Rewrite::ReplacePrefix(prefix),
        _ if strip => Rewrite::StripPrefix,
        _ => Rewrite::Keep,
    }
}

/// Somebody must answer: an upstream, or a policy of the chain.
fn answered<'s>(reader: &mut Reader<'s>, table: &Table<'s>, api: &Api) {
    let chain_written = |field: Option<Field<'_>>| field.is_some_and(|field| !field.node.items().is_empty());
    let api_answers = api.upstream.is_some() || chain_written(table.get("chain"));
    if !api_answers && !api.operations_only {
        let at = reader.at_place(table.place, &table.path);
        let expected = if api.operations.is_empty() {
            "an `upstream`, or a policy that answers"
        } else {
            "an `upstream`, a policy that answers, or `operations_only: true`"
        };
        reader.push(Diagnostic::error(&at, "nothing answers this API").expecting(expected));
    }
    for operation in &api.operations {
        let inherited = operation.inherit && chain_written(table.get("chain"));
        if api.upstream.is_none() && operation.upstream.is_none() && operation.chain.is_empty() && !inherited
        {
            // Said already of the whole API.
            if api_answers || api.operations_only {
                reader.push(
                    Diagnostic::error(&operation.at, "nothing answers this operation")
                        .expecting("an `upstream`, or a policy that answers"),
                );
            }
        }
    }
}

fn operations<'s>(reader: &mut Reader<'s>, table: &Table<'s>, declared: &Declared<'_>) -> Vec<Operation> {
    let mut names = HashMap::new();
    let mut matches = HashMap::new();
    let mut operations = Vec::new();
    for field in reader.filled_list(table, "operations").unwrap_or_default() {
        let Some(table) = reader.table(&field, &keys::OPERATION) else { continue };
        let (methods, path) = match_of(reader, &table, &field, &mut matches);
        let name = if table.get("name").is_some() {
            reader.name(&table, units::label, &mut names)
        } else {
            default_name(&methods, path.as_deref())
        };
        let chain: Vec<Link> = chain(reader, &table, declared);
        operations.push(Operation {
            at: reader.at(&field),
            name,
            methods,
            path,
            upstream: upstream(reader, &table, declared),
            chain,
            inherit: reader.boolean(&table, "inherit", true),
        });
    }
    operations
}

/// `GET,HEAD /{id}`, `GET`, `/{id}`.
fn default_name(methods: &[String], path: Option<&str>) -> String {
    let methods = methods.join(",");
    match path {
        Some(path) if methods.is_empty() => path.to_owned(),
        Some(path) => format!("{methods} {path}"),
        None => methods,
    }
}

fn match_of<'s>(
    reader: &mut Reader<'s>,
    operation: &Table<'s>,
    field: &Field<'s>,
    seen: &mut HashMap<String, u32>,
) -> (Vec<String>, Option<String>) {
    const EXPECTED: &str = "`match: { methods: [GET], path: \"/{id}\" }` or the like";
    if operation.get("match").is_none() {
        reader.missing(operation, "match", EXPECTED);
    }
    let Some(table) = reader.table_at(operation, "match", &keys::MATCH) else { return (Vec::new(), None) };
    let methods = reader.units(&table, "methods", units::method);
    let template = reader.unit_at(&table, "path", units::path_template);
    if table.get("methods").is_none() && table.get("path").is_none() {
        let at = reader.at_place(table.place, &table.path);
        reader.push(Diagnostic::error(&at, "matches everything, as the API itself does").expecting(EXPECTED));
    }
    let wrong = (table.get("methods").is_some() && methods.is_empty())
        || (table.get("path").is_some() && template.is_none());
    if !wrong {
        // Two templates that differ in names only match the same.
        let shape = template.as_ref().map(|(path, _)| shape(path)).unwrap_or_default();
        let all = [String::new()];
        let each = if methods.is_empty() { all.as_slice() } else { methods.as_slice() };
        for method in each {
            let what = if method.is_empty() { "match" } else { "match for this method" };
            reader.once_said(field, &format!("{method} {shape}"), what, seen);
        }
    }
    (methods, template.map(|(path, _)| path))
}

fn shape(template: &str) -> String {
    let segment = |segment: &str| match segment {
        _ if segment.starts_with("{*") => "{*}".to_owned(),
        _ if segment.starts_with('{') => "{}".to_owned(),
        _ => segment.to_owned(),
    };
    template.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Who has which host and path, to find two APIs that would have the same requests.
#[derive(Default)]
struct Routes {
    /// By host (empty: any) and path.
    taken: HashMap<(String, String), Vec<Taken>>,
}

struct Taken {
    api: String,
    line: u32,
    /// Empty: all.
    listeners: Vec<String>,
}

impl Routes {
    fn add<'s>(&mut self, reader: &mut Reader<'s>, table: &Table<'s>, api: &Api) {
        if api.path.is_empty() || (table.get("hosts").is_some() && api.hosts.is_empty()) {
            return;
        }
        let any = [String::new()];
        let hosts = if api.hosts.is_empty() { any.as_slice() } else { api.hosts.as_slice() };
        for host in hosts {
            let taken = self.taken.entry((host.clone(), api.path.clone())).or_default();
            let shared = |other: &&Taken| {
                other.listeners.is_empty()
                    || api.listeners.is_empty()
                    || other.listeners.iter().any(|listener| api.listeners.contains(listener))
            };
            if let Some(first) = taken.iter().find(shared)
                && let Some(field) = table.get("path")
            {
                let host = if host.is_empty() { "every host" } else { host };
                let message = format!(
                    "{} on {host} belongs to the API \"{}\" already (line {})",
                    reader.shown(&field),
                    first.api,
                    first.line
                );
                reader.error(&field, message, "a path, host or listener of its own");
                return;
            }
            taken.push(Taken { api: api.name.clone(), line: api.at.line, listeners: api.listeners.clone() });
        }
    }
}
