//! Every metric's public name, help and labels, and their text at a scrape.
//!
//! Called by the registry when somebody scrapes. Never changes a cell. Names here are without the
//! `_total` of counters: the encoder adds it.

use super::cell::{Observed, seconds};
use super::guest::{Family, GuestKind, PREFIX};
use super::policy::{Hook, Verdict};
use super::process::Process;
use super::{Cells, lock};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use std::fmt::{self, Error};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What this file writes under `PREFIX`, closed to policies.
pub(super) const POLICY_NAMES: &[(GuestKind, &str)] = &[
    (GuestKind::Counter, "calls"),
    (GuestKind::Counter, "verdicts"),
    (GuestKind::Counter, "seconds"),
    (GuestKind::Histogram, "call_duration_seconds"),
    (GuestKind::Gauge, "instances"),
    (GuestKind::Gauge, "quarantined"),
];

pub(super) struct Exposition(pub(super) Arc<Cells>);

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposition")
    }
}

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut text = Text(encoder);
        gateway(&mut text, &self.0)?;
        exchanges(&mut text, &self.0)?;
        policies(&mut text, &self.0)?;
        upstreams(&mut text, &self.0)?;
        listeners(&mut text, &self.0)?;
        guests(&mut text, &self.0)
    }
}

fn gateway(text: &mut Text<'_>, cells: &Cells) -> Result<(), Error> {
    let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let uptime = cells.clock.monotonic_nanos().saturating_sub(cells.started_nanos) as f64 / 1e9;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let reloads = [
        ([("outcome", "ok")], load(&cells.reloads)),
        ([("outcome", "refused")], load(&cells.reloads_failed)),
    ];
    text.gauges("witgate_build_info", "The running version", [(version, 1_u64)])?;
    text.gauges("witgate_uptime_seconds", "Time since the gateway started", [(NONE, uptime)])?;
    text.counters("witgate_config_reloads", "Configurations that took effect or were refused", reloads)?;
    let generation = [(NONE, load(&cells.generation))];
    text.gauges("witgate_config_generation", "Number of the configuration in effect", generation)?;
    let lines = [(NONE, cells.access_log.lines.get())];
    text.counters("witgate_access_log_lines", "Lines written to the access log", lines)?;
    let dropped = [(NONE, cells.access_log.dropped.get())];
    text.counters("witgate_access_log_dropped_lines", "Lines the access log could not take", dropped)?;

    let process = Process::read();
    let started = [(NONE, cells.started.as_secs_f64())];
    text.gauges("process_start_time_seconds", "When the process started, since the epoch", started)?;
    let resident = process.resident_bytes.map(|bytes| (NONE, bytes));
    text.gauges("process_resident_memory_bytes", "Memory in use", resident)?;
    text.gauges("process_open_fds", "Open file descriptors", process.open_fds.map(|fds| (NONE, fds)))?;
    let cpu = process.cpu_seconds.map(|seconds| (NONE, seconds));
    text.counters("process_cpu_seconds", "User and system time spent", cpu)
}

fn exchanges(text: &mut Text<'_>, cells: &Cells) -> Result<(), Error> {
    let apis = cells.apis.all();
    let outcomes: Vec<_> = apis.iter().map(|(api, cells)| (api.as_str(), cells.outcomes())).collect();
    let series = outcomes.iter().flat_map(|(api, outcomes)| {
        outcomes.iter().map(move |((status, reason), count)| {
            let status = status.map_or_else(|| "other".to_owned(), |status| status.to_string());
            ((([("api", *api)], [("status", status)]), [("reason", *reason)]), *count)
        })
    });
    text.counters("witgate_exchanges", "Exchanges by answer and why", series)?;
    let series = apis.iter().map(|(api, cells)| ([("api", api.as_str())], cells.total()));
    text.histograms(
        "witgate_exchange_duration_seconds",
        "From a request's head to its answer's end",
        series,
    )?;
    let series = apis.iter().map(|(api, cells)| ([("api", api.as_str())], cells.upstream()));
    text.histograms("witgate_upstream_duration_seconds", "Until the upstream's head arrived", series)?;
    let series = apis.iter().map(|(api, cells)| ([("api", api.as_str())], cells.bytes_in()));
    text.counters("witgate_request_bytes", "Bytes of request bodies", series)?;
    let series = apis.iter().map(|(api, cells)| ([("api", api.as_str())], cells.bytes_out()));
    text.counters("witgate_response_bytes", "Bytes of response bodies", series)?;

    let consumers = cells.consumers.all();
    let series = consumers.iter().map(|((consumer, product), cells)| {
        ([("consumer", consumer.as_str()), ("product", product.as_str())], cells.exchanges.get())
    });
    text.counters("witgate_consumer_exchanges", "Exchanges by who called", series)
}

