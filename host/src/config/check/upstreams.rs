//! Checks `upstreams`.

use std::collections::HashMap;
use std::time::Duration;

use super::super::diagnostic::{Diagnostic, nearest};
use super::super::model::{
    Balance, Ejection, Endpoint, Health, HostField, Retry, Timeouts, Upstream, UpstreamProtocol, UpstreamTls,
};
use super::super::source::Value;
use super::super::units::{self, Mistake};
use super::keys;
use super::reader::{Field, Reader, Table, quoted};

const ENDPOINT_EXPECTED: &str = "a URL such as `http://127.0.0.1:9001`, or `{ url: …, weight: 2 }`";

pub(super) fn upstreams<'s>(reader: &mut Reader<'s>, root: &Table<'s>) -> Vec<Upstream> {
    let mut upstreams = Vec::new();
    for (name, field) in reader.named(root, "upstreams") {
        if let Some(table) = reader.table(&field, &keys::UPSTREAM) {
            upstreams.push(upstream(reader, &table, name));
        }
    }
    upstreams
}

fn upstream<'s>(reader: &mut Reader<'s>, table: &Table<'s>, name: String) -> Upstream {
    let endpoints = endpoints(reader, table);
    let protocols = [("http1", UpstreamProtocol::Http1), ("http2", UpstreamProtocol::Http2)];
    Upstream {
        at: reader.at_place(table.place, &table.path),
        name,
        protocol: reader.word(table, "protocol", UpstreamProtocol::Http1, &protocols),
        balance: balance(reader, table),
        health: health(reader, table),
        ejection: ejection(reader, table),
        timeouts: timeouts(reader, table),
        retry: retry(reader, table),
        tls: tls(reader, table, &endpoints),
        host: host(reader, table),
        idle_connections: reader.integer(table, "idle_connections", 128, 0..=100_000),
        endpoints,
    }
}

fn endpoints<'s>(reader: &mut Reader<'s>, table: &Table<'s>) -> Vec<Endpoint> {
    if table.get("endpoints").is_none() {
        reader.missing(table, "endpoints", "`endpoints: [\"http://127.0.0.1:9001\"]` or the like");
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut seen = HashMap::new();
    let fields = reader.filled_list(table, "endpoints").unwrap_or_default();
    for field in &fields {
        let Some(endpoint) = endpoint(reader, field) else { continue };
        let line = endpoint.at.line;
        match seen.insert((endpoint.https, endpoint.host.clone(), endpoint.port), line) {
            Some(first) => {
                let message = format!("the endpoint is given twice (first on line {first})");
                reader.error(field, message, "one entry, with a `weight` if it is to get more");
            }
            None => endpoints.push(endpoint),
        }
    }
    if endpoints.len() == fields.len()
        && !endpoints.is_empty()
        && endpoints.iter().all(|endpoint| endpoint.weight == 0)
        && let Some(field) = table.get("endpoints")
    {
        reader.error(
            &field,
            "the weights of all endpoints are 0",
            "at least one endpoint that takes traffic",
        );
    }
    endpoints
}

fn endpoint<'s>(reader: &mut Reader<'s>, field: &Field<'s>) -> Option<Endpoint> {
    let (url, weight) = match &field.node.value {
        Value::Map(_) => {
            let table = reader.table(field, &keys::ENDPOINT)?;
            let weight = reader.integer(&table, "weight", 1, 0..=1000);
            (reader.needed(&table, "url", units::endpoint, ENDPOINT_EXPECTED), weight)
        }
        Value::List(_) => {
            reader.error(field, "a list is not an endpoint", ENDPOINT_EXPECTED);
            return None;
        }
        _ => (reader.unit(field, units::endpoint), 1),
    };
    let url = url?;
    Some(Endpoint { at: reader.at(field), https: url.https, host: url.host, port: url.port, weight })
}

fn balance<'s>(reader: &mut Reader<'s>, table: &Table<'s>) -> Balance {
    if let Some(field) = table.get("balance")
        && matches!(&field.node.value, Value::Text(text) if text.reveal() == "ring_hash")
    {
        reader.error(&field, "\"ring_hash\" is not built yet", "round_robin, least_request or random");
        return Balance::LeastRequest;
    }
    let words = [
        ("round_robin", Balance::RoundRobin),
        ("least_request", Balance::LeastRequest),
        ("random", Balance::Random),
    ];
    reader.word(table, "balance", Balance::LeastRequest, &words)
}

fn health<'s>(reader: &mut Reader<'s>, upstream: &Table<'s>) -> Option<Health> {
    let table = reader.table_at(upstream, "health", &keys::HEALTH)?;
    let path = reader.needed(&table, "path", units::health_path, "a path such as `/healthz`");
    let interval = reader.some_duration(&table, "interval", Duration::from_secs(5));
    let timeout = reader.some_duration(&table, "timeout", Duration::from_secs(1));
    Some(Health {
        interval,
        timeout,
        unhealthy_after: reader.integer(&table, "unhealthy_after", 2, 1..=100),
        healthy_after: reader.integer(&table, "healthy_after", 2, 1..=100),
        path: path?,
    })
}

