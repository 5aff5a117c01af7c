//! What a guest's language prints, made into lines of its policy's log.
//!
//! `log.print` and WASI's standard streams end here. Bounded for the life of the instance; a line
//! that was not finished is logged when the instance goes, as the last words of a panic are.

use super::log::shorten;
use crate::plugin::policy::About;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Bytes that a line may have before it is logged in pieces.
const LINE_BYTES_MAX: usize = super::log::MESSAGE_BYTES_MAX;
/// Lines that one instance may print in its life; a guest that prints for each request drowns
/// everything else.
const LINES_MAX: u32 = 10_000;

/// Joins what is written into lines: Python writes a word at a time.
#[derive(Clone)]
pub(in crate::plugin) struct Printed(Arc<Mutex<Line>>);

impl Printed {
    pub(in crate::plugin) fn by(about: &Arc<About>) -> Printed {
        Printed(Arc::new(Mutex::new(Line { about: about.clone(), text: Vec::new(), left: LINES_MAX })))
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }

    /// Ends the line that was begun.
    pub(in crate::plugin) fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).log();
    }
}

struct Line {
    about: Arc<About>,
    text: Vec<u8>,
    left: u32,
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || self.text.len() >= LINE_BYTES_MAX {
                self.log();
            }
            if *byte != b'\n' {
                self.text.push(*byte);
            }
        }
    }

    fn log(&mut self) {
        let text = std::mem::take(&mut self.text);
        if self.left == 0 || text.is_empty() {
            return;
        }
        self.left -= 1;
        let text = String::from_utf8_lossy(&text);
        tracing::info!(target: "policy", policy = &*self.about.label, "{}", shorten(&text));
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}
