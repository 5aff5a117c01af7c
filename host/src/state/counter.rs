//! Quota counters: how many requests a consumer has made under a product in this period.
//!
//! `consumer` takes its counters out when a configuration is compiled and charges them on the
//! request path with one atomic step; `server` opens and closes the whole. A thread of its own
//! writes what changed to the state file once a second, and while that fails less and less often,
//! down to once a minute. Never touches the disk, nor a lock, in `charge`.
//!
//! Periods are aligned to the Unix epoch: the window is the number of whole periods since then,
//! so a day begins at midnight UTC, a restart lands in the same window, and several gateways
//! agree without talking. A counter belongs to consumer, product and period; a changed period
//! starts a new one, a changed limit does not. A crash loses at most the last second's requests.

use super::StateError;
use super::file::{QuotaFile, Row};
use crate::clock::Clock;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ten times the hundred thousand consumers that the directory is built for.
pub const COUNTERS_MAX: usize = 1_000_000;
const FLUSH_PERIOD: Duration = Duration::from_secs(1);
/// Between tries while the file cannot be written. Each opens it anew and looks it all over, which
/// a full disk should not have to bear every second.
const RETRY_PERIOD_MAX: Duration = Duration::from_secs(60);

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    pub requests: u64,
    pub resets_in: Duration,
}

/// The quota of this period is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub retry_after: Duration,
}

/// The counter of one consumer under one product.
pub struct Counter {
    period_millis: u64,
    window: ArcSwap<Window>,
    /// What the file has; written by the flusher only.
    saved_window: AtomicU64,
    saved_used: AtomicU64,
}

struct Window {
    number: u64,
    used: AtomicU64,
}

impl Counter {
    fn new(period_millis: u64) -> Counter {
        Counter {
            period_millis,
            window: ArcSwap::from_pointee(Window { number: 0, used: AtomicU64::new(0) }),
            saved_window: AtomicU64::new(0),
            saved_used: AtomicU64::new(0),
        }
    }

    /// Counts one request if that leaves the window's count within `limit`. Exact: of parallel
    /// calls as many succeed as the limit has left. `now`: since the Unix epoch.
    pub fn charge(&self, limit: u64, now: Duration) -> Result<Remaining, Exceeded> {
        let now_millis = millis(now);
        let number = now_millis / self.period_millis;
        loop {
            let window = self.window.load();
            // Another worker may have read the clock just after us and opened the next window:
            // charge that one. Further ahead, the machine's clock was set back: begin anew rather
            // than hold a consumer to a window that will not end for long.
            if window.number != number && window.number != number + 1 {
                let fresh = Arc::new(Window { number, used: AtomicU64::new(0) });
                // Should another worker have been quicker, its window is charged.
                self.window.compare_and_swap(&*window, fresh);
                continue;
            }
            let ends_millis = (window.number + 1).saturating_mul(self.period_millis);
            let left = Duration::from_millis(ends_millis.saturating_sub(now_millis));
            let charged = window.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                (used < limit).then_some(used + 1)
            });
            return match charged {
                Ok(before) => Ok(Remaining { requests: limit - before - 1, resets_in: left }),
                Err(_) => Err(Exceeded { retry_after: left }),
            };
        }
    }

    /// Window and count, if the file does not have them.
    fn unsaved(&self) -> Option<(u64, u64)> {
        let window = self.window.load();
        let (number, used) = (window.number, window.used.load(Ordering::Relaxed));
        let saved = (self.saved_window.load(Ordering::Relaxed), self.saved_used.load(Ordering::Relaxed));
        (used > 0 && saved != (number, used)).then_some((number, used))
    }

    fn set_saved(&self, number: u64, used: u64) {
        self.saved_window.store(number, Ordering::Relaxed);
        self.saved_used.store(used, Ordering::Relaxed);
    }

    fn is_over(&self, now_millis: u64) -> bool {
        let window = self.window.load();
        window.used.load(Ordering::Relaxed) == 0 || window.number < now_millis / self.period_millis
    }
}

/// All quota counters, and the file that they survive a restart in.
///
/// Dropping it writes the file a last time and gives it back.
pub struct Counters {
    ledger: Arc<Ledger>,
    flusher: Option<(Sender<()>, JoinHandle<()>)>,
}

struct Ledger {
    clock: Clock,
    counters: Mutex<HashMap<Subject, Arc<Counter>>>,
    /// Held while flushing.
    file: Mutex<Option<QuotaFile>>,
    failing: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subject {
    pub(super) consumer: Arc<str>,
    pub(super) product: Arc<str>,
    pub(super) period_millis: u64,
}

impl Counters {
    /// Opens or creates the file and loads what it holds. `path` none: counts live in memory only.
    pub fn open(path: Option<&Path>, clock: Clock) -> Result<Counters, StateError> {
        let mut counters = match path {
            Some(path) => {
                let (file, rows) = QuotaFile::open(path)?;
                Counters::load(file, rows, clock)?
            }
            None => Counters { ledger: Ledger::new(clock, None), flusher: None },
        };
        // Without a file it still forgets what is over.
        counters.start_flusher().map_err(|error| StateError::NoThread { cause: error.to_string() })?;
        Ok(counters)
    }

