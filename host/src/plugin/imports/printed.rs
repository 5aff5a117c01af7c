//! What a guest's language prints, made into lines of its policy's log.
//!
//! `log.print` and WASI's standard streams end here. Bounded for the life of the instance; a line
//! that was not finished is logged when the instance goes, as the last words of a panic are.

use super::log::MESSAGE_BYTES_MAX;
use crate::plugin::policy::About;
use crate::telemetry::trace::one_line;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// Bytes that a line may have before it is logged in pieces.
const LINE_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// Lines that one instance may print in its life; a guest that prints for each request drowns
/// everything else.
const LINES_MAX: u32 = 10_000;

/// Bytes that one call may print; the rest of it is dropped. What is printed is looked at byte by
/// byte, in time that is nobody's but the gateway's.
const CALL_BYTES_MAX: usize = 64 << 10;

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
        if self.left == 0 {
            return;
        }
        for byte in bytes.iter().take(CALL_BYTES_MAX) {
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
        tracing::info!(target: "policy", policy = &*self.about.label, "{}", one_line(&text, MESSAGE_BYTES_MAX));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::policy::Grants;

    fn printed() -> Printed {
        Printed::by(&Arc::new(About { label: "p".into(), grants: Grants::default() }))
    }

    fn state(printed: &Printed) -> (usize, u32) {
        let line = printed.0.lock().unwrap();
        (line.text.len(), LINES_MAX - line.left)
    }

    #[test]
    fn pieces_become_lines_and_a_long_line_is_cut() {
        let printed = printed();
        printed.push(b"a piece, ");
        assert_eq!(state(&printed), (9, 0));
        printed.push(b"and the rest\n\nmore");
        assert_eq!(state(&printed), (4, 1));
        printed.push(&[b'x'; LINE_BYTES_MAX]);
        assert_eq!(state(&printed), (4, 2));
        printed.end();
        assert_eq!(state(&printed), (0, 3));
    }

    #[test]
    fn a_flood_ends() {
        let printed = printed();
        let flood = [b'\n', b'x'].repeat(CALL_BYTES_MAX);
        for _ in 0..10 {
            printed.push(&flood);
        }
        let (kept, lines) = state(&printed);
        assert!(kept <= 1 && lines == LINES_MAX, "{kept} bytes, {lines} lines");
    }
}
