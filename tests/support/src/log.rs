//! What the gateway wrote, line by line, and waiting for a line to come.

use crate::{PATIENCE, eventually};
use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
    /// Pipes that have not ended yet.
    open: Arc<AtomicUsize>,
}

impl Log {
    /// Collects from `pipe` on a thread of its own until it ends.
    pub fn collect(&self, pipe: impl Read + Send + 'static) {
        let log = self.clone();
        log.open.fetch_add(1, Ordering::AcqRel);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_string();
                log.lines.0.lock().unwrap().push(text);
                log.lines.1.notify_all();
                line.clear();
            }
            log.open.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// Waits until all that was written before the writers' end has been collected.
    pub fn wait_for_end(&self) {
        eventually("the end of what was written", || self.open.load(Ordering::Acquire) == 0);
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.0.lock().unwrap().clone()
    }

    /// How many lines there are: a place to search from.
    pub fn mark(&self) -> usize {
        self.lines.0.lock().unwrap().len()
    }

    pub fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// The first line from `mark` on that `is_it`; `None` when `until` passes without one or
    /// `gone` says that none can come.
    pub fn find_from(
        &self,
        mark: usize,
        until: Instant,
        is_it: impl Fn(&str) -> bool,
        mut gone: impl FnMut() -> bool,
    ) -> Option<String> {
        let mut next = mark;
        let mut lines = self.lines.0.lock().unwrap();
        loop {
            while next < lines.len() {
                if is_it(&lines[next]) {
                    return Some(lines[next].clone());
                }
                next += 1;
            }
            let now = Instant::now();
            if now >= until || gone() && next == lines.len() {
                return None;
            }
            let step = (until - now).min(std::time::Duration::from_millis(50));
            lines = self.lines.1.wait_timeout(lines, step).unwrap().0;
        }
    }

    /// Waits for a line that contains `text`, from `mark` on.
    pub fn wait_for(&self, mark: usize, text: &str) -> String {
        self.find_from(mark, Instant::now() + PATIENCE, |line| line.contains(text), || false)
            .unwrap_or_else(|| panic!("no line with {text:?} came; the log:\n{}", self.text()))
    }

    pub fn contains(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }
}
