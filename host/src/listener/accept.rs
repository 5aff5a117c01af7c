//! Accepts on one worker's socket, for as long as the listener is open.
//!
//! `server` runs [`accept`] once per worker. Every stream gets a task of its own at once, in
//! which the TLS handshake runs too; so nothing that one client does delays another. An error of
//! `accept` never ends the loop. When the drain starts, what waits in the socket's queue is still
//! accepted and served: closing the socket would reset it.
//!
//! At the connection cap a further connection is accepted and closed: left in the queue, its
//! client would hang until its own time-out, and a load balancer would believe that all is well.

use super::slot::{Slot, Socket};
use super::{Counters, Drain, Protocol, Settings, Streams, Tls};
use crate::message::forwarded::{ForwardedCache, Scheme};
use crate::message::peer::Peer;
use socket2::SockRef;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

/// Bounds of the pause after an error that says the process or machine is short of something.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Errors about one connection, in a row, after which they too are taken for a lasting state.
const CONNECTION_ERRORS_MAX: u32 = 64;
/// Accept errors are logged at most so often.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// One configured listener on one worker.
#[derive(Debug)]
pub struct Listener {
    pub settings: Settings,
    /// Shared by all workers.
    pub tls: Option<Arc<Tls>>,
    /// Shared by all workers.
    pub counters: Arc<Counters>,
    pub drain: Drain,
}

/// Accepts until the drain starts; returns once the socket's queue is empty. Streams that were
/// accepted live on. Needs a `LocalRuntime` or `LocalSet`. Dropping it resets what is queued.
pub async fn accept<S: Streams>(socket: TcpListener, listener: Rc<Listener>, streams: Rc<S>) {
    accept_from(socket, listener, streams).await;
}

/// Where streams come from; tests script the errors.
trait Source {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>>;
    /// The socket in non-blocking mode, to take what is queued.
    fn into_queue(self) -> Option<std::net::TcpListener>;
}

impl Source for TcpListener {
    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> {
        TcpListener::accept(self)
    }

    fn into_queue(self) -> Option<std::net::TcpListener> {
        self.into_std().ok()
    }
}

