//! One worker's connections to one upstream.
//!
//! `exchange` holds it and calls `send` (in the file of that name). Idle HTTP/1 connections lie in
//! a stack per endpoint, the last used on top, so that those too many grow old and close.
//! Connections on which something happens are not limited here: the listeners limit the exchanges.
//! Never shared between workers.

use super::Upstream;
use super::balance::Balancer;
use super::body::Upload;
use super::endpoint::Endpoint;
use super::http1::Http1;
use super::http2::{Http2, STREAMS_MAX};
use super::replay::Replay;
use crate::clock::{Clock, random_u64};
use http::HeaderValue;
use http::uri::Authority;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// HTTP/2 connections to one endpoint; beyond them requests wait for a stream.
const HTTP2_CONNECTIONS_MAX: usize = 4;
/// How long a connection may take to become ready for the next request after a body's end.
const LINGER: Duration = Duration::from_secs(1);
/// Buffers for replays kept; as many as requests are under way at once, up to this.
const REPLAYS_MAX: usize = 64;

/// One worker's connections to one upstream.
pub struct Pool {
    pub(super) upstream: Arc<Upstream>,
    pub(super) clock: Clock,
    pub(super) fixed_host: Option<Host>,
    endpoints: Box<[Local]>,
    balancer: Balancer,
    replays: RefCell<Vec<Replay>>,
}

/// A worker's side of an endpoint. What is cloned for each request is the worker's own copy, so
/// that workers do not fight over reference counts.
pub(super) struct Local {
    pub(super) shared: Arc<Endpoint>,
    pub(super) address: Arc<str>,
    pub(super) host: Option<Host>,
    idle: RefCell<VecDeque<Http1>>,
    http2: RefCell<Vec<Http2>>,
    /// Held while an HTTP/2 connection is being opened, which others then share.
    pub(super) opening: tokio::sync::Mutex<()>,
}

/// A host in both protocols' clothes.
pub(super) struct Host {
    pub(super) field: HeaderValue,
    pub(super) authority: Authority,
}

impl Host {
    /// A copy that shares nothing; `None` for what `Upstream::new` would not have let in.
    fn new(field: &HeaderValue) -> Option<Host> {
        let authority = Authority::try_from(field.as_bytes()).ok()?;
        Some(Host { field: HeaderValue::from_bytes(field.as_bytes()).ok()?, authority })
    }
}

impl Pool {
    /// `clock`: the same on all workers.
    pub fn new(upstream: Arc<Upstream>, clock: Clock) -> Rc<Pool> {
        Pool::seeded(upstream, clock, random_u64())
    }

