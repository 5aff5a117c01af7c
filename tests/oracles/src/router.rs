//! The router beside a slow one that looks at every API and operation in turn.
//!
//! An input is lines: `api PREFIX HOST…`, `op METHOD TEMPLATE` (of the API above), `get METHOD HOST
//! PATH`. Tables that the router refuses are passed over, and so are paths that are not normal.

use http::Method;
use witgate::message::path::normalise;
use witgate::router::{ApiSpec, Found, ListenerId, OperationSpec, RouteId, Router, canonical_host};

pub const WORDS: &[&str] = &[
    "api /a\n",
    "api /a/b\n",
    "api / h\n",
    "api /a *.h\n",
    "api /a x.h\n",
    "op GET /x\n",
    "op GET /{id}\n",
    "op POST /x/{id}/y\n",
    "op * /{*rest}\n",
    "op GET /x/{id}\n",
    "op GET /\n",
    "get GET h /a/x\n",
    "get POST x.h /a/x/1/y\n",
    "get OPTIONS h /a/b/x/y/z\n",
    "get GET y.x.h /a;v=1/x;b/\n",
    "get ",
    "GET ",
    "/a",
    "/b",
    "/x",
    "/",
    " ",
    "{id}",
    "{*r}",
    "h",
    ".",
    "\n",
    ";v=1",
    "api ",
    "op ",
    "H:80",
    "[::1]",
    "%41",
    "%c3%bc",
    "%3a",
    ":",
    "%3B",
    "a~b",
];

struct Api<'a> {
    prefix: &'a str,
    hosts: Vec<&'a str>,
    operations: Vec<(&'a str, &'a str)>,
}

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut apis: Vec<Api<'_>> = Vec::new();
    let mut asked = Vec::new();
    for line in text.lines().take(64) {
        let words: Vec<&str> = line.split(' ').collect();
        match (words[0], &words[1..]) {
            ("api", [prefix, hosts @ ..]) if apis.len() < 8 => {
                apis.push(Api { prefix, hosts: hosts.to_vec(), operations: Vec::new() });
            }
            ("op", [method, template]) => {
                if let Some(api) = apis.last_mut().filter(|api| api.operations.len() < 8) {
                    api.operations.push((method, template));
                }
            }
            ("get", [method, host, path]) => asked.push((*method, *host, *path)),
            _ => {}
        }
    }
    let Some(specs) = specs(&apis) else { return };
    let Ok(router) = Router::build(1, specs) else { return };
    for (method, host, path) in asked {
        let (Ok(method), Ok(path)) = (method.parse::<Method>(), normalise(path)) else { continue };
        let found = router.find(ListenerId(0), Some(host), &method, &path);
        judge(&apis, &found, host, &method, &path);
        // One trailing slash, and parameters of a segment, lead to the same policies.
        if let Found::Route(matched) = &found
            && !path.ends_with('/')
        {
            let slashed = router.find(ListenerId(0), Some(host), &method, &format!("{path}/"));
            assert!(
                matches!(&slashed, Found::Route(other) if other.route == matched.route),
                "{path} and {path}/ go to {matched:?} and {slashed:?}"
            );
        }
    }
}

/// An API's own route is 100 × its place, its operations' follow.
fn specs(apis: &[Api<'_>]) -> Option<Vec<ApiSpec>> {
    let mut specs = Vec::new();
    for (at, api) in apis.iter().enumerate() {
        let base = at as u32 * 100;
        let mut operations = Vec::new();
        for (index, (method, template)) in api.operations.iter().enumerate() {
            let methods = match *method {
                "*" => Vec::new(),
                method => vec![method.parse().ok()?],
            };
            let template = Some((*template).to_string());
            operations.push(OperationSpec { methods, template, route: RouteId(base + 1 + index as u32) });
        }
        specs.push(ApiSpec {
            listeners: Vec::new(),
            hosts: api.hosts.iter().map(ToString::to_string).collect(),
            prefix: api.prefix.to_string(),
            operations_only: false,
            route: RouteId(base),
            operations,
        });
    }
    Some(specs)
}

/// Without its parameters, and without one trailing slash.
fn names(path: &str) -> Vec<String> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return Vec::new();
    }
    inner.split('/').map(name_of).collect()
}

