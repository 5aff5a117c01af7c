//! Upstreams of a configuration; those whose settings did not change keep their connections.

use super::refuse;
use crate::config::Report;
use crate::config::model::{self, Config};
use crate::snapshot::Snapshot;
use crate::upstream::{
    Balance, EjectionSettings, EndpointSettings, HealthSettings, HostField, Protocol, RetrySettings,
    Settings, Timeouts, TlsSettings, Upstream,
};
use std::collections::HashMap;
use std::sync::Arc;

pub fn compile(
    config: &Config,
    before: Option<&Snapshot>,
    report: &mut Report,
) -> (Vec<Arc<Upstream>>, HashMap<String, usize>) {
    let running: HashMap<&str, &Arc<Upstream>> = before
        .iter()
        .flat_map(|snapshot| &snapshot.upstreams)
        .map(|upstream| (upstream.name(), upstream))
        .collect();
    let (mut upstreams, mut names) = (Vec::new(), HashMap::new());
    for written in &config.upstreams {
        let settings = settings(written);
        let upstream = match running.get(written.name.as_str()) {
            // TLS files may have changed under the same names, so what uses them is made anew.
            Some(running) if *running.settings() == settings && settings.tls == TlsSettings::default() => {
                Ok(Arc::clone(running))
            }
            _ => Upstream::new(settings),
        };
        match upstream {
            Ok(upstream) => {
                names.insert(written.name.clone(), upstreams.len());
                upstreams.push(upstream);
            }
            Err(error) => refuse(report, &written.at, error.to_string()),
        }
    }
    (upstreams, names)
}

fn settings(written: &model::Upstream) -> Settings {
    Settings {
        name: written.name.clone(),
        endpoints: written
            .endpoints
            .iter()
            .map(|endpoint| EndpointSettings {
                https: endpoint.https,
                host: endpoint.host.clone(),
                port: endpoint.port,
                weight: endpoint.weight,
            })
            .collect(),
        protocol: match written.protocol {
            model::UpstreamProtocol::Http1 => Protocol::Http1,
            model::UpstreamProtocol::Http2 => Protocol::Http2,
        },
        balance: match written.balance {
            model::Balance::RoundRobin => Balance::RoundRobin,
            model::Balance::LeastRequest => Balance::LeastRequest,
            model::Balance::Random => Balance::Random,
        },
        health: written.health.as_ref().map(|health| HealthSettings {
            path: health.path.clone(),
            interval: health.interval,
            timeout: health.timeout,
            unhealthy_after: health.unhealthy_after,
            healthy_after: health.healthy_after,
        }),
        ejection: written.ejection.as_ref().map(|ejection| EjectionSettings {
            failures: ejection.failures,
            period: ejection.period,
            max_percent: ejection.max_percent,
        }),
        timeouts: Timeouts {
            connect: written.timeouts.connect,
            response: written.timeouts.response,
            idle: written.timeouts.idle,
        },
        retry: RetrySettings {
            attempts: written.retry.attempts,
            connect_failure: written.retry.connect_failure,
            statuses: written.retry.statuses.clone(),
            budget_percent: written.retry.budget_percent,
        },
        tls: TlsSettings {
            ca: written.tls.ca.clone(),
            server_name: written.tls.server_name.clone(),
            client_cert: written.tls.client_cert.clone(),
            client_key: written.tls.client_key.clone(),
        },
        host: match &written.host {
            model::HostField::Preserve => HostField::Preserve,
            model::HostField::Endpoint => HostField::Endpoint,
            model::HostField::Fixed(host) => HostField::Fixed(host.clone()),
        },
        idle_connections: written.idle_connections,
    }
}
