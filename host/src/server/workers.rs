//! Worker threads: each one a runtime, a `Worker`, and the accept loops it was told to run.
//!
//! `server` starts them and sends them orders. A worker takes no lock and shares nothing but what
//! its orders bring.

use crate::compile::{ListenerSpec, Workshop};
use crate::connection::Connections;
use crate::exchange::{Exchange, Inlet, Worker};
use crate::listener::{self, Counters, DrainControl, Listener};
use crate::plugin::Seats;
use crate::snapshot::cell::SnapshotCell;
use crate::telemetry::access_log::{AccessLog, WorkerLog};
use crate::telemetry::enter_worker;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, watch};

/// Turns of tasks between two looks at the sockets. More than the runtime would take by itself: with
/// many connections at work each look finds more to do, and a turn is a few microseconds.
const TURNS: u32 = 256;

/// What a worker is told to do.
pub enum Order {
    /// Accept on this socket.
    Listen(Box<Listen>),
    /// Hand over what is left and end.
    Stop,
}

pub struct Listen {
    pub socket: TcpListener,
    pub spec: ListenerSpec,
    /// As the router knows it.
    pub index: u16,
    pub counters: Arc<Counters>,
    pub control: Arc<DrainControl>,
}

pub struct Workers {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Workers {
    pub fn start(
        count: usize,
        cell: &SnapshotCell,
        workshop: &Workshop,
        access_log: Option<&AccessLog>,
        generations: &watch::Sender<u64>,
    ) -> Result<Workers, String> {
        let (mut orders, mut threads) = (Vec::new(), Vec::new());
        for index in 0..count {
            let (send, receive) = mpsc::unbounded_channel();
            let start = Start {
                index,
                count,
                cell: cell.clone(),
                clock: workshop.clock.clone(),
                metrics: workshop.metrics.clone(),
                generations: generations.subscribe(),
            };
            let log = access_log.map(AccessLog::worker);
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || run(start, log, receive))
                .map_err(|error| format!("no thread for a worker: {error}"))?;
            orders.push(send);
            threads.push(thread);
        }
        Ok(Workers { orders, threads: Mutex::new(threads) })
    }

    pub fn count(&self) -> usize {
        self.orders.len()
    }

    pub fn order(&self, worker: usize, order: Order) {
        // A worker that is gone has panicked, which has been reported.
        let _ = self.orders[worker].send(order);
    }

    /// Ends all workers and waits for them.
    pub fn stop(&self) {
        for orders in &self.orders {
            let _ = orders.send(Order::Stop);
        }
        for thread in super::lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
    }
}

struct Start {
    index: usize,
    /// Of all workers.
    count: usize,
    cell: SnapshotCell,
    clock: crate::clock::Clock,
    metrics: Arc<crate::telemetry::metric::Metrics>,
    generations: watch::Receiver<u64>,
}

fn run(start: Start, log: Option<WorkerLog>, mut orders: mpsc::UnboundedReceiver<Order>) {
    enter_worker(start.index);
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TURNS)
        .build_local(Default::default())
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(worker = start.index, %error, "a worker has no runtime");
            return;
        }
    };
    runtime.block_on(async move {
        let Start { index, count, cell, clock, metrics, generations } = start;
        let worker = Worker::start(index, Seats::share(count), &cell, clock, metrics, log, generations);
        while let Some(order) = orders.recv().await {
            match order {
                Order::Listen(listen) => {
                    if let Err(error) = open(&worker, *listen) {
                        tracing::error!(worker = index, %error, "a worker cannot listen");
                    }
                }
                Order::Stop => break,
            }
        }
        worker.flush_policies().await;
        if let Some(log) = &worker.access_log {
            log.flush();
        }
    });
}

fn open(worker: &Rc<Worker>, listen: Listen) -> std::io::Result<()> {
    let Listen { socket, spec, index, counters, control } = listen;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let drain = control.drain();
    let exchange = Exchange::new(Inlet {
        worker: worker.clone(),
        listener: index,
        body_bytes: spec.body_bytes,
        request: spec.request,
        idle: spec.limits.idle,
        drain: drain.clone(),
    });
    let connections = Connections::new(exchange, &spec.limits, drain.clone());
    let listener = Rc::new(Listener { settings: spec.settings, tls: spec.tls, counters, drain });
    tokio::task::spawn_local(listener::accept(socket, listener, connections));
    Ok(())
}
