//! Diagnostics: how `tracing` events are shown, and how repeated ones are held back.
//!
//! `cli` sets it up once; whoever can fail at every request asks a `Throttle` before it logs.
//! Never carries exchanges: those have the access log.

use super::queue::Queue;
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Which events are shown: the syntax of `tracing_subscriber`, such as `info,witgate::upstream=debug`.
pub const FILTER_VARIABLE: &str = "WITGATE_LOG";
const FILTER_DEFAULT: &str = "info";
const QUIET: &str = "h2=error";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// For how long the end of the process waits for a reader of standard error.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Shows events on standard error; standard output may be the access log's. Once a process.
///
/// # Errors
/// A sentence for the operator: the filter is none, or there is a subscriber already.
pub fn init(format: Format) -> Result<(), String> {
    subscribe(format, std::io::stderr)
}

/// As `init`, but whoever logs never waits for standard error, which a worker must not.
///
/// # Errors
/// As of `init`, or there is no thread.
pub fn init_queued(format: Format) -> Result<Queued, String> {
    let queue = Arc::<Queue>::default();
    let writer = Arc::clone(&queue);
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || writer.run(std::io::stderr(), |lines| told_dropped(format, lines)))
        .map_err(|error| format!("no thread for the log: {error}"))?;
    let queued = Queued(queue);
    let lines = queued.clone();
    subscribe(format, move || lines.clone())?;
    Ok(queued)
}

/// Said by the queue itself, in whose thread no event may arise that it would have to write.
fn told_dropped(format: Format, lines: u64) -> String {
    let message = "lines of this log were dropped: nobody took them in time";
    match format {
        Format::Text => format!("WARN {message} lines={lines}\n"),
        Format::Json => format!("{{\"level\":\"WARN\",\"message\":\"{message}\",\"lines\":{lines}}}\n"),
    }
}

/// The way to standard error by a queue.
#[derive(Clone, Debug)]
pub struct Queued(Arc<Queue>);

impl Queued {
    /// A line that is no event.
    pub fn say(&self, line: &str) {
        self.0.push(format!("{line}\n").as_bytes());
    }

    /// Before the process ends: waits for what was said, but not for ever.
    pub fn flush(&self) {
        self.0.flush(FLUSH_PATIENCE);
    }
}

/// An event comes as one piece, with its end.
impl Write for Queued {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn subscribe<W>(format: Format, writer: W) -> Result<(), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = filter(std::env::var(FILTER_VARIABLE).ok().as_deref())?;
    let colour =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // Told on standard error too, which panics when that is what takes nothing.
        .log_internal_errors(false)
        .with_ansi(colour);
    match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| error.to_string())
}

fn filter(text: Option<&str>) -> Result<EnvFilter, String> {
    let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(FILTER_DEFAULT);
    // The library warns of each odd frame, so that any client could fill the log; first, so that it can be
    // asked for.
    EnvFilter::try_new(format!("{QUIET},{text}"))
        .map_err(|error| format!("{FILTER_VARIABLE}={text:?} is no filter: {error}"))
}