/// As a server reads it that decodes first, and cuts parameters off then.
fn name_of(segment: &str) -> String {
    decoded(segment).split(';').next().unwrap_or_default().to_string()
}

fn decoded(segment: &str) -> String {
    let mut parts = segment.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("a normal path's escapes are whole"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("a normal path is UTF-8")
}

/// A prefix or template in the form that normal paths are compared with.
fn segments(template: &str) -> Vec<String> {
    let inner = template.strip_prefix('/').unwrap_or(template);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return Vec::new();
    }
    let normal = |segment: &str| match segment.starts_with('{') {
        true => segment.to_string(),
        false => normalise(&format!("/{segment}")).map_or(String::new(), |normal| decoded(&normal[1..])),
    };
    inner.split('/').map(normal).collect()
}

/// `pinned`: some API is for certain hosts only, so that one which cannot be read fits none. How well a host
/// fits: 0 not, 1 any, then by the length of a suffix, then exactly.
fn fits_host(api: &Api<'_>, host: &str, pinned: bool) -> usize {
    let any = api.hosts.is_empty() || api.hosts.contains(&"*");
    let Some(host) = canonical_host(host) else { return usize::from(any && !pinned) };
    let fits = |pattern: &&str| match pattern.strip_prefix("*.") {
        Some(suffix) => {
            let suffix = suffix.to_ascii_lowercase();
            let suffix = suffix.trim_end_matches('.');
            // `*.` stands for at least one label.
            match host.strip_suffix(suffix).and_then(|front| front.strip_suffix('.')) {
                Some(front) if !front.is_empty() => 2 + suffix.len(),
                _ => 0,
            }
        }
        None => match canonical_host(pattern) {
            Some(pattern) if pattern == host => usize::MAX,
            _ => 0,
        },
    };
    api.hosts.iter().map(fits).max().unwrap_or(0).max(usize::from(any))
}

fn judge(apis: &[Api<'_>], found: &Found, host: &str, method: &Method, path: &str) {
    let names = names(path);
    let is_pinned = |api: &Api<'_>| api.hosts.iter().any(|host| *host != "*");
    let pinned = !host.is_empty() && apis.iter().any(is_pinned);
    let fits_prefix = |api: &Api<'_>| {
        let prefix = segments(api.prefix);
        (names.len() >= prefix.len() && prefix.iter().zip(&names).all(|(a, b)| a == b))
            .then_some(prefix.len())
    };
    let best = apis
        .iter()
        .enumerate()
        .filter_map(|(at, api)| Some((fits_host(api, host, pinned), fits_prefix(api)?, at)))
        .filter(|(fit, ..)| *fit > 0)
        .max_by_key(|(fit, length, _)| (*fit, *length));
    let route = match found {
        Found::Route(matched) | Found::Preflight { matched, .. } => Some(matched.route),
        Found::MethodNotAllowed { api, .. } => Some(*api),
        Found::NotFound { api } => *api,
    };
    let api = route.map(|route| route.0 as usize / 100);
    assert_eq!(api, best.map(|(.., at)| at), "{method} {host} {path}: {found:?}");
    let (Found::Route(matched), Some((_, length, at))) = (found, best) else { return };
    assert_eq!(segments(&path[..matched.prefix_end]).len(), length, "{path}: {matched:?}");
    let fitting: Vec<usize> = apis[at]
        .operations
        .iter()
        .enumerate()
        .filter(|(_, (said, template))| {
            (*said == "*" || *said == method.as_str()) && fits_template(&segments(template), &names[length..])
        })
        .map(|(index, _)| index + 1)
        .collect();
    match matched.route.0 as usize % 100 {
        0 => assert!(fitting.is_empty(), "{method} {path} goes past {fitting:?}"),
        operation => assert!(fitting.contains(&operation), "{method} {path}: {operation} of {fitting:?}"),
    }
}

fn fits_template(template: &[String], names: &[String]) -> bool {
    match (template.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((first, _)), _) if first.starts_with("{*") => true,
        (Some((first, template)), Some((name, names))) => {
            (first.starts_with('{') || first == name) && fits_template(template, names)
        }
        _ => false,
    }
}