fn ejection<'s>(reader: &mut Reader<'s>, upstream: &Table<'s>) -> Option<Ejection> {
    let mut ejection = Ejection { failures: 5, period: Duration::from_secs(10), max_percent: 50 };
    let Some(field) = upstream.get("ejection") else { return Some(ejection) };
    match field.node.value {
        Value::Bool(true) => return Some(ejection),
        Value::Bool(false) => return None,
        Value::Map(_) => {}
        _ => {
            let message = format!("{} is neither a truth value nor a map", reader.shown(&field));
            reader.error(&field, message, "`false` or `{ failures: 5, period: 10s, max_percent: 50% }`");
            return None;
        }
    }
    let table = reader.table(&field, &keys::EJECTION)?;
    ejection.failures = reader.integer(&table, "failures", ejection.failures, 1..=1000);
    ejection.period = reader.some_duration(&table, "period", ejection.period);
    // The key says the unit already, so a plain number will do.
    let percent = |text: &str| units::percent(&format!("{}%", text.strip_suffix('%').unwrap_or(text)));
    ejection.max_percent = reader.unit_at(&table, "max_percent", percent).unwrap_or(ejection.max_percent);
    Some(ejection)
}

fn timeouts<'s>(reader: &mut Reader<'s>, upstream: &Table<'s>) -> Timeouts {
    let mut timeouts =
        Timeouts { connect: Duration::from_secs(1), response: Duration::from_secs(60), idle: Duration::ZERO };
    if let Some(table) = reader.table_at(upstream, "timeouts", &keys::TIMEOUTS) {
        timeouts.connect = reader.some_duration(&table, "connect", timeouts.connect);
        timeouts.response = reader.some_duration(&table, "response", timeouts.response);
        timeouts.idle = reader.duration(&table, "idle", timeouts.idle);
    }
    timeouts
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum RetryOn {
    ConnectFailure,
    Status(u16),
}

fn retry_on(text: &str) -> Result<RetryOn, Mistake> {
    if text == "connect_failure" {
        return Ok(RetryOn::ConnectFailure);
    }
    match text.parse() {
        Ok(status @ 400..=599) if text.len() == 3 => Ok(RetryOn::Status(status)),
        _ => Err(Mistake {
            what: "is nothing to retry on".to_owned(),
            expected: "`connect_failure` or a status from 400 to 599, such as `503`".to_owned(),
        }),
    }
}

fn retry<'s>(reader: &mut Reader<'s>, upstream: &Table<'s>) -> Retry {
    let mut retry = Retry { attempts: 1, connect_failure: true, statuses: Vec::new(), budget_percent: 20 };
    let Some(table) = reader.table_at(upstream, "retry", &keys::RETRY) else { return retry };
    retry.attempts = reader.integer(&table, "attempts", retry.attempts, 0..=10);
    retry.budget_percent = reader.unit_at(&table, "budget", units::percent).unwrap_or(retry.budget_percent);
    if table.get("on").is_some() {
        let on = reader.units(&table, "on", retry_on);
        retry.connect_failure = on.contains(&RetryOn::ConnectFailure);
        retry.statuses = on
            .into_iter()
            .filter_map(|on| match on {
                RetryOn::Status(status) => Some(status),
                RetryOn::ConnectFailure => None,
            })
            .collect();
    }
    retry
}

fn tls<'s>(reader: &mut Reader<'s>, upstream: &Table<'s>, endpoints: &[Endpoint]) -> UpstreamTls {
    let Some(table) = reader.table_at(upstream, "tls", &keys::UPSTREAM_TLS) else {
        return UpstreamTls::default();
    };
    let tls = UpstreamTls {
        ca: reader.file(&table, "ca"),
        server_name: reader.unit_at(&table, "server_name", units::server_name),
        client_cert: reader.file(&table, "client_cert"),
        client_key: reader.file(&table, "client_key"),
    };
    match (table.get("client_cert").is_some(), table.get("client_key").is_some()) {
        (true, false) => reader.missing(&table, "client_key", "the private key of `client_cert`"),
        (false, true) => reader.missing(&table, "client_cert", "the certificate of `client_key`"),
        _ => {}
    }
    if !endpoints.is_empty() && !endpoints.iter().any(|endpoint| endpoint.https) {
        let at = reader.at_place(table.place, &table.path);
        reader.push(Diagnostic::warning(&at, "`tls` has no effect, because no endpoint is `https`"));
    }
    tls
}

fn host<'s>(reader: &mut Reader<'s>, table: &Table<'s>) -> HostField {
    let Some(field) = table.get("host") else { return HostField::Preserve };
    let Some(text) = reader.text(&field) else { return HostField::Preserve };
    let written = text.written();
    match text.reveal() {
        "preserve" => HostField::Preserve,
        "endpoint" => HostField::Endpoint,
        // A word misspelt would be a host of that name.
        other if !other.contains(['.', ':']) && nearest(other, ["preserve", "endpoint"]).is_some() => {
            let at = reader.at(&field);
            let message = format!("{} is not a valid choice", quoted(written));
            reader.push(
                Diagnostic::error(&at, message)
                    .with_nearest(nearest(other, ["preserve", "endpoint"]))
                    .expecting("`preserve`, `endpoint`, or a host such as `api.example.com`"),
            );
            HostField::Preserve
        }
        _ => reader.unit(&field, units::host_field).map_or(HostField::Preserve, HostField::Fixed),
    }
}
