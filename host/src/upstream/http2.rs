//! One HTTP/2 connection to an endpoint, shared by many requests.
//!
//! Made by `send`, kept by `pool` until the peer closes it. Never decides how many there are.

use super::dial::{DialError, Dialer};
use crate::message::body::Body;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// Requests on one connection before another is opened: the least that RFC 9113, section 6.5.2,
/// advises servers to allow.
pub(super) const STREAMS_MAX: usize = 100;
/// Bytes that a response body may be ahead of its reader.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// The same for all streams of a connection together: what each may be ahead, so that readers who
/// stall hold up nobody but themselves. With less, a few of them would use it up for all.
const CONNECTION_WINDOW_BYTES: u32 = 100 * 256 * 1024;
const _: () = assert!(CONNECTION_WINDOW_BYTES as usize == STREAMS_MAX * STREAM_WINDOW_BYTES as usize);
/// Bytes of a request body that wait for the upstream's window.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// Bytes of a response's head.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// A silent connection with requests on it is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) sender: SendRequest<Body>,
    streams: Rc<Cell<usize>>,
}

impl Http2 {
    /// Connects, and starts the connection's tasks on this worker.
    pub(super) async fn connect(dialer: &Dialer, timeout: Duration) -> Result<Http2, DialError> {
        let stream = dialer.dial(timeout).await?;
        let (sender, connection) = Builder::new(Local)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| DialError::Failed(error.to_string().into()))?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Http2 { sender, streams: Rc::default() })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Requests on it.
    pub(super) fn streams(&self) -> usize {
        self.streams.get()
    }

    /// Counts a request until the stream is dropped.
    pub(super) fn open(&self) -> Stream {
        self.streams.set(self.streams.get() + 1);
        Stream(self.streams.clone())
    }
}

/// A request on a connection, for the count.
pub(super) struct Stream(Rc<Cell<usize>>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Runs hyper's tasks on the worker that asked.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