async fn accept_from<S: Streams>(source: impl Source, listener: Rc<Listener>, streams: Rc<S>) {
    let _guard = listener.drain.guard();
    let mut draining = pin!(listener.drain.draining());
    let mut trouble = Trouble::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = source.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                trouble.over();
                take(&listener, &streams, stream, address);
            }
            Err(error) => {
                listener.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                if let Some(pause) = trouble.pause(&error, &listener.settings.name) {
                    tokio::select! {
                        () = &mut draining => break,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }
    // Asked of the kernel itself: tokio may not yet have heard of what is queued.
    let Some(queue) = source.into_queue() else { return };
    for _ in 0..super::bind::BACKLOG {
        match queue.accept() {
            Ok((stream, address)) => {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                if let Ok(stream) = stream {
                    take(&listener, &streams, stream, address);
                }
            }
            Err(error) if about_one_connection(&error) => {}
            Err(_) => break,
        }
    }
}

/// Gives a stream its task, unless the cap is reached.
fn take<S: Streams>(listener: &Rc<Listener>, streams: &Rc<S>, stream: TcpStream, address: SocketAddr) {
    let counters = &listener.counters;
    let accepted = counters.accepted.fetch_add(1, Ordering::Relaxed);
    let Some(slot) = Slot::take(counters, listener.settings.connections) else {
        counters.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let guard = listener.drain.guard();
    // Small answers must not wait for an acknowledgement; failure means that the peer is gone.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&super::bind::spread(accepted));
    let stream = Socket::new(stream, slot);
    let streams = Rc::clone(streams);
    match &listener.tls {
        None => {
            let name = Arc::clone(&listener.settings.name);
            let peer = Rc::new(Peer {
                address,
                listener: name,
                forwarded: ForwardedCache::new(address.ip(), Scheme::Http),
                tls: None,
            });
            let protocol = if listener.settings.http2 { Protocol::ByPreface } else { Protocol::Http1 };
            spawn_local(async move {
                streams.serve(stream, protocol, peer).await;
                drop(guard);
            });
        }
        Some(tls) => {
            let (listener, tls) = (Rc::clone(listener), Arc::clone(tls));
            spawn_local(async move {
                shake_hands(&listener, &tls, &streams, stream, address).await;
                drop(guard);
            });
        }
    }
}

async fn shake_hands<S: Streams>(
    listener: &Listener,
    tls: &Tls,
    streams: &Rc<S>,
    stream: Socket,
    address: SocketAddr,
) {
    let shaken = tokio::select! {
        shaken = timeout(listener.settings.handshake, tls.accept(stream)) => shaken,
        () = listener.drain.cut() => return,
    };
    let (stream, protocol, facts) = match shaken {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            listener.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(listener = %listener.settings.name, %address, %error, "TLS handshake failed");
            return;
        }
        Err(_) => {
            listener.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(listener = %listener.settings.name, %address, "TLS handshake took too long");
            return;
        }
    };
    let peer = Rc::new(Peer {
        address,
        listener: Arc::clone(&listener.settings.name),
        forwarded: ForwardedCache::new(address.ip(), Scheme::Https),
        tls: Some(facts),
    });
    Rc::clone(streams).serve(stream, protocol, peer).await;
}

/// How an accept loop goes on after errors.
#[derive(Default)]
struct Trouble {
    in_a_row: u32,
    pause: Duration,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Trouble {
    fn over(&mut self) {
        self.in_a_row = 0;
        self.pause = Duration::ZERO;
    }

    /// How long to wait before the next try; `None`: not at all.
    fn pause(&mut self, error: &io::Error, listener: &str) -> Option<Duration> {
        self.log(error, listener);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if about_one_connection(error) && self.in_a_row <= CONNECTION_ERRORS_MAX {
            return None;
        }
        self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        Some(self.pause)
    }

    fn log(&mut self, error: &io::Error, listener: &str) {
        if self.logged.is_some_and(|logged| logged.elapsed() < LOG_EVERY) {
            self.unlogged += 1;
            return;
        }
        tracing::warn!(%listener, %error, more = self.unlogged, "cannot accept a connection");
        self.logged = Some(Instant::now());
        self.unlogged = 0;
    }
}

/// Errors that Linux passes on from the connection itself (accept(2)): the next may be fine.
fn about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
        NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::super::DrainControl;
    use super::*;
    use crate::listener::ClientStream;
    use rustix::io::Errno;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    /// Fails as scripted, then gives what a real listener accepts.
    struct Scripted {
        errors: RefCell<VecDeque<i32>>,
        real: TcpListener,
    }

    impl Source for Scripted {
        async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            if let Some(error) = self.errors.borrow_mut().pop_front() {
                return Err(io::Error::from_raw_os_error(error));
            }
            self.real.accept().await
        }

        fn into_queue(self) -> Option<std::net::TcpListener> {
            None
        }
    }

    struct Count(Cell<usize>, DrainControl);

    impl Streams for Count {
        async fn serve<IO>(self: Rc<Self>, _: IO, _: Protocol, _: Rc<Peer>)
        where
            IO: ClientStream,
        {
            self.0.set(self.0.get() + 1);
            self.1.start();
        }
    }

    #[test]
    fn errors_of_accept_never_end_the_loop() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .unwrap();
        runtime.block_on(async {
            let real = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _client = TcpStream::connect(real.local_addr().unwrap()).await.unwrap();
            let errors =
                [Errno::MFILE, Errno::CONNABORTED, Errno::NFILE, Errno::NOBUFS, Errno::PROTO, Errno::INTR]
                    .map(Errno::raw_os_error);
            let streams = Rc::new(Count(Cell::new(0), DrainControl::new()));
            let listener = Rc::new(Listener {
                settings: Settings::named("test"),
                tls: None,
                counters: Arc::default(),
                drain: streams.1.drain(),
            });
            let source = Scripted { errors: RefCell::new(errors.into()), real };
            accept_from(source, Rc::clone(&listener), Rc::clone(&streams)).await;
            assert_eq!(streams.0.get(), 1);
            assert_eq!(listener.counters.accept_errors(), errors.len() as u64);
        });
    }

    #[test]
    fn pauses_grow_are_bounded_and_end() {
        let mut trouble = Trouble::default();
        let short = io::Error::from(Errno::MFILE);
        let pauses: Vec<_> = (0..20).map(|_| trouble.pause(&short, "test").unwrap()).collect();
        assert_eq!(pauses[..3], [5, 10, 20].map(Duration::from_millis));
        assert_eq!(pauses[19], PAUSE_MAX);
        trouble.over();
        let aborted = io::Error::from(Errno::CONNABORTED);
        assert!((0..CONNECTION_ERRORS_MAX).all(|_| trouble.pause(&aborted, "test").is_none()));
        assert_eq!(trouble.pause(&aborted, "test"), Some(PAUSE_MIN));
    }
}
