//! The listeners that are open: which sockets, with which settings, and how each is closed.
//!
//! `reload` binds what is new before anything is swapped, so that a port that is taken refuses the
//! configuration; sockets whose address stays are never closed.

use super::workers::{Listen, Order, Workers};
use crate::compile::ListenerSpec;
use crate::listener::{Bound, Counters, DrainControl, Tls};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub struct Sockets {
    open: Vec<Open>,
}

struct Open {
    spec: ListenerSpec,
    bound: Arc<Bound>,
    counters: Arc<Counters>,
    control: Arc<DrainControl>,
    served: bool,
}

/// What a reload will do to the listeners; nothing is done yet.
pub struct Change {
    next: Vec<Open>,
}

impl Sockets {
    pub fn open(specs: Vec<ListenerSpec>, workers: usize) -> Result<Sockets, String> {
        let mut sockets = Sockets { open: Vec::new() };
        let change = sockets.prepare(specs, workers)?;
        sockets.open = change.next;
        Ok(sockets)
    }

    /// Binds what is new.
    ///
    /// # Errors
    /// The address that cannot be bound, and why.
    pub fn prepare(&self, specs: Vec<ListenerSpec>, workers: usize) -> Result<Change, String> {
        let next = specs.into_iter().enumerate().map(|(index, spec)| {
            let running = self.open.iter().find(|open| {
                // Port 0 is another port for each listener, so there the name decides.
                let same_port = spec.address.port() != 0 || open.spec.settings.name == spec.settings.name;
                open.spec.address == spec.address && same_port
            });
            // The router knows a listener by its place, so one that moved is opened anew.
            let same = running
                .filter(|open| open.spec.fingerprint == spec.fingerprint && self.place(open) == Some(index));
            if let Some(open) = same {
                return Ok(Open {
                    spec: open.spec.clone(),
                    bound: open.bound.clone(),
                    counters: open.counters.clone(),
                    control: open.control.clone(),
                    served: true,
                });
            }
            let (bound, counters) = match running {
                Some(open) => (open.bound.clone(), open.counters.clone()),
                None => {
                    let bound = Bound::bind(spec.address, workers).map_err(|error| {
                        format!("listener `{}` cannot bind {}: {error}", spec.settings.name, spec.address)
                    })?;
                    (Arc::new(bound), Arc::default())
                }
            };
            Ok(Open { spec, bound, counters, control: Arc::default(), served: false })
        });
        Ok(Change { next: next.collect::<Result<_, String>>()? })
    }

    /// Takes the change up; what is no longer wanted is returned to be drained.
    pub fn apply(&mut self, change: Change) -> Vec<Arc<DrainControl>> {
        let before = std::mem::replace(&mut self.open, change.next);
        let kept = |old: &Open| self.open.iter().any(|open| Arc::ptr_eq(&open.control, &old.control));
        before.iter().filter(|old| !kept(old)).map(|old| old.control.clone()).collect()
    }

    /// Starts accept loops on listeners that have none, and tells where all of them are.
    pub fn serve(&mut self, workers: &Workers) -> Vec<(String, SocketAddr)> {
        for (index, open) in self.open.iter_mut().enumerate() {
            if std::mem::replace(&mut open.served, true) {
                continue;
            }
            for worker in 0..workers.count() {
                match open.bound.socket(worker) {
                    Ok(socket) => {
                        let listen = Listen {
                            socket,
                            spec: open.spec.clone(),
                            index: u16::try_from(index).unwrap_or(u16::MAX),
                            counters: open.counters.clone(),
                            control: open.control.clone(),
                        };
                        workers.order(worker, Order::Listen(Box::new(listen)));
                    }
                    Err(error) => {
                        tracing::error!(listener = %open.spec.settings.name, %error, "a socket is lost")
                    }
                }
            }
        }
        self.open
            .iter()
            .map(|open| (open.spec.settings.name.to_string(), open.bound.local_address()))
            .collect()
    }

    /// Closes all listeners; what they still carry is the caller's to wait for.
    pub fn close_all(&mut self) -> Vec<Arc<DrainControl>> {
        self.open.drain(..).map(|open| open.control).collect()
    }

    /// Loads the certificates of all listeners again; what cannot be used is told and changes
    /// nothing.
    pub fn reload_certificates(&self, now: Duration) {
        for open in &self.open {
            if let Some(tls) = &open.spec.tls
                && let Err(error) = tls.reload(now)
            {
                tracing::error!(listener = %open.spec.settings.name, %error, "the certificates stay as they were");
            }
        }
    }

    /// What listeners serve with.
    pub fn tls(&self) -> Vec<Arc<Tls>> {
        self.open.iter().filter_map(|open| open.spec.tls.clone()).collect()
    }

    /// When each listener's first certificate expires, since the Unix epoch.
    pub fn expiries(&self) -> Vec<(Arc<str>, Duration)> {
        let expires =
            |open: &Open| Some((open.spec.settings.name.clone(), open.spec.tls.as_ref()?.expires()?));
        self.open.iter().filter_map(expires).collect()
    }

    /// Files of certificates and keys, to be watched.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        self.open.iter().flat_map(|open| open.spec.tls_files.clone()).collect()
    }

    /// Counters by listener, for the metrics.
    pub fn counters(&self) -> Vec<(Arc<str>, Arc<Counters>)> {
        self.open.iter().map(|open| (open.spec.settings.name.clone(), open.counters.clone())).collect()
    }

    fn place(&self, open: &Open) -> Option<usize> {
        self.open.iter().position(|other| std::ptr::eq(other, open))
    }
}
