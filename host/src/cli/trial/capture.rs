//! What policies log and call while a case runs: taken from the gateway's own events.
//!
//! `stage` runs each case under a subscriber of this thread's own. Never shows an event itself.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Lines of either kind that one case keeps.
const LINES_MAX: usize = 10_000;

#[derive(Clone, Default)]
pub struct Capture(Arc<Mutex<Heard>>);

/// What was heard since it was asked for last.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// `LEVEL text`.
    pub log: Vec<String>,
    /// `interface.function(what)`.
    pub calls: Vec<String>,
}

impl Capture {
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(self.clone()), work)
    }

    pub fn take(&self) -> Heard {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Text::default();
        match event.metadata().target() {
            "policy" if heard.log.len() < LINES_MAX => {
                event.record(&mut text);
                // A failure is told by the hook's own result.
                if !text.exchange {
                    let level = event.metadata().level().as_str().to_ascii_lowercase();
                    heard.log.push(format!("{level} {}", text.message));
                }
            }
            "hostcall" if heard.calls.len() < LINES_MAX => {
                event.record(&mut text);
                heard.calls.push(text.message);
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Text {
    message: String,
    /// The gateway speaks, of an exchange, and not the policy itself.
    exchange: bool,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => drop(write!(self.message, "{value:?}")),
            "request" => self.exchange = true,
            _ => {}
        }
    }
}
