//! Active checks: asks each endpoint now and then whether it is well.
//!
//! Started by `server` on the control runtime, a task for each endpoint, which ends at its next turn
//! after the upstream is gone. Writes the endpoint's health, which `Pool::pick` reads. Never takes a
//! connection from a pool.

use super::settings::HealthSettings;
use super::{Upstream, fetch};
use crate::clock::random_u64;
use http::HeaderValue;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Checks are drawn this share of their interval, in per cent, to either side, so that gateways
/// started together do not knock together.
const JITTER_PERCENT: u64 = 10;
/// The shortest pause between checks, whatever the settings say.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Starts the checks of `upstream` on `control`, if its settings want any.
pub fn spawn_health(upstream: &Arc<Upstream>, control: &tokio::runtime::Handle) {
    let Some(health) = &upstream.settings.health else { return };
    for index in 0..upstream.endpoints.len() {
        control.spawn(watch(Arc::downgrade(upstream), index, health.clone()));
    }
}

async fn watch(upstream: Weak<Upstream>, index: usize, health: HealthSettings) {
    let mut verdict = Verdict::default();
    loop {
        let Some(well) = check(&upstream, index, &health).await else { return };
        let Some(upstream) = upstream.upgrade() else { return };
        if let (Some(healthy), Some(endpoint)) =
            (verdict.add(well.is_ok(), &health), upstream.endpoints.get(index))
            && endpoint.set_healthy(healthy)
        {
            let (name, address) = (upstream.name(), &endpoint.address);
            match well {
                Ok(()) => tracing::info!(upstream = name, endpoint = %address, "endpoint is healthy again"),
                Err(why) => {
                    tracing::warn!(upstream = name, endpoint = %address, %why, "endpoint is unhealthy");
                }
            }
        }
        drop(upstream);
        tokio::time::sleep(jittered(health.interval.max(INTERVAL_MIN), random_u64())).await;
    }
}

/// `None`: the upstream is gone. Holds the endpoint alone while it waits for the answer.
async fn check(
    upstream: &Weak<Upstream>,
    index: usize,
    health: &HealthSettings,
) -> Option<Result<(), String>> {
    let (endpoint, protocol, host) = {
        let upstream = upstream.upgrade()?;
        let endpoint = upstream.endpoints.get(index)?.clone();
        let host: HeaderValue = upstream.fixed_host.as_ref().unwrap_or(&endpoint.host).clone();
        (endpoint, upstream.settings.protocol, host)
    };
    let answer = fetch::probe(&endpoint.dialer, protocol, &health.path, &host, health.timeout).await;
    Some(match answer {
        Ok(status) if status.is_success() || status.is_redirection() => Ok(()),
        Ok(status) => Err(format!("answered {status}")),
        Err(error) => Err(error.to_string()),
    })
}

/// Turns single answers into a verdict: so many alike in a row.
#[derive(Default)]
struct Verdict {
    successes: u32,
    failures: u32,
}

impl Verdict {
    fn add(&mut self, well: bool, health: &HealthSettings) -> Option<bool> {
        if well {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
            (self.successes >= health.healthy_after).then_some(true)
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
            (self.failures >= health.unhealthy_after).then_some(false)
        }
    }
}

fn jittered(interval: Duration, random: u64) -> Duration {
    let percent = 100 - JITTER_PERCENT + random % (2 * JITTER_PERCENT + 1);
    interval.saturating_mul(u32::try_from(percent).unwrap_or(100)) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> HealthSettings {
        HealthSettings {
            path: "/healthz".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }

    #[test]
    fn it_takes_several_in_a_row() {
        let (health, mut verdict) = (health(), Verdict::default());
        let said: Vec<_> = [false, false, true, false, false, false, true, true]
            .map(|well| verdict.add(well, &health))
            .into();
        let (out, back) = (Some(false), Some(true));
        assert_eq!(said, [None, None, None, None, None, out, None, back]);
    }

    #[test]
    fn jitter_stays_near_the_interval() {
        for random in 0..100 {
            let interval = jittered(Duration::from_secs(10), random);
            assert!((Duration::from_secs(9)..=Duration::from_secs(11)).contains(&interval));
        }
    }
}