    fn load(file: QuotaFile, rows: Vec<Row>, clock: Clock) -> Result<Counters, StateError> {
        let ledger = Ledger::new(clock, Some(file));
        if rows.len() > COUNTERS_MAX {
            return Err(StateError::TooManyCounters);
        }
        let mut counters = ledger.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for Row { subject, number, used } in rows {
            let counter = Counter::new(subject.period_millis.max(1));
            counter.window.store(Arc::new(Window { number, used: AtomicU64::new(used) }));
            counter.set_saved(number, used);
            counters.insert(subject, Arc::new(counter));
        }
        drop(counters);
        Ok(Counters { ledger, flusher: None })
    }

    fn start_flusher(&mut self) -> std::io::Result<()> {
        let ledger = Arc::clone(&self.ledger);
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("witgate-state".to_owned()).spawn(move || {
            let mut pause = FLUSH_PERIOD;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                pause = pause_after(ledger.flush(), pause);
            }
        })?;
        self.flusher = Some((stop, thread));
        Ok(())
    }

    /// The counter of this consumer under this product; the same one as long as the period is the
    /// same. For `compile`, not for the request path.
    pub fn counter(
        &self,
        consumer: &Arc<str>,
        product: &Arc<str>,
        period: Duration,
    ) -> Result<Arc<Counter>, StateError> {
        let subject = Subject {
            consumer: Arc::clone(consumer),
            product: Arc::clone(product),
            period_millis: millis(period).max(1),
        };
        let mut counters = self.ledger.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = counters.get(&subject) {
            return Ok(Arc::clone(counter));
        }
        if counters.len() >= COUNTERS_MAX {
            return Err(StateError::TooManyCounters);
        }
        let counter = Arc::new(Counter::new(subject.period_millis));
        counters.insert(subject, Arc::clone(&counter));
        Ok(counter)
    }

    /// Writes what changed since the last time and forgets counters that nobody holds and whose
    /// window is over. Blocks for the disk. True if the file now has everything; a failure is
    /// logged once, and tried again with the next flush.
    pub fn flush(&self) -> bool {
        self.ledger.flush()
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.flusher.take() {
            drop(stop);
            // A panic there has been reported by the panic hook.
            let _ = thread.join();
        }
        self.ledger.flush();
    }
}

impl Ledger {
    fn new(clock: Clock, file: Option<QuotaFile>) -> Arc<Ledger> {
        Arc::new(Ledger {
            clock,
            counters: Mutex::default(),
            file: Mutex::new(file),
            failing: AtomicBool::new(false),
        })
    }

    fn flush(&self) -> bool {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let now_millis = millis(self.clock.unix());
        let mut changed = Vec::new();
        let mut over = Vec::new();
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, counter) in counters.iter() {
            if Arc::strong_count(counter) == 1 && counter.is_over(now_millis) {
                over.push(subject.clone());
            } else if let Some((number, used)) = counter.unsaved() {
                let row = Row { subject: subject.clone(), number, used };
                changed.push((row, Arc::clone(counter)));
            }
        }
        drop(counters);
        if let Some(file) = file.as_mut() {
            let rows = changed.iter().map(|(row, _)| row);
            if let Err(cause) = file.write(rows, &over) {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%cause, "quota counters cannot be written; trying again, once a minute in the end");
                }
                return false;
            }
            if self.failing.swap(false, Ordering::Relaxed) {
                tracing::info!("quota counters are written again");
            }
        }
        for (row, counter) in &changed {
            counter.set_saved(row.number, row.used);
        }
        self.forget(&over, now_millis);
        true
    }

    /// Only after the file has forgotten them too, so that no row stays behind.
    fn forget(&self, over: &[Subject], now_millis: u64) {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for subject in over {
            let Some(counter) = counters.get(subject) else { continue };
            if Arc::strong_count(counter) == 1 && counter.is_over(now_millis) {
                counters.remove(subject);
            } else {
                // Taken up again meanwhile: the file no longer has it.
                counter.set_saved(0, 0);
            }
        }
    }
}

