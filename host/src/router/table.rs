//! The routing table: built as a whole from what `compile` gives, read only afterwards.
//!
//! Holds a tree of prefixes per listener and host, and a tree of operations per API. A lookup
//! hashes the host once and each segment of the path at most twice, whatever the number of
//! routes, and allocates only for a host in capitals or with an odd spelling.

use http::Method;
use http::header::HeaderValue;
use std::collections::HashMap;

use super::host::{Hosts, Pattern};
use super::methods::{MethodBits, MethodSet, Methods};
use super::path::{Params, Segment, TemplateFault, Tree, parse_prefix, parse_template};

/// A route's place in whatever list the caller keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// A listener's place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// An API, as the router sees it.
#[derive(Clone, Debug)]
pub struct ApiSpec {
    /// Empty: all.
    pub listeners: Vec<ListenerId>,
    /// Exact or `*.` names; empty: any host.
    pub hosts: Vec<String>,
    /// Ends on a segment's border; `/` for all paths.
    pub prefix: String,
    /// What no operation matches is not found, instead of being the API's own.
    pub operations_only: bool,
    /// What answers where no operation matches; names the API in conflicts and misses.
    pub route: RouteId,
    pub operations: Vec<OperationSpec>,
}

#[derive(Clone, Debug)]
pub struct OperationSpec {
    /// Empty: all.
    pub methods: Vec<Method>,
    /// Below the prefix; `None`: the whole API, the same as `/{*rest}`.
    pub template: Option<String>,
    pub route: RouteId,
}

/// Why a table cannot be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    Host {
        route: RouteId,
        host: String,
    },
    Prefix {
        route: RouteId,
        prefix: String,
        fault: TemplateFault,
    },
    Template {
        route: RouteId,
        template: String,
        fault: TemplateFault,
    },
    Listener {
        route: RouteId,
        listener: ListenerId,
    },
    /// More than 55 methods that HTTP does not define.
    Methods {
        route: RouteId,
        method: Method,
    },
    /// Two APIs at one place; `host` is none for any host.
    SameApi {
        first: RouteId,
        second: RouteId,
        host: Option<String>,
        prefix: String,
    },
    /// Two operations of one API fit the same requests; `methods` is none for all methods.
    SameOperation {
        first: RouteId,
        second: RouteId,
        methods: Option<HeaderValue>,
        template: Option<String>,
    },
}

impl Conflict {
    /// The route that is at fault, the later one of two.
    pub fn route(&self) -> RouteId {
        match *self {
            Conflict::Host { route, .. }
            | Conflict::Prefix { route, .. }
            | Conflict::Template { route, .. }
            | Conflict::Listener { route, .. }
            | Conflict::Methods { route, .. } => route,
            Conflict::SameApi { second, .. } | Conflict::SameOperation { second, .. } => second,
        }
    }

    /// The earlier route, where there are two.
    pub fn other(&self) -> Option<RouteId> {
        match *self {
            Conflict::SameApi { first, .. } | Conflict::SameOperation { first, .. } => Some(first),
            _ => None,
        }
    }
}

/// Without the routes' names, which the caller knows.
impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Conflict::Host { host, .. } => write!(f, "{host:?} is neither a host nor `*.` and a host"),
            Conflict::Prefix { prefix, fault, .. } => {
                write!(f, "{prefix:?} is not a prefix: {}", fault.text())
            }
            Conflict::Template { template, fault, .. } => {
                write!(f, "{template:?} is not a template: {}", fault.text())
            }
            Conflict::Listener { listener, .. } => write!(f, "there is no listener {}", listener.0),
            Conflict::Methods { method, .. } => {
                write!(f, "{method}: more than 55 methods that HTTP does not define")
            }
            Conflict::SameApi { host: Some(host), prefix, .. } => {
                write!(f, "another API is at {prefix:?} of {host} already")
            }
            Conflict::SameApi { host: None, prefix, .. } => write!(f, "another API is at {prefix:?} already"),
            Conflict::SameOperation { methods, template, .. } => {
                let methods =
                    methods.as_ref().and_then(|methods| methods.to_str().ok()).unwrap_or("every method");
                let template = template.as_deref().unwrap_or("the whole API");
                write!(f, "another operation has {methods} of {template} already")
            }
        }
    }
}

