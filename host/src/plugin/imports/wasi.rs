//! WASI for the toolchains that cannot do without it: nothing but clocks, chance and a log.
//!
//! Dynamic languages import all of WASI whether they use it or not. They get no files, no
//! arguments, no environment and no sockets; what they print becomes log lines of their policy.

use super::log::shorten;
use crate::clock::Clock;
use crate::plugin::policy::About;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

/// Bytes that a line may have before it is logged in pieces.
const LINE_BYTES_MAX: usize = super::log::MESSAGE_BYTES_MAX;
/// Lines that one instance may print in its life; a guest that prints for each request drowns
/// everything else.
const LINES_MAX: u32 = 10_000;

/// Random bytes that a guest under a manual clock gets, again and again.
const TRIAL_BYTES: usize = 1 << 10;

pub(in crate::plugin) fn nothing(about: &Arc<About>, clock: &Clock) -> WasiCtx {
    let lines = Lines(Arc::new(Mutex::new(Line { about: about.clone(), text: Vec::new(), left: LINES_MAX })));
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(lines.clone()).stderr(lines).allow_tcp(false).allow_udp(false);
    // The system's clocks and chance are WASI's own already.
    if clock.is_manual() {
        let mut bytes = vec![0; TRIAL_BYTES];
        clock.random(&mut bytes);
        wasi.wall_clock(Shown(clock.clone()))
            .monotonic_clock(Shown(clock.clone()))
            .insecure_random(Deterministic::new(bytes.clone()))
            .secure_random(Deterministic::new(bytes))
            .insecure_random_seed(0);
    }
    wasi.build()
}

/// The gateway's clock as WASI shows it.
struct Shown(Clock);

impl HostWallClock for Shown {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }
    fn now(&self) -> Duration {
        self.0.unix()
    }
}

impl HostMonotonicClock for Shown {
    fn resolution(&self) -> u64 {
        1
    }
    fn now(&self) -> u64 {
        self.0.monotonic_nanos()
    }
}

/// Joins what is written into lines: Python writes a word at a time.
#[derive(Clone)]
struct Lines(Arc<Mutex<Line>>);

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

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).log();
        Poll::Ready(Ok(()))
    }
}
