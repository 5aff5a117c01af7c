//! APIs and operations as routes: the routing table, and the effective chain of each.

use super::policies::Policies;
use super::{Catalogue, Workshop, refuse};
use crate::chain::Chain;
use crate::chain::step::Step;
use crate::config::Report;
use crate::config::model::{Api, At, Config, Link, Operation, Rewrite as Written};
use crate::router::{ApiSpec, ListenerId, OperationSpec, RouteId, Router, parameter_names};
use crate::snapshot::{Rewrite, Route};
use http::Method;
use std::collections::HashMap;
use std::sync::Arc;

pub fn compile(
    workshop: &Workshop,
    config: &Config,
    upstreams: &HashMap<String, usize>,
    catalogue: &mut Catalogue,
    policies: &mut Policies<'_>,
    report: &mut Report,
) -> (Option<Router>, Vec<Route>) {
    let mut routes = Vec::new();
    let mut places = Vec::new();
    let mut specs = Vec::new();
    let nothing: Arc<[Box<str>]> = Arc::from([]);
    for api in &config.apis {
        let name: Arc<str> = api.name.as_str().into();
        let metrics = workshop.metrics.api(&name);
        let api_steps = steps(&api.chain, &api.name, catalogue, policies, report);
        let api_chain = Arc::new(Chain::new(api_steps.iter().map(again).collect()));
        let upstream = |name: Option<&String>| name.and_then(|name| upstreams.get(name).copied());
        let rewrite = rewrite(api);
        let route = RouteId(routes.len() as u32);
        places.push(&api.at);
        routes.push(Route {
            api: name.clone(),
            operation: None,
            parameters: nothing.clone(),
            upstream: upstream(api.upstream.as_ref()),
            rewrite: rewrite.clone(),
            chain: api_chain.clone(),
            metrics: metrics.clone(),
        });
        let mut operations = Vec::new();
        for operation in &api.operations {
            let place = format!("{}/{}", api.name, operation.name);
            let own = steps(&operation.chain, &place, catalogue, policies, report);
            let chain = match (operation.inherit, own.is_empty()) {
                (true, true) => api_chain.clone(),
                (true, false) => Arc::new(Chain::new(api_steps.iter().map(again).chain(own).collect())),
                (false, _) => Arc::new(Chain::new(own)),
            };
            let route = RouteId(routes.len() as u32);
            places.push(&operation.at);
            let template = operation.path.as_deref();
            routes.push(Route {
                api: name.clone(),
                operation: Some(operation.name.as_str().into()),
                parameters: template.map_or_else(|| nothing.clone(), |path| parameter_names(path).into()),
                upstream: upstream(operation.upstream.as_ref().or(api.upstream.as_ref())),
                rewrite: rewrite.clone(),
                chain,
                metrics: metrics.clone(),
            });
            operations.push(OperationSpec {
                methods: methods(operation),
                template: operation.path.clone(),
                route,
            });
        }
        specs.push(ApiSpec {
            listeners: listeners(api, config),
            hosts: api.hosts.clone(),
            prefix: api.path.clone(),
            operations_only: api.operations_only,
            route,
            operations,
        });
    }
    match Router::build(config.listeners.len().max(1), specs) {
        Ok(router) => (Some(router), routes),
        Err(conflicts) => {
            for conflict in conflicts {
                let place = |route: RouteId| places.get(route.0 as usize);
                let Some(at) = place(conflict.route()) else { continue };
                let other = conflict.other().and_then(place).map(|at: &&At| format!(" ({})", at.path));
                refuse(report, at, format!("{conflict}{}", other.unwrap_or_default()));
            }
            (None, routes)
        }
    }
}

fn steps(
    links: &[Link],
    place: &str,
    catalogue: &mut Catalogue,
    policies: &mut Policies<'_>,
    report: &mut Report,
) -> Vec<Step> {
    links
        .iter()
        .filter_map(|link| match link {
            Link::Named { policy, .. } => policies.named(*policy, catalogue, report),
            Link::InPlace(policy) => policies.in_place(policy, place, catalogue, report),
        })
        .collect()
}

fn again(step: &Step) -> Step {
    Step { policy: step.policy.clone(), slot: step.slot, plan: step.plan.clone() }
}

fn methods(operation: &Operation) -> Vec<Method> {
    operation.methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect()
}

fn listeners(api: &Api, config: &Config) -> Vec<ListenerId> {
    let index = |name: &String| config.listeners.iter().position(|listener| listener.name == *name);
    api.listeners
        .iter()
        .filter_map(index)
        .filter_map(|index| u16::try_from(index).ok())
        .map(ListenerId)
        .collect()
}

fn rewrite(api: &Api) -> Rewrite {
    let prefix: Box<str> = api.path.trim_end_matches('/').into();
    match &api.rewrite {
        Written::Keep => Rewrite::Keep,
        Written::StripPrefix => Rewrite::Replace { prefix, with: "".into() },
        Written::ReplacePrefix(with) => Rewrite::Replace { prefix, with: with.trim_end_matches('/').into() },
    }
}