/// What answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub route: RouteId,
    /// Of the operation's template; none where the API itself answers.
    pub params: Params,
    /// How much of the path the API's prefix covers, in bytes: what `strip_prefix` takes off.
    /// Longer than the prefix if the path has parameters there (`/api;v=2/x`).
    pub prefix_end: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Route(Match),
    /// OPTIONS on a path whose operations have other methods: the chain of the route must run, so
    /// that a policy can answer a preflight. If none does, this is a 405 with `allow`.
    Preflight {
        matched: Match,
        allow: HeaderValue,
    },
    MethodNotAllowed {
        api: RouteId,
        allow: HeaderValue,
    },
    /// `api` is there if one has the host and prefix, but no operation for the path.
    NotFound {
        api: Option<RouteId>,
    },
}

#[derive(Debug)]
pub struct Router {
    /// By `ListenerId`: the APIs by host and prefix.
    listeners: Vec<Hosts<Tree<usize>>>,
    apis: Vec<Api>,
    methods: MethodBits,
    /// `Allow` of each path with operations; several paths that fit one request may need others.
    allow: HashMap<MethodSet, HeaderValue>,
}

#[derive(Debug)]
struct Api {
    route: RouteId,
    operations_only: bool,
    operations: Tree<Methods>,
}

impl Router {
    /// Builds the table for `listeners` listeners, or tells all that is wrong with it.
    pub fn build(listeners: usize, apis: Vec<ApiSpec>) -> Result<Router, Vec<Conflict>> {
        let mut router = Router {
            listeners: (0..listeners).map(|_| Hosts::default()).collect(),
            apis: Vec::with_capacity(apis.len()),
            methods: MethodBits::default(),
            allow: HashMap::new(),
        };
        let mut conflicts = Vec::new();
        for api in apis {
            router.publish(&api, &mut conflicts);
            let operations = router.operations(&api, &mut conflicts);
            router.apis.push(Api { route: api.route, operations_only: api.operations_only, operations });
        }
        if conflicts.is_empty() { Ok(router) } else { Err(conflicts) }
    }

    /// What answers a request. `host` is the authority as sent; `path` is normal
    /// (`message::path`) and without a query.
    pub fn find(&self, listener: ListenerId, host: Option<&str>, method: &Method, path: &str) -> Found {
        let hosts = self.listeners.get(usize::from(listener.0));
        let Some(hosts) = hosts.filter(|_| path.starts_with('/')) else {
            return Found::NotFound { api: None };
        };
        let Some((api, prefix_end)) = hosts.find(host, |prefixes| prefixes.longest(path)) else {
            return Found::NotFound { api: None };
        };
        let Some(api) = self.apis.get(*api) else { return Found::NotFound { api: None } };

        let bit = self.methods.of(method);
        let (mut others, mut nearest) = (0, None);
        let found = api.operations.find(path, prefix_end, |methods| {
            let route = methods.route(bit);
            if route.is_none() {
                others |= methods.named();
                nearest = nearest.or(methods.first());
            }
            route
        });
        match (found, nearest) {
            (Some((route, params)), _) => Found::Route(Match { route, params, prefix_end }),
            (None, None) if !api.operations_only => {
                Found::Route(Match { route: api.route, params: Params::default(), prefix_end })
            }
            (None, None) => Found::NotFound { api: Some(api.route) },
            (None, Some(_)) if method == Method::OPTIONS => self.preflight(api, path, prefix_end, others),
            (None, Some(_)) => Found::MethodNotAllowed { api: api.route, allow: self.allow(others) },
        }
    }