    /// `seed`: of the turns that endpoints take. Not drawn from the clock, whose numbers in a trial
    /// are the policies' alone.
    pub(super) fn seeded(upstream: Arc<Upstream>, clock: Clock, seed: u64) -> Rc<Pool> {
        // The first worker's; all show the same time.
        let _ = upstream.clock.set(clock.clone());
        let endpoints = upstream
            .endpoints
            .iter()
            .map(|shared| Local {
                shared: shared.clone(),
                address: Arc::from(&*shared.address),
                host: Host::new(&shared.host),
                idle: RefCell::default(),
                http2: RefCell::default(),
                opening: tokio::sync::Mutex::new(()),
            })
            .collect();
        let weights = upstream.settings.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        let balancer = Balancer::new(upstream.settings.balance, weights, seed);
        let fixed_host = upstream.fixed_host.as_ref().and_then(Host::new);
        Rc::new(Pool { upstream, clock, fixed_host, endpoints, balancer, replays: RefCell::default() })
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Who takes the next try; `tried`: a bit for each endpoint that failed this request, which
    /// gets it again only when there is nobody else. `None`: active checks found all of them dead.
    ///
    /// Ejection is a guess from a few requests. When it has taken out everybody, it is more likely
    /// that the guess is wrong, or the requests are, so all are used rather than none.
    pub(super) fn pick(&self, now: u64, tried: u64) -> Option<usize> {
        let healthy = |index: usize| self.endpoints.get(index).is_some_and(|local| local.shared.is_healthy());
        let usable = |index: usize| {
            self.endpoints
                .get(index)
                .is_some_and(|local| local.shared.is_healthy() && !local.shared.is_ejected(now))
        };
        let untried = |index: usize| tried & bit(index) == 0;
        let load = |index: usize| {
            self.endpoints.get(index).map_or(0, |local| local.shared.active.load(Ordering::Relaxed))
        };
        if tried == 0 {
            return self.balancer.choose(usable, load).or_else(|| self.balancer.choose(healthy, load));
        }
        self.balancer
            .choose(|index| untried(index) && usable(index), load)
            .or_else(|| self.balancer.choose(usable, load))
            .or_else(|| self.balancer.choose(|index| untried(index) && healthy(index), load))
            .or_else(|| self.balancer.choose(healthy, load))
    }

    pub(super) fn local(&self, index: usize) -> Option<&Local> {
        self.endpoints.get(index)
    }

    pub(super) fn take_replay(&self) -> Replay {
        self.replays.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn return_replay(&self, mut replay: Replay) {
        let mut replays = self.replays.borrow_mut();
        if replays.len() < REPLAYS_MAX {
            replay.clear();
            replays.push(replay);
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("upstream", &self.upstream.name()).finish_non_exhaustive()
    }
}

/// The bit of an endpoint in the set of those tried. With more than 64 some share one, which at
/// worst passes over an endpoint that was not tried.
pub(super) fn bit(index: usize) -> u64 {
    1 << (index % 64)
}

impl Local {
    /// The idle connection used last.
    pub(super) fn take_idle(&self) -> Option<Http1> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let connection = idle.pop_back()?;
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    fn keep_idle(&self, connection: Http1, max: usize) {
        let mut idle = self.idle.borrow_mut();
        if max == 0 {
            return;
        }
        if idle.len() >= max {
            // The one used longest ago, which may be dead by now.
            idle.pop_front();
        }
        connection.set_idle();
        idle.push_back(connection);
    }

    /// The HTTP/2 connection with the fewest requests, unless another should be opened.
    pub(super) fn take_http2(&self) -> Option<Http2> {
        let mut connections = self.http2.borrow_mut();
        connections.retain(|connection| !connection.is_closed());
        let full = connections.len() >= HTTP2_CONNECTIONS_MAX;
        let least = connections.iter().min_by_key(|connection| connection.streams())?;
        (full || least.streams() < STREAMS_MAX).then(|| least.clone())
    }

    pub(super) fn keep_http2(&self, connection: &Http2) {
        self.http2.borrow_mut().push(connection.clone());
    }
}

/// A request under way at an endpoint, counted until this is dropped.
pub(super) struct Active {
    pool: Rc<Pool>,
    index: usize,
}

impl Active {
    pub(super) fn new(pool: &Rc<Pool>, index: usize) -> Active {
        if let Some(local) = pool.local(index) {
            local.shared.active.fetch_add(1, Ordering::Relaxed);
        }
        Active { pool: pool.clone(), index }
    }

    pub(super) fn record_failure(&self) {
        self.pool.upstream.record_failure(self.index, self.pool.clock.monotonic_nanos());
    }

    /// Gives back a connection whose response has been read to its end.
    pub(super) fn settle(self, connection: Http1, upload: Option<&Upload>) {
        let max = self.pool.upstream.settings.idle_connections;
        let Some(local) = self.pool.local(self.index) else { return };
        if connection.is_ready() {
            local.keep_idle(connection, max);
        } else if !connection.sender.is_closed() && upload.is_none_or(Upload::is_over) {
            // Not quite done writing, or about to close: the next moment tells. An upload that
            // still runs would keep the client sending for nobody, so that connection is closed.
            let mut connection = connection;
            connection.wait.clear();
            let (pool, index) = (self.pool.clone(), self.index);
            tokio::task::spawn_local(async move {
                let ready = tokio::time::timeout(LINGER, connection.sender.ready()).await;
                if let (Ok(Ok(())), Some(local)) = (ready, pool.local(index)) {
                    local.keep_idle(connection, max);
                }
            });
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(local) = self.pool.local(self.index) {
            local.shared.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