fn policies(text: &mut Text<'_>, cells: &Cells) -> Result<(), Error> {
    let policies = cells.policies.all();
    let hooks = || policies.iter().flat_map(|policy| Hook::ALL.iter().map(move |hook| (policy, *hook)));
    let called = hooks().filter_map(|((policy, cells), hook)| {
        let labels = [("policy", policy.as_str()), ("hook", hook.label())];
        let calls = cells.calls(hook);
        (calls > 0).then_some((labels, calls, cells.nanos(hook)))
    });
    let called: Vec<_> = called.collect();
    let series = called.iter().map(|(labels, calls, _)| (*labels, *calls));
    text.counters("witgate_policy_calls", "Calls of a policy's hooks", series)?;
    let verdicts = hooks().flat_map(|((policy, cells), hook)| {
        Verdict::ALL.iter().filter_map(move |verdict| {
            let labels = [("policy", policy.as_str()), ("hook", hook.label()), ("verdict", verdict.label())];
            let count = cells.verdicts(hook, *verdict);
            (count > 0).then_some((labels, count))
        })
    });
    text.counters("witgate_policy_verdicts", "How calls of a policy's hooks ended", verdicts)?;
    let series = called.iter().map(|(labels, _, nanos)| (*labels, seconds(*nanos)));
    text.counters("witgate_policy_seconds", "Time spent in a policy's hooks", series)?;
    let series = policies.iter().map(|(policy, cells)| ([("policy", policy.as_str())], cells.durations()));
    text.histograms("witgate_policy_call_duration_seconds", "Time of one call of a hook", series)?;
    let series =
        policies.iter().map(|(policy, cells)| ([("policy", policy.as_str())], cells.instances.get()));
    text.gauges("witgate_policy_instances", "Instances of a policy alive", series)?;
    let series =
        policies.iter().map(|(policy, cells)| ([("policy", policy.as_str())], cells.quarantined.get()));
    text.gauges("witgate_policy_quarantined", "Not 0 while a policy is out of service", series)
}

fn upstreams(text: &mut Text<'_>, cells: &Cells) -> Result<(), Error> {
    let upstreams = cells.upstreams.all();
    let each = |pick: fn(&super::UpstreamMetrics) -> u64| {
        upstreams.iter().map(move |(name, cells)| ([("upstream", name.as_str())], pick(cells)))
    };
    let level = |pick: fn(&super::UpstreamMetrics) -> i64| {
        upstreams.iter().map(move |(name, cells)| ([("upstream", name.as_str())], pick(cells)))
    };
    let requests = each(|cells| cells.requests.get());
    text.counters("witgate_upstream_requests", "Requests sent, retries included", requests)?;
    let failures = upstreams.iter().flat_map(|(name, cells)| {
        let labels = move |reason: &'static str| [("upstream", name.as_str()), ("reason", reason)];
        cells.failures().map(move |(reason, count)| (labels(reason.label()), count))
    });
    text.counters("witgate_upstream_failures", "Requests that failed, and why", failures)?;
    let retries = each(|cells| cells.retries.get());
    text.counters("witgate_upstream_retries", "Requests that were sent again", retries)?;
    let ejections = each(|cells| cells.ejections.get());
    text.counters("witgate_upstream_ejections", "Endpoints taken out for failing", ejections)?;
    let connections = each(|cells| cells.connections.get());
    text.counters("witgate_upstream_connections", "Connections opened", connections)?;
    let active = level(|cells| cells.active.get());
    text.gauges("witgate_upstream_active_requests", "Requests in flight", active)?;
    let endpoints = level(|cells| cells.endpoints.get());
    text.gauges("witgate_upstream_endpoints", "Endpoints configured", endpoints)?;
    let healthy = level(|cells| cells.endpoints_healthy.get());
    text.gauges("witgate_upstream_healthy_endpoints", "Endpoints that take traffic", healthy)?;
    let latency = upstreams.iter().map(|(name, cells)| ([("upstream", name.as_str())], cells.latency.get()));
    text.histograms("witgate_upstream_latency_seconds", "From a request to the head of its answer", latency)
}

