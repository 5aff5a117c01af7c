//! The admin listener: health, metrics, what is configured and loaded, reload, a dashboard.
//!
//! `server` starts it on the control runtime and gives it a `Source`; nothing depends on it.
//! Never on the request path: it runs on its own port, and a busy or stuck admin client takes
//! nothing from the gateway but the connections bounded here.

mod answer;
mod dashboard;
mod guard;
mod route;

use arc_swap::ArcSwapOption;
pub use guard::Token;

use crate::clock::Clock;
use crate::telemetry::trace::Repeated;
use guard::Guard;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use route::Routes;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// More wait in the kernel's queue until one of these is done.
const CONNECTIONS_MAX: usize = 64;
const TIMES: Times = Times {
    head: Duration::from_secs(5),
    // A reload compiles plugins and takes longest.
    connection: Duration::from_secs(120),
    drain: Duration::from_secs(2),
};
/// After an accept that failed for want of descriptors, which does not mend at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// How long what may take; tests have shorter ones.
#[derive(Clone, Copy)]
struct Times {
    /// From accepting until the head has arrived.
    head: Duration,
    /// From accepting until the answer is written.
    connection: Duration,
    /// For answers under way when the gateway stops.
    drain: Duration,
}

/// Whether the gateway takes traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Yes,
    /// No configuration has taken effect yet.
    Starting,
    /// It is stopping.
    Draining,
}

/// Where the answers come from. Called on the control runtime; each but `reload` must be quick.
pub trait Source: Send + Sync + 'static {
    fn ready(&self) -> Ready;

    /// The configuration in effect, secrets masked. The dashboard shows its `apis`.
    fn config(&self) -> serde_json::Value;

    /// A list of objects, one a plugin: `name`, `hash`, `hooks`, `policies`, …
    fn plugins(&self) -> serde_json::Value;

    /// A list of objects, one an upstream: `name`, `endpoints` with their health, …
    fn upstreams(&self) -> serde_json::Value;

    /// Reloads; what was done, or why nothing was, as text for people. Runs to its end though
    /// the client goes away.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

    /// Appends the metrics in the Prometheus text format.
    fn metrics(&self, out: &mut String);
}

/// What the operator says about the admin listener.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Asked for by everything but `/healthz` and `/readyz`. Without it, an address that is not
    /// loopback answers only those two. A reload may put another in its place.
    pub token: Arc<ArcSwapOption<Token>>,
}

/// Serves until `shutdown` is done; answers under way have two more seconds. Dropping the future
/// closes all connections.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    source: Arc<dyn Source>,
    shutdown: impl Future<Output = ()>,
) {
    serve_within(TIMES, listener, settings, source, shutdown).await;
}

async fn serve_within(
    times: Times,
    listener: TcpListener,
    settings: Settings,
    source: Arc<dyn Source>,
    shutdown: impl Future<Output = ()>,
) {
    let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    if !loopback && settings.token.load().is_none() {
        tracing::warn!("admin is open to the network and has no token: it answers health checks only");
    }
    let routes = Arc::new(Routes::new(Guard::new(settings.token, loopback), source));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(());
    let (clock, failures) = (Clock::system(), Repeated::new());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                connections.spawn(connection(times, stream, routes.clone(), stopping.clone(), permit));
            }
            Err(error) => {
                if let Some(suppressed) = failures.admit(Duration::from_nanos(clock.monotonic_nanos())) {
                    tracing::warn!(%error, suppressed, "admin cannot accept");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    // What is not done by then is dropped with the set.
    let _ = timeout(times.drain, async { while connections.join_next().await.is_some() {} }).await;
}

/// Dropping it loses no connection: a permit is taken before one is accepted.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// One request, one answer: scrapers and people come seldom, and nobody can hold a connection.
async fn connection(
    times: Times,
    stream: TcpStream,
    routes: Arc<Routes>,
    mut stopping: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
) {
    let service = service_fn(|request| {
        let routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.answer(request).await) }
    });
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(times.head)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    let serve = async {
        tokio::select! {
            served = serving.as_mut() => return served,
            // Only ever an error: the sender sends nothing and is dropped.
            _ = stopping.changed() => serving.as_mut().graceful_shutdown(),
        }
        serving.as_mut().await
    };
    // The client's failures are its own, and those of an admin's client are not worth a line.
    if let Ok(Err(error)) = timeout(times.connection, serve).await {
        tracing::debug!(%error, "admin connection failed");
    }
}

#[cfg(test)]
mod tests;
