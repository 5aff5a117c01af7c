//! Hot paths for counting instructions: one case, run so many times and nothing else.
//!
//! `benches/instructions/check` runs it under callgrind, which counts within `measured_rounds` only.
//! `CASE ROUNDS`; no argument lists the cases.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be set up has nothing to measure")]

mod exchange;
#[path = "../micro/gateway.rs"]
mod gateway;

use gateway::{Bench, Worker, config, plain, rewrite, subject};
use http::{HeaderMap, Method, StatusCode};
use std::hint::black_box;
use witgate::chain;
use witgate::chain::subject::ResponseHead;
use witgate::plugin::instance::HeaderCall;
use witgate::router::ListenerId;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Case = (&'static str, fn(u32));

const CASES: &[Case] = &[
    ("hook, no values", |rounds| hook(0, 0, rounds)),
    ("hook, 3 values and 1 edit", |rounds| hook(3, 1, rounds)),
    ("chain of 1 rewriting policy", |rounds| chain(1, rounds)),
    ("chain of 5 rewriting policies", |rounds| chain(5, rounds)),
    ("fresh instance", fresh),
    ("router, 1,000 operations", router),
    ("exchange, no policies", |rounds| exchange::run(0, rounds)),
    ("exchange, 5 rewriting policies", |rounds| exchange::run(5, rounds)),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next().filter(|name| !name.starts_with("--")) else {
        for (name, _) in CASES {
            println!("{name}");
        }
        return;
    };
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    match CASES.iter().find(|(known, _)| *known == name) {
        Some((_, case)) => case(rounds),
        None => panic!("no case {name:?}"),
    }
}

/// What callgrind looks for, by name.
#[inline(never)]
fn measured_rounds(rounds: impl FnOnce()) {
    rounds();
}

/// Rounds that come first, so that memory is there and code is warm.
const UNCOUNTED: u32 = 20;

fn hook(reads: usize, edits: usize, rounds: u32) {
    let bench = Bench::new();
    let snapshot = bench.compile(&config(&[plain(reads, edits)], ""), None);
    let worker = Worker::new(&snapshot);
    let values = vec![Some("some value of 24 bytes.."); reads];
    let mut lease = worker.pools[0].lease_warm().unwrap();
    let mut run = |rounds| {
        for _ in 0..rounds {
            black_box(lease.now(HeaderCall::Request(&values), &mut None)).unwrap();
        }
    };
    run(UNCOUNTED);
    measured_rounds(|| run(rounds));
}

fn chain(length: usize, rounds: u32) {
    let bench = Bench::new();
    let policies: Vec<_> = (0..length).map(rewrite).collect();
    let snapshot = bench.compile(&config(&policies, ""), None);
    let worker = Worker::new(&snapshot);
    let chain = &snapshot.routes[0].chain;
    let mut subject = subject(&snapshot);
    let mut run = |rounds| {
        worker.runtime.block_on(async {
            for _ in 0..rounds {
                let mut passed = 0;
                subject.response = None;
                let there = chain::request::run(chain, &worker.pools, &mut subject, &mut passed).await;
                subject.response = Some(ResponseHead { status: StatusCode::OK, headers: HeaderMap::new() });
                let back = chain::response::run(chain, &worker.pools, &mut subject, &mut passed).await;
                assert!(there.is_continue() && back.is_continue());
            }
        });
    };
    run(UNCOUNTED);
    measured_rounds(|| run(rounds));
}

/// What `isolation: request` costs: an instance made, configured and dropped.
fn fresh(rounds: u32) {
    let bench = Bench::new();
    let fresh = rewrite(0).replace("plugin: header-rewrite,", "plugin: header-rewrite, isolation: request,");
    let snapshot = bench.compile(&config(&[fresh], ""), None);
    let worker = Worker::new(&snapshot);
    let run = |rounds| {
        worker.runtime.block_on(async {
            for _ in 0..rounds {
                drop(worker.pools[0].lease().await.unwrap());
            }
        });
    };
    run(UNCOUNTED);
    measured_rounds(|| run(rounds));
}

fn router(rounds: u32) {
    let bench = Bench::new();
    let apis: String = (0..1_000)
        .map(|n| format!("- {{ name: api-{n}, path: /api/flights-{n}/of/{}, upstream: flights }}\n", n % 7))
        .collect();
    let snapshot = bench.compile(&config(&[], &apis), None);
    measured_rounds(|| {
        for round in 0..rounds {
            let path = if round % 2 == 0 { "/api/flights-777/of/0/LX1234" } else { gateway::PATH };
            black_box(snapshot.router.find(ListenerId(0), Some("api.example.com"), &Method::GET, path));
        }
    });
}