fn listeners(text: &mut Text<'_>, cells: &Cells) -> Result<(), Error> {
    let listeners = cells.listeners.all();
    let each = |pick: fn(&super::ListenerMetrics) -> u64| {
        listeners.iter().map(move |(name, cells)| ([("listener", name.as_str())], pick(cells)))
    };
    let accepted = each(|cells| cells.accepted.get());
    text.counters("witgate_connections", "Connections accepted", accepted)?;
    let active = listeners.iter().map(|(name, cells)| ([("listener", name.as_str())], cells.active.get()));
    text.gauges("witgate_active_connections", "Connections open", active)?;
    let refused = each(|cells| cells.refused.get());
    text.counters("witgate_refused_connections", "Connections closed at once, over a limit", refused)?;
    let failures = each(|cells| cells.handshake_failures.get());
    text.counters("witgate_handshake_failures", "TLS handshakes that failed or took too long", failures)?;
    let errors = each(|cells| cells.accept_errors.get());
    text.counters("witgate_accept_errors", "Errors of accept itself", errors)?;
    let expiry = listeners.iter().filter_map(|(name, cells)| {
        Some(([("listener", name.as_str())], i64::try_from(cells.certificate_expiry()?).ok()?))
    });
    let help = "When the first certificate of a listener expires, since the epoch";
    text.gauges("witgate_certificate_expiry_seconds", help, expiry)
}

fn guests(text: &mut Text<'_>, cells: &Cells) -> Result<(), Error> {
    // Copied out, so that no policy that configures itself waits for a slow scrape.
    let families = lock(&cells.guests).families();
    for family in families {
        let help = "Defined by a policy";
        match family {
            Family::Counter { name, series } => text.counters(&format!("{PREFIX}{name}"), help, series)?,
            Family::Gauge { name, series } => text.gauges(&format!("{PREFIX}{name}"), help, series)?,
            Family::Histogram { name, series } => {
                text.histograms(&format!("{PREFIX}{name}"), help, series)?
            }
        }
    }
    Ok(())
}

/// No labels.
const NONE: [(&str, &str); 0] = [];

/// Writes families; one without series is left out whole.
struct Text<'a>(DescriptorEncoder<'a>);