    /// The most specific path's first operation stands for all of them.
    fn preflight(&self, api: &Api, path: &str, prefix_end: usize, others: MethodSet) -> Found {
        match api.operations.find(path, prefix_end, Methods::first) {
            Some((route, params)) => {
                Found::Preflight { matched: Match { route, params, prefix_end }, allow: self.allow(others) }
            }
            None => Found::NotFound { api: Some(api.route) },
        }
    }

    fn allow(&self, set: MethodSet) -> HeaderValue {
        self.allow.get(&set).cloned().unwrap_or_else(|| self.methods.allow(set))
    }

    /// Puts an API, the next in `apis`, where its listeners, hosts and prefix say.
    fn publish(&mut self, api: &ApiSpec, conflicts: &mut Vec<Conflict>) {
        let next = self.apis.len();
        let route = api.route;
        let mut hosts = Vec::new();
        for host in &api.hosts {
            match Pattern::parse(host) {
                // Said twice in one API, it is no conflict.
                Some(pattern) if hosts.iter().any(|(known, _)| *known == pattern) => {}
                Some(pattern) => hosts.push((pattern, Some(host))),
                None => conflicts.push(Conflict::Host { route, host: host.clone() }),
            }
        }
        if api.hosts.is_empty() {
            hosts.push((Pattern::Any, None));
        }
        let prefix = match parse_prefix(&api.prefix) {
            Ok(prefix) => prefix,
            Err(fault) => {
                conflicts.push(Conflict::Prefix { route, prefix: api.prefix.clone(), fault });
                return;
            }
        };
        let mut listeners = api.listeners.clone();
        listeners.sort_unstable();
        listeners.dedup();
        for listener in &listeners {
            if usize::from(listener.0) >= self.listeners.len() {
                conflicts.push(Conflict::Listener { route, listener: *listener });
            }
        }
        for (pattern, host) in hosts {
            // Once for all listeners.
            let mut occupied = None;
            for (index, table) in self.listeners.iter_mut().enumerate() {
                let listens = listeners.is_empty() || listeners.iter().any(|id| usize::from(id.0) == index);
                if listens {
                    let here = *table.entry(&pattern, Tree::default).entry(&prefix, || next);
                    if here != next {
                        occupied = Some(here);
                    }
                }
            }
            if let Some(other) = occupied.and_then(|index| self.apis.get(index)) {
                let (first, host) = (other.route, host.cloned());
                conflicts.push(Conflict::SameApi { first, second: route, host, prefix: api.prefix.clone() });
            }
        }
    }

    fn operations(&mut self, api: &ApiSpec, conflicts: &mut Vec<Conflict>) -> Tree<Methods> {
        let mut tree: Tree<Methods> = Tree::default();
        for operation in &api.operations {
            let route = operation.route;
            let template = match &operation.template {
                None => vec![Segment::Rest("rest".into())],
                Some(template) => match parse_template(template) {
                    Ok(segments) => segments,
                    Err(fault) => {
                        conflicts.push(Conflict::Template { route, template: template.clone(), fault });
                        continue;
                    }
                },
            };
            let mut set = 0;
            for method in &operation.methods {
                match self.methods.assign(method) {
                    Some(bit) => set |= bit,
                    None => conflicts.push(Conflict::Methods { route, method: method.clone() }),
                }
            }
            let methods = tree.entry(&template, Methods::default);
            let taken = if operation.methods.is_empty() {
                methods.add_any(route).map_err(|first| (None, first))
            } else {
                methods.add(set, route).map_err(|(both, first)| (Some(both), first))
            };
            match taken {
                Ok(()) => {
                    let named = methods.named();
                    self.allow.entry(named).or_insert_with(|| self.methods.allow(named));
                }
                Err((both, first)) => conflicts.push(Conflict::SameOperation {
                    first,
                    second: route,
                    methods: both.map(|both| self.methods.allow(both)),
                    template: operation.template.clone(),
                }),
            }
        }
        tree
    }
}

#[cfg(test)]
mod tests;
