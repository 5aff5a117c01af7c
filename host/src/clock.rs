//! Time and randomness, as every other room sees them.
//!
//! Called by whatever must know the time or draw a number; tests bring a clock of their own, so
//! that windows, back-off and quarantine can be tested without waiting. Never sleeps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from. Cheap to clone; a clone shows the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { start: Instant },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    nanos: AtomicU64,
    unix_start: Duration,
}

impl Clock {
    /// The machine's own clocks.
    pub fn system() -> Clock {
        Clock(Source::System { start: Instant::now() })
    }

    /// A clock that stands still until `advance` moves it; it starts at `unix_start` after the
    /// epoch.
    pub fn manual(unix_start: Duration) -> Clock {
        Clock(Source::Manual(Arc::new(Manual { nanos: AtomicU64::new(0), unix_start })))
    }

    /// Moves a manual clock on; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.nanos.fetch_add(nanos(by), Ordering::Relaxed);
        }
    }

    /// Nanoseconds since this clock was made; never goes back.
    pub fn monotonic_nanos(&self) -> u64 {
        match &self.0 {
            Source::System { start } => nanos(start.elapsed()),
            Source::Manual(manual) => manual.nanos.load(Ordering::Relaxed),
        }
    }

    /// Time since the Unix epoch; zero should the machine's clock stand before it.
    pub fn unix(&self) -> Duration {
        match &self.0 {
            Source::System { .. } => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Source::Manual(manual) => {
                manual.unix_start + Duration::from_nanos(manual.nanos.load(Ordering::Relaxed))
            }
        }
    }
}

/// Fills `bytes` from the operating system's generator, by way of the TLS library's.
///
/// # Panics
/// Only if the operating system has no randomness to give, where nothing secure can go on.
pub fn random_bytes(bytes: &mut [u8]) {
    #[expect(clippy::expect_used, reason = "no gateway can go on without randomness")]
    aws_lc_rs::rand::fill(bytes).expect("the operating system gives randomness");
}

/// A random number, uniformly drawn.
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    random_bytes(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Duration::from_secs(100));
        assert_eq!(clock.unix(), Duration::from_secs(100));
        clock.advance(Duration::from_millis(5));
        assert_eq!(clock.monotonic_nanos(), 5_000_000);
        assert_eq!(clock.clone().unix(), Duration::from_millis(100_005));
    }

    #[test]
    fn randomness_differs() {
        assert_ne!((random_u64(), random_u64()), (random_u64(), random_u64()));
    }
}