/// A stranger's text as a part of one line: no character of it can begin another line, or reach a
/// terminal as a command, and no more than `bytes_max` of it is shown.
pub fn one_line(text: &str, bytes_max: usize) -> Cow<'_, str> {
    let end = (0..=text.len().min(bytes_max)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let (kept, cut) = (&text[..end], end < text.len());
    if !cut && !kept.contains(breaks) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(kept.len() + 16);
    for letter in kept.chars() {
        match breaks(letter) {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    if cut {
        line.push('…');
    }
    Cow::Owned(line)
}

/// Controls, and what else ends a line or turns its direction where it is shown.
fn breaks(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Lets an event that may come with every request through once a second, and says how many it
/// held back. Lock-free; one for each thing that can fail, where it has an owner.
#[derive(Debug, Default)]
pub struct Repeated {
    /// Milliseconds, plus one; 0: never.
    last: AtomicU64,
    suppressed: AtomicU64,
}

impl Repeated {
    const PERIOD_MILLIS: u64 = 1_000;

    pub const fn new() -> Repeated {
        Repeated { last: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// Whether to log now (`now` by any clock that does not go back): then, how many events were
    /// held back since the last that was logged.
    pub fn admit(&self, now: Duration) -> Option<u64> {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1);
        let last = self.last.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= Repeated::PERIOD_MILLIS;
        // Of several threads at the same moment, one logs.
        if due && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
}

/// `Repeated` by key, where what fails has no owner to keep one: a fixed table, so that no key
/// that a client makes up takes memory. Keys that share a place are held back together.
#[derive(Debug)]
pub struct Throttle {
    places: [Repeated; Throttle::PLACES],
    hasher: foldhash::fast::RandomState,
}

impl Throttle {
    const PLACES: usize = 64;

    pub fn new() -> Throttle {
        Throttle {
            places: [const { Repeated::new() }; Throttle::PLACES],
            hasher: foldhash::fast::RandomState::default(),
        }
    }

    /// See `Repeated::admit`.
    pub fn admit(&self, key: &str, now: Duration) -> Option<u64> {
        let place = self.hasher.hash_one(key) % Throttle::PLACES as u64;
        self.places.get(place as usize).and_then(|repeated| repeated.admit(now))
    }
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_and_the_mistake_is_named() {
        assert_eq!(filter(None).unwrap().to_string(), "h2=error,info");
        assert_eq!(filter(Some(" ")).unwrap().to_string(), "h2=error,info");
        assert_eq!(filter(Some("h2=trace")).unwrap().to_string(), "h2=trace");
        assert!(filter(Some("warn,witgate::upstream=debug")).is_ok());
        let told = filter(Some("witgate=loud")).unwrap_err();
        assert!(told.starts_with("WITGATE_LOG=\"witgate=loud\" is no filter"), "{told}");
    }

    #[test]
    fn a_strangers_text_stays_on_its_line() {
        assert_eq!(one_line("plain, ümlaut \\n", 99), "plain, ümlaut \\n");
        assert_eq!(
            one_line("a\r\n\u{1b}[2J\u{85}\u{2028}\u{202e}b", 99),
            r"a\r\n\u{1b}[2J\u{85}\u{2028}\u{202e}b"
        );
        assert_eq!(one_line("äää", 3), "ä…");
        assert_eq!(one_line("", 0), "");
    }

    #[test]
    fn what_was_dropped_is_told_in_the_logs_own_format() {
        let told = told_dropped(Format::Json, 7);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told["level"], &told["lines"]), (&"WARN".into(), &7.into()));
        assert!(told_dropped(Format::Text, 7).ends_with(" lines=7\n"));
    }

    #[test]
    fn one_event_a_second_and_the_count_of_the_others() {
        let repeated = Repeated::new();
        let at = Duration::from_millis;
        assert_eq!(repeated.admit(at(0)), Some(0));
        assert_eq!((repeated.admit(at(0)), repeated.admit(at(999))), (None, None));
        assert_eq!(repeated.admit(at(1_000)), Some(2));
        assert_eq!(repeated.admit(at(500)), None, "a clock that went back admits nothing");
        assert_eq!(repeated.admit(Duration::MAX), Some(1));
    }

    #[test]
    fn threads_admit_one_between_them() {
        let repeated = Repeated::new();
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        admitted.fetch_add(
                            u64::from(repeated.admit(Duration::ZERO).is_some()),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!((admitted.into_inner(), repeated.suppressed.into_inner()), (1, 399));
    }

    #[test]
    fn keys_are_held_back_apart() {
        let throttle = Throttle::new();
        assert_eq!(throttle.admit("a", Duration::ZERO), Some(0));
        assert_eq!(throttle.admit("a", Duration::ZERO), None);
        let others = (0..1_000).filter(|key| throttle.admit(&key.to_string(), Duration::ZERO).is_some());
        assert!((1..64).contains(&others.count()));
    }
}
