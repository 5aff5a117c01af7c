//! `log`: a policy's own lines in the gateway's log, named after it and bounded per call.

use crate::plugin::bindings::witgate::policy::log::{Host, Level};
use crate::plugin::guest::Guest;
use crate::telemetry::trace::one_line;
use tracing::level_filters::LevelFilter;

/// Bytes of one message that are kept.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 10;

impl Host for Guest {
    fn max_level(&mut self) -> Level {
        match LevelFilter::current().into_level() {
            Some(tracing::Level::TRACE) => Level::Trace,
            Some(tracing::Level::DEBUG) => Level::Debug,
            Some(tracing::Level::INFO) => Level::Info,
            Some(tracing::Level::WARN) => Level::Warn,
            Some(tracing::Level::ERROR) | None => Level::Error,
        }
    }

    fn write(&mut self, level: Level, message: String) {
        if self.lines_left == 0 {
            return;
        }
        self.lines_left -= 1;
        let policy = &*self.about.label;
        let message = one_line(&message, MESSAGE_BYTES_MAX);
        match level {
            Level::Trace => tracing::trace!(target: "policy", policy, "{message}"),
            Level::Debug => tracing::debug!(target: "policy", policy, "{message}"),
            Level::Info => tracing::info!(target: "policy", policy, "{message}"),
            Level::Warn => tracing::warn!(target: "policy", policy, "{message}"),
            Level::Error => tracing::error!(target: "policy", policy, "{message}"),
        }
    }

    fn print(&mut self, bytes: Vec<u8>) {
        self.printed().push(&bytes);
    }
}