impl Text<'_> {
    fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> Result<(), Error> {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, V, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> Result<(), Error> {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn histograms<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, Observed)>,
    ) -> Result<(), Error> {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, observed) in series {
            let Observed { sum, count, buckets } = observed;
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::telemetry::metric::Metrics;
    use crate::telemetry::reason::Reason;
    use std::collections::HashSet;
    use std::time::Duration;

    fn filled() -> (Metrics, Clock) {
        let clock = Clock::manual(Duration::from_secs(1_000));
        let metrics = Metrics::new(2, &clock);
        let api = metrics.api("employee-api");
        let (total, upstream) = (Duration::from_millis(3), Duration::from_millis(2));
        api.exchange(200, Reason::Proxied, total, Some(upstream), 10, 1_024);
        api.exchange(401, Reason::Answered, total, None, 0, 5);
        metrics.consumer("mobile-app", "starter").exchange();
        let policy = metrics.policy("corporate-jwt");
        policy.call(Hook::Request, Verdict::Proceed, 1_500);
        policy.call(Hook::Request, Verdict::Trap, 500_000_000);
        policy.call(Hook::Response, Verdict::Busy, 0);
        policy.instances.add(3);
        let upstream = metrics.upstream("employees");
        upstream.requests.add(1);
        upstream.active.add(1);
        upstream.failed(Reason::ConnectFailed);
        upstream.answered(Duration::from_millis(7));
        upstream.endpoints(2, 1);
        metrics.listener("public").accepted.add(1);
        metrics.reload_succeeded(4);
        metrics.reload_failed();
        let labels = [("path".to_owned(), "a\"b\\c\nd".to_owned())];
        metrics.guest("corporate-jwt", GuestKind::Counter, "tokens_total", &labels).unwrap().add(2.5);
        metrics.guest("corporate-jwt", GuestKind::Gauge, "keys", &[]).unwrap().observe(3.0);
        metrics.guest("other", GuestKind::Histogram, "size", &[]).unwrap().observe(12.0);
        clock.advance(Duration::from_secs(90));
        (metrics, clock)
    }

    fn encode(metrics: &Metrics) -> String {
        let mut text = String::new();
        metrics.encode(&mut text);
        text
    }

    #[test]
    fn what_was_counted_is_exposed() {
        let text = encode(&filled().0);
        let expected = [
            r#"witgate_exchanges_total{api="employee-api",status="200",reason="proxied"} 1"#,
            r#"witgate_exchanges_total{api="employee-api",status="401",reason="answered"} 1"#,
            r#"witgate_exchange_duration_seconds_bucket{api="employee-api",le="0.0025"} 0"#,
            r#"witgate_exchange_duration_seconds_bucket{api="employee-api",le="0.005"} 2"#,
            r#"witgate_exchange_duration_seconds_bucket{api="employee-api",le="+Inf"} 2"#,
            r#"witgate_exchange_duration_seconds_sum{api="employee-api"} 0.006"#,
            r#"witgate_upstream_duration_seconds_count{api="employee-api"} 1"#,
            r#"witgate_request_bytes_total{api="employee-api"} 10"#,
            r#"witgate_response_bytes_total{api="employee-api"} 1029"#,
            r#"witgate_consumer_exchanges_total{consumer="mobile-app",product="starter"} 1"#,
            r#"witgate_policy_calls_total{policy="corporate-jwt",hook="request"} 2"#,
            r#"witgate_policy_verdicts_total{policy="corporate-jwt",hook="request",verdict="trap"} 1"#,
            r#"witgate_policy_verdicts_total{policy="corporate-jwt",hook="response",verdict="busy"} 1"#,
            r#"witgate_policy_seconds_total{policy="corporate-jwt",hook="request"} 0.5000015"#,
            r#"witgate_policy_call_duration_seconds_bucket{policy="corporate-jwt",le="2.5e-06"} 1"#,
            r#"witgate_policy_instances{policy="corporate-jwt"} 3"#,
            r#"witgate_policy_quarantined{policy="corporate-jwt"} 0"#,
            r#"witgate_upstream_requests_total{upstream="employees"} 1"#,
            r#"witgate_upstream_failures_total{upstream="employees",reason="connect_failed"} 1"#,
            r#"witgate_upstream_active_requests{upstream="employees"} 1"#,
            r#"witgate_upstream_healthy_endpoints{upstream="employees"} 1"#,
            r#"witgate_upstream_latency_seconds_count{upstream="employees"} 1"#,
            r#"witgate_connections_total{listener="public"} 1"#,
            r#"witgate_config_reloads_total{outcome="ok"} 1"#,
            r#"witgate_config_reloads_total{outcome="refused"} 1"#,
            "witgate_config_generation 4",
            "witgate_uptime_seconds 90.0",
            "process_start_time_seconds 1000.0",
            r#"witgate_policy_tokens_total{policy="corporate-jwt",path="a\"b\\c\nd"} 2.5"#,
            r#"witgate_policy_keys{policy="corporate-jwt"} 3.0"#,
            r#"witgate_policy_size_bucket{policy="other",le="25"} 1"#,
        ];
        for line in expected {
            assert!(text.lines().any(|held| held == line), "no line {line}\n{text}");
        }
        assert!(!text.contains(r#"hook="tick""#), "hooks never called are left out");
    }

    /// The rules of the text format that a scraper enforces: a family is described once, before
    /// its samples and apart from others; no series comes twice; every value is a number.
    #[test]
    fn the_text_is_valid() {
        let text = encode(&filled().0);
        let (mut families, mut series) = (HashSet::new(), HashSet::new());
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.insert(name), "{name} is described twice");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(kind != "counter" || name.ends_with("_total") && !name.ends_with("_total_total"));
                family = name;
            } else if !line.starts_with("# HELP ") {
                let (labelled, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(series.insert(labelled), "{labelled} comes twice");
                let name = labelled.split('{').next().unwrap();
                let part = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} is not of {family}"));
                assert!(["", "_bucket", "_sum", "_count"].contains(&part), "{line}");
            }
        }
        assert!(text.ends_with('\n') && families.len() > 30);
    }

    #[test]
    fn the_gateways_own_names_are_closed_to_policies() {
        let (metrics, _) = filled();
        let text = encode(&metrics);
        let own = text.lines().filter_map(|line| line.strip_prefix("# TYPE witgate_policy_"));
        for line in own {
            let (name, kind) = line.split_once(' ').unwrap();
            let name = name.strip_suffix("_total").unwrap_or(name);
            if ["tokens", "keys", "size"].contains(&name) {
                continue;
            }
            assert!(metrics.guest("p", GuestKind::Gauge, name, &[]).is_err(), "{name} {kind}");
        }
    }

    #[test]
    fn nothing_counted_is_valid_too() {
        let text = encode(&Metrics::new(0, &Clock::system()));
        assert!(text.contains("witgate_build_info{version=\""), "{text}");
        assert!(!text.contains("witgate_exchanges"));
    }
}
