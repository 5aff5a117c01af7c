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
    /// Where the sequence of its random numbers stands.
    seed: AtomicU64,
}

impl Clock {
    /// The machine's own clocks.
    pub fn system() -> Clock {
        Clock(Source::System { start: Instant::now() })
    }

    /// A clock that stands still until `advance` moves it; it starts at `unix_start` after the
    /// epoch.
    pub fn manual(unix_start: Duration) -> Clock {
        Clock::seeded(unix_start, 0)
    }

    /// A manual clock whose `random` numbers follow from `seed`: for trials only, nothing secret
    /// may come of them.
    pub fn seeded(unix_start: Duration, seed: u64) -> Clock {
        let manual = Manual { nanos: AtomicU64::new(0), unix_start, seed: AtomicU64::new(seed) };
        Clock(Source::Manual(Arc::new(manual)))
    }

    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Random bytes: the operating system's, or what follows from a manual clock's seed.
    pub fn random(&self, bytes: &mut [u8]) {
        match &self.0 {
            Source::System { .. } => random_bytes(bytes),
            Source::Manual(manual) => {
                for chunk in bytes.chunks_mut(8) {
                    let word = manual.draw().to_le_bytes();
                    chunk.copy_from_slice(&word[..chunk.len()]);
                }
            }
        }
    }

    /// Moves a manual clock on; does nothing to the system's.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual.nanos.fetch_add(nanos(by), Ordering::Relaxed);
        }
    }

    /// Nanoseconds since this clock was made; never goes back.
    pub fn monotonic_nanos(&self) -> u64 {
        self.nanos_at(Instant::now)
    }

    /// As `monotonic_nanos`, when the system's clock has been read already; a manual one goes its
    /// own way.
    pub fn nanos_at(&self, now: impl FnOnce() -> Instant) -> u64 {
        match &self.0 {
            Source::System { start } => nanos(now().saturating_duration_since(*start)),
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

impl Manual {
    /// SplitMix64: short, and good enough for numbers that must only be the same again.
    fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut word = self.seed.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
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
    fn the_same_seed_gives_the_same_numbers() {
        let drawn = |seed| {
            let clock = Clock::seeded(Duration::ZERO, seed);
            let mut bytes = [0; 20];
            clock.random(&mut bytes);
            bytes
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert_ne!(drawn(7)[..8], drawn(7)[8..16]);
    }

    #[test]
    fn randomness_differs() {
        assert_ne!((random_u64(), random_u64()), (random_u64(), random_u64()));
    }
}
