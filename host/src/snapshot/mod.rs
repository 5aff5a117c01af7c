//! What a configuration became: immutable, shared by all workers, swapped as a whole.
//!
//! Made by `compile`, read by `exchange`. Never changes; a reload makes another one. What a worker
//! needs beside it (connections, instances) is the worker's own and indexed alike.

pub mod cell;

use crate::chain::Chain;
use crate::consumer::Directory;
use crate::message::forwarded::Trusted;
use crate::plugin::Policy;
use crate::router::Router;
use crate::telemetry::metric::{ApiMetrics, UpstreamMetrics};
use crate::upstream::Upstream;
use std::collections::HashMap;
use std::sync::Arc;

pub struct Snapshot {
    /// Counts up from 1 with each reload that succeeded.
    pub generation: u64,
    pub router: Router,
    /// By `RouteId`.
    pub routes: Vec<Route>,
    /// By slot: `Step::slot`, and the pools of a worker's view.
    pub policies: Vec<Arc<Policy>>,
    /// By index: `Route::upstream`, and the pools of a worker's view.
    pub upstreams: Vec<Arc<Upstream>>,
    pub upstream_metrics: Vec<Arc<UpstreamMetrics>>,
    pub upstream_names: HashMap<String, usize>,
    pub directory: Arc<Directory>,
    pub trusted: Trusted,
}

/// Where a request goes, once the router found it.
pub struct Route {
    pub api: Arc<str>,
    pub operation: Option<Arc<str>>,
    /// Names of the path template's parameters, in order.
    pub parameters: Arc<[Box<str>]>,
    /// `None`: its policies answer.
    pub upstream: Option<usize>,
    pub rewrite: Rewrite,
    pub chain: Arc<Chain>,
    pub metrics: Arc<ApiMetrics>,
}

/// What becomes of the API's path prefix on the way to the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rewrite {
    Keep,
    /// The prefix gives way to `with`, which has no trailing slash.
    Replace {
        prefix: Box<str>,
        with: Box<str>,
    },
}

impl Rewrite {
    /// The path for the upstream; `None` where it stays as it is. `matched` is how many bytes of
    /// the path the router took for the prefix, if this is still the path that it matched.
    pub fn path(&self, path: &str, matched: Option<usize>) -> Option<String> {
        let Rewrite::Replace { prefix, with } = self else { return None };
        // A path that a policy set counts only if it is below the prefix too.
        let rest = match matched {
            Some(end) => path.get(end..)?,
            None => path.strip_prefix(&**prefix)?,
        };
        match rest.starts_with('/') || rest.is_empty() {
            true if with.is_empty() && rest.is_empty() => Some("/".to_string()),
            true => Some(format!("{with}{rest}")),
            false => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_give_way_on_segment_borders() {
        let strip = Rewrite::Replace { prefix: "/api/employee".into(), with: "".into() };
        assert_eq!(strip.path("/api/employee/7", None).as_deref(), Some("/7"));
        assert_eq!(strip.path("/api/employee", None).as_deref(), Some("/"));
        assert_eq!(strip.path("/api/employee;v=2/7", Some("/api/employee;v=2".len())).as_deref(), Some("/7"));
        assert_eq!(strip.path("/x", None), None);
        assert_eq!(strip.path("/api/employees", None), None);
        let replace = Rewrite::Replace { prefix: "/api".into(), with: "/v2".into() };
        assert_eq!(replace.path("/api/a", Some(4)).as_deref(), Some("/v2/a"));
        assert_eq!(replace.path("/api", Some(4)).as_deref(), Some("/v2"));
        let root = Rewrite::Replace { prefix: "".into(), with: "/v2".into() };
        assert_eq!(root.path("/a", Some(0)).as_deref(), Some("/v2/a"));
        assert_eq!(Rewrite::Keep.path("/a", None), None);
    }
}
