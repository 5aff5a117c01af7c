//! The way of diagnostics to standard error: lines wait here, and a thread of their own writes them.
//!
//! `trace` fills it. Whoever logs never waits for the reader of standard error, which may have stopped
//! reading without going away: what does not fit is dropped, counted, and told of when there is room.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait.
const QUEUED_BYTES_MAX: usize = 1 << 20;
/// What a line costs beside its text.
const LINE_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is something to write.
    came: Condvar,
    /// Everything is written.
    gone: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Vec<u8>>,
    /// Of these, and of those that are being written.
    bytes: usize,
    dropped: u64,
    writing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0 && !self.writing
    }
}

impl Queue {
    /// A whole line with its end. Never waits for whoever reads.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        let bytes = state.bytes.saturating_add(line.len()).saturating_add(LINE_BYTES);
        if bytes > QUEUED_BYTES_MAX {
            state.dropped = state.dropped.saturating_add(1);
        } else {
            state.bytes = bytes;
            state.lines.push(line.to_vec());
        }
        drop(state);
        self.came.notify_one();
    }

    /// Waits until everything is written, but no longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let state = self.state();
        let _ = self.gone.wait_timeout_while(state, patience, |state| !state.is_idle());
    }

    /// Writes what comes, for ever; `tell` makes a line of how many were dropped. A sink that fails
    /// loses its lines: there is nobody to tell.
    pub(super) fn run(&self, mut sink: impl Write, tell: impl Fn(u64) -> String) -> ! {
        loop {
            self.write_once(&mut sink, &tell);
        }
    }

    /// Waits for lines and writes all that are there.
    fn write_once(&self, sink: &mut impl Write, tell: impl Fn(u64) -> String) {
        let state = self.state();
        let waiting = self.came.wait_while(state, |state| state.lines.is_empty() && state.dropped == 0);
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        let (lines, dropped) = (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped));
        state.writing = true;
        drop(state);
        let told = (dropped > 0).then(|| tell(dropped).into_bytes());
        for line in lines.iter().chain(&told) {
            // One that cannot be written does not take the others along.
            let _ = sink.write_all(line);
        }
        let _ = sink.flush();
        let mut state = self.state();
        state.bytes -= lines.iter().map(|line| line.len() + LINE_BYTES).sum::<usize>();
        state.writing = false;
        if state.is_idle() {
            self.gone.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(dropped: u64) -> String {
        format!("{dropped} dropped\n")
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_told_of() {
        let queue = Queue::default();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let fit = QUEUED_BYTES_MAX / (line.len() + LINE_BYTES);
        for _ in 0..fit + 7 {
            queue.push(&line);
        }
        let mut out = Vec::new();
        queue.write_once(&mut out, tell);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("xxx")).count(), fit);
        assert!(text.ends_with("\n7 dropped\n"));
        // There is room again, and nothing left to tell.
        queue.push(b"more\n");
        let mut out = Vec::new();
        queue.write_once(&mut out, tell);
        assert_eq!(out, b"more\n");
        assert!(queue.state().is_idle() && queue.state().bytes == 0);
    }

    #[test]
    fn a_flush_waits_for_the_writer_but_not_for_ever() {
        let queue = Queue::default();
        queue.push(b"a line\n");
        // Nobody writes: this returns all the same.
        queue.flush(Duration::from_millis(1));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut out = Vec::new();
                queue.write_once(&mut out, tell);
                out
            });
            queue.flush(Duration::from_secs(60));
            assert!(queue.state().is_idle());
            assert_eq!(writer.join().unwrap(), b"a line\n");
        });
    }
}
