//! The one thread that writes the access log.
//!
//! Fed by all `WorkerLog`s; may block for as long as the destination does. Never touches a
//! worker's state but by giving its buffer back.

use super::AccessLogMetrics;
use crate::telemetry::trace::Repeated;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

#[derive(Debug)]
pub(super) enum Message {
    Batch(Batch),
    /// Look around: somebody wants a flush or a reopening.
    Wake,
}

/// Whole lines, and the way back for their buffer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u32,
    pub(super) back: Option<SyncSender<Vec<u8>>>,
}

/// What reaches the writer beside the channel, which may be full.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) metrics: Arc<AccessLogMetrics>,
    pub(super) reopen: AtomicBool,
    aside: Mutex<Aside>,
}

#[derive(Debug, Default)]
struct Aside {
    /// The last buffer of each worker that went: one each, so bounded.
    left: Vec<Batch>,
    flushes: Vec<SyncSender<()>>,
}

impl Shared {
    pub(super) fn new(metrics: Arc<AccessLogMetrics>) -> Shared {
        Shared { metrics, reopen: AtomicBool::new(false), aside: Mutex::default() }
    }

    pub(super) fn leave(&self, batch: Batch) {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).left.push(batch);
    }

    pub(super) fn await_flush(&self, acknowledge: SyncSender<()>) {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).flushes.push(acknowledge);
    }

    fn take_aside(&self) -> Aside {
        std::mem::take(&mut *self.aside.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Where bytes go in the end.
pub(super) trait Sink: Send {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn reopen(&mut self) -> io::Result<()>;
}

/// Ends when the log and all its workers are dropped and everything is written.
pub(super) fn run(sink: Box<dyn Sink>, messages: &Receiver<Message>, shared: &Shared) {
    let mut writer = Writer { sink, shared, torn: false, failures: Repeated::new(), started: Instant::now() };
    while let Ok(message) = messages.recv() {
        writer.take(message);
        writer.look_around(messages);
    }
    writer.look_around(messages);
}

struct Writer<'a> {
    sink: Box<dyn Sink>,
    shared: &'a Shared,
    /// The last write failed, perhaps in the middle of a line.
    torn: bool,
    failures: Repeated,
    started: Instant,
}

impl Writer<'_> {
    fn take(&mut self, message: Message) {
        match message {
            Message::Batch(batch) => self.write(batch),
            Message::Wake => {}
        }
    }

    fn look_around(&mut self, messages: &Receiver<Message>) {
        let Aside { left, flushes } = self.shared.take_aside();
        if !flushes.is_empty() {
            // All that was sent before the flush was asked for is in the channel by now, and it
            // holds no more than its bound; what comes meanwhile need not be waited for.
            for message in messages.try_iter().take(super::BUFFERS_QUEUED_MAX) {
                self.take(message);
            }
        }
        for batch in left {
            self.write(batch);
        }
        for acknowledge in flushes {
            let _ = acknowledge.try_send(());
        }
    }

    fn write(&mut self, batch: Batch) {
        let Batch { mut bytes, lines, back } = batch;
        if self.shared.reopen.swap(false, Ordering::AcqRel)
            && let Err(error) = self.sink.reopen()
        {
            tracing::warn!(%error, "the access log cannot be reopened; the old file is kept");
        }
        match self.write_whole(&bytes) {
            Ok(()) => self.shared.metrics.lines.add(u64::from(lines)),
            Err(error) => {
                self.torn = true;
                self.shared.metrics.dropped.add(u64::from(lines));
                if let Some(suppressed) = self.failures.admit(self.started.elapsed()) {
                    tracing::warn!(%error, lines, suppressed, "the access log cannot be written");
                }
            }
        }
        bytes.clear();
        // A line that was cut at its bounds may have grown the buffer; those are not kept.
        if bytes.capacity() <= super::BUFFER_BYTES * 4
            && let Some(back) = back
        {
            let _ = back.try_send(bytes);
        }
    }

    fn write_whole(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.sink.write(b"\n")?;
            self.torn = false;
        }
        self.sink.write(bytes)
    }
}

pub(super) struct Stdout;

impl Sink for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct AppendFile {
    path: PathBuf,
    file: File,
}

impl AppendFile {
    pub(super) fn open(path: PathBuf) -> io::Result<AppendFile> {
        let file = append(&path)?;
        Ok(AppendFile { path, file })
    }
}

impl Sink for AppendFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }
}

/// Clients' addresses are in it, so others may not read it.
fn append(path: &std::path::Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}
