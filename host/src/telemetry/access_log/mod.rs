//! One JSON line for each exchange, written off the request's path.
//!
//! `exchange` gives its worker's `WorkerLog` an `Entry`; the line is built in that worker's
//! buffer, and whole buffers go to one writer thread over a bounded channel. Never blocks a
//! worker: where the destination cannot keep up, lines are dropped and counted. Never logs a
//! query, a header value but the user agent, or a body: credentials can be in them.

mod line;
mod writer;

use crate::telemetry::metric::Counter;
use crate::telemetry::reason::Reason;
use line::Stamp;
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use writer::{Batch, Message, Shared, Sink};

/// A buffer goes to the writer when it holds this much: one `write` for about a hundred lines.
const BUFFER_BYTES: usize = 32 * 1024;
/// Buffers on their way to the writer; 4 MiB, some hundred milliseconds of a busy gateway.
const BUFFERS_QUEUED_MAX: usize = 128;
/// Empty buffers that wait for their worker.
const BUFFERS_SPARE_MAX: usize = 8;

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    /// Appended to; `reopen` opens it anew, after a rotation.
    File(PathBuf),
}

/// Counts of the access log.
#[derive(Debug)]
pub struct AccessLogMetrics {
    /// Lines written.
    pub lines: Counter,
    /// Lines lost: the destination failed, or could not keep up.
    pub dropped: Counter,
}

/// Who gave the client its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered<'a> {
    Upstream,
    /// By the policy's name.
    Policy(&'a str),
    Gateway,
    /// Nobody did: the client went away first.
    Client,
}

/// One exchange. Texts longer than `line::TEXT_BYTES_MAX` are cut.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// When the request's head arrived, since the Unix epoch.
    pub time: Duration,
    pub id: &'a str,
    /// As `exchange` judged it from the connection and trusted proxies.
    pub client: IpAddr,
    pub method: &'a str,
    /// As the router saw it; from a `?` on it is cut off.
    pub path: &'a str,
    pub api: Option<&'a str>,
    pub operation: Option<&'a str>,
    pub consumer: Option<&'a str>,
    pub product: Option<&'a str>,
    pub status: u16,
    /// Of the request's body.
    pub bytes_in: u64,
    /// Of the answer's body.
    pub bytes_out: u64,
    /// Until the last byte of the answer.
    pub total: Duration,
    /// Until the upstream's head had arrived.
    pub upstream: Option<Duration>,
    pub answered: Answered<'a>,
    pub reason: Reason,
    pub listener: &'a str,
    /// `HTTP/1.1`, `HTTP/2`.
    pub protocol: &'a str,
    /// As sent; what is not UTF-8 in it is replaced.
    pub user_agent: Option<&'a [u8]>,
}

/// The log of a gateway, and its writer thread.
#[derive(Debug)]
pub struct AccessLog {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
}

impl AccessLog {
    /// Opens the destination and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread started.
    pub fn open(destination: Destination, metrics: Arc<AccessLogMetrics>) -> io::Result<AccessLog> {
        match destination {
            Destination::Stdout => AccessLog::start(Box::new(writer::Stdout), metrics),
            Destination::File(path) => AccessLog::start(Box::new(writer::AppendFile::open(path)?), metrics),
        }
    }

    fn start(sink: Box<dyn Sink>, metrics: Arc<AccessLogMetrics>) -> io::Result<AccessLog> {
        let (sender, receiver) = sync_channel(BUFFERS_QUEUED_MAX);
        let shared = Arc::new(Shared::new(metrics));
        let writing = shared.clone();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer::run(sink, &receiver, &writing))?;
        Ok(AccessLog { sender, shared })
    }

    /// The log as one worker writes to it; to be called once on each.
    pub fn worker(&self) -> WorkerLog {
        let (back, spare) = sync_channel(BUFFERS_SPARE_MAX);
        WorkerLog {
            sender: self.sender.clone(),
            shared: self.shared.clone(),
            state: RefCell::new(State {
                bytes: Vec::with_capacity(BUFFER_BYTES * 2),
                lines: 0,
                stamp: Stamp::default(),
                spare,
                back,
            }),
        }
    }

    /// Opens the file anew before the next write, as after a rotation; where that fails, the old
    /// one is kept and a warning logged.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits, no longer than `wait`, until all that the workers handed over is written: nothing
    /// is lost if they were dropped (or flushed) before. False if the wait was too short or the
    /// writer is gone. Blocks; for the shutdown.
    pub fn flush_all(&self, wait: Duration) -> bool {
        let (acknowledge, done) = sync_channel(1);
        self.shared.await_flush(acknowledge);
        self.wake();
        done.recv_timeout(wait).is_ok()
    }

    /// A full channel needs no waking: the writer looks around after each message.
    fn wake(&self) {
        let _ = self.sender.try_send(Message::Wake);
    }
}

/// A worker's end of the log. Dropping it hands over what it holds.
#[derive(Debug)]
pub struct WorkerLog {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    /// In `bytes`.
    lines: u32,
    stamp: Stamp,
    /// Buffers the writer has emptied.
    spare: Receiver<Vec<u8>>,
    /// How they come back.
    back: SyncSender<Vec<u8>>,
}

impl WorkerLog {
    /// Adds a line. Allocates nothing once the buffers have their size.
    pub fn write(&self, entry: &Entry<'_>) {
        let mut state = self.state.borrow_mut();
        let State { bytes, lines, stamp, .. } = &mut *state;
        line::write(bytes, stamp, entry);
        *lines += 1;
        if bytes.len() >= BUFFER_BYTES {
            self.hand_over(&mut state);
        }
    }

    /// Hands over what there is, so that lines appear though few come; to be called by each
    /// worker every 100 ms or so. Where the writer is busy the lines wait for the next time.
    pub fn flush(&self) {
        let mut state = self.state.borrow_mut();
        if state.lines > 0 {
            self.hand_over(&mut state);
        }
    }

    fn hand_over(&self, state: &mut State) {
        let next = state.spare.try_recv().unwrap_or_else(|_| Vec::with_capacity(BUFFER_BYTES * 2));
        let batch = Batch {
            bytes: std::mem::replace(&mut state.bytes, next),
            lines: std::mem::take(&mut state.lines),
            back: Some(state.back.clone()),
        };
        let refused = match self.sender.try_send(Message::Batch(batch)) {
            Ok(()) => return,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => message,
        };
        let Message::Batch(mut batch) = refused else { return };
        if batch.bytes.len() >= BUFFER_BYTES {
            self.shared.metrics.dropped.add(u64::from(batch.lines));
            batch.bytes.clear();
            batch.lines = 0;
        }
        // The buffer just made goes back among the spare ones.
        let unused = std::mem::replace(&mut state.bytes, batch.bytes);
        let _ = state.back.try_send(unused);
        state.lines = batch.lines;
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.lines == 0 {
            return;
        }
        // Not by the channel, which may be full: this is the last there is, so it is kept.
        self.shared.leave(Batch {
            bytes: std::mem::take(&mut state.bytes),
            lines: std::mem::take(&mut state.lines),
            back: None,
        });
        let _ = self.sender.try_send(Message::Wake);
    }
}

#[cfg(test)]
mod tests;