/// How long the thread waits for its next flush.
fn pause_after(written: bool, pause: Duration) -> Duration {
    if written { FLUSH_PERIOD } else { (pause * 2).min(RETRY_PERIOD_MAX) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::Disk;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    /// A quarter of a day into a day.
    const START: Duration = Duration::from_secs(86_400 * 20_000 + 21_600);

    #[test]
    fn a_window_ends_at_midnight() {
        let clock = Clock::manual(START);
        let counters = Counters::open(None, clock.clone()).unwrap();
        let counter = counters.counter(&"app".into(), &"starter".into(), DAY).unwrap();
        let left = counter.charge(2, clock.unix()).unwrap();
        assert_eq!(left, Remaining { requests: 1, resets_in: DAY * 3 / 4 });
        assert_eq!(counter.charge(2, clock.unix()).unwrap().requests, 0);
        assert_eq!(counter.charge(2, clock.unix()), Err(Exceeded { retry_after: DAY * 3 / 4 }));
        assert_eq!(counter.charge(3, clock.unix()).unwrap().requests, 0, "a raised limit counts on");
        assert!(counter.charge(0, clock.unix()).is_err());
        clock.advance(DAY * 3 / 4 - Duration::from_millis(1));
        assert!(counter.charge(2, clock.unix()).is_err());
        clock.advance(Duration::from_millis(1));
        assert_eq!(counter.charge(2, clock.unix()).unwrap().requests, 1);
    }

    #[test]
    fn a_clock_set_back_far_does_not_lock_out() {
        let counter = Counter::new(1_000);
        assert!(counter.charge(1, Duration::from_secs(5_000)).is_ok());
        assert!(counter.charge(1, Duration::from_secs(4_999)).is_err(), "a straggler");
        assert!(counter.charge(1, Duration::from_secs(10)).is_ok());
    }

    #[test]
    fn parallel_charges_are_exact_across_windows() {
        let counter = Counter::new(1_000);
        for second in 1..50 {
            let charged = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for _ in 0..50 {
                            if counter.charge(100, Duration::from_secs(second * 2)).is_ok() {
                                charged.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            assert_eq!(charged.into_inner(), 100);
        }
    }

    #[test]
    fn counts_survive_a_restart_and_old_windows_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.redb");
        let clock = Clock::manual(START);
        for round in 0..3 {
            let counters = Counters::open(Some(&path), clock.clone()).unwrap();
            let counter = counters.counter(&"app".into(), &"starter".into(), DAY).unwrap();
            assert_eq!(counter.charge(10, clock.unix()).unwrap().requests, 9 - round);
        }
        clock.advance(DAY);
        let counters = Counters::open(Some(&path), clock.clone()).unwrap();
        let counter = counters.counter(&"app".into(), &"starter".into(), DAY).unwrap();
        assert_eq!(counter.charge(10, clock.unix()).unwrap().requests, 9);
        drop((counter, counters));
        clock.advance(DAY);
        let counters = Counters::open(Some(&path), clock.clone()).unwrap();
        assert!(counters.flush());
        drop(counters);
        let (_, rows) = QuotaFile::open(&path).unwrap();
        assert!(rows.is_empty());
    }

    #[test]
    fn a_counter_that_is_held_is_not_forgotten() {
        let clock = Clock::manual(START);
        let counters = Counters::open(None, clock.clone()).unwrap();
        let counter = counters.counter(&"app".into(), &"starter".into(), DAY).unwrap();
        clock.advance(DAY * 5);
        assert!(counters.flush());
        assert!(Arc::ptr_eq(&counter, &counters.counter(&"app".into(), &"starter".into(), DAY).unwrap()));
        assert!(!Arc::ptr_eq(
            &counter,
            &counters.counter(&"app".into(), &"starter".into(), DAY * 2).unwrap()
        ));
        assert!(counters.flush());
        drop(counter);
        assert!(counters.flush());
        assert!(counters.ledger.counters.lock().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_tried_less_and_less_often() {
        let pauses = std::iter::successors(Some(FLUSH_PERIOD), |pause| Some(pause_after(false, *pause)));
        let seconds: Vec<_> = pauses.take(9).map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause_after(true, RETRY_PERIOD_MAX), FLUSH_PERIOD);
    }

    #[test]
    fn a_full_disk_stops_nothing_and_is_written_later() {
        let disk = Disk::default();
        let clock = Clock::manual(START);
        let (file, rows) = QuotaFile::on(disk.opener()).unwrap();
        let counters = Counters::load(file, rows, clock.clone()).unwrap();
        let counter = counters.counter(&"app".into(), &"starter".into(), DAY).unwrap();
        counter.charge(10, clock.unix()).unwrap();
        disk.fill(true);
        assert!(!counters.flush());
        assert_eq!(counter.charge(10, clock.unix()).unwrap().requests, 8);
        assert!(!counters.flush());
        disk.fill(false);
        assert!(counters.flush());
        drop((counter, counters));
        let (_, rows) = QuotaFile::on(disk.opener()).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].used, 2);
    }
}
