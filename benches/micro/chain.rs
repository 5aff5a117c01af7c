//! A whole chain, request and response hooks: leases, reads, calls, edits, counts.

use crate::gateway::{Bench, Worker, config, plain, rewrite, subject};
use criterion::{BatchSize, Criterion};
use http::{HeaderMap, StatusCode};
use witgate::chain;
use witgate::chain::subject::ResponseHead;

/// A policy's configuration, by its place in the chain.
type Policy = fn(usize) -> String;

pub fn all(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("chain");
    let policies: [(&str, Policy); 3] =
        [("pass", |_| plain(0, 0)), ("3 values, 1 edit", |_| plain(3, 1)), ("header-rewrite", rewrite)];
    for (name, policy) in policies {
        for length in [1, 5, 10] {
            let policies: Vec<_> = (0..length).map(policy).collect();
            let snapshot = bench.compile(&config(&policies, ""), None);
            let worker = Worker::new(&snapshot);
            let chain = &snapshot.routes[0].chain;
            group.bench_function(format!("{length} policies, {name}"), |bencher| {
                bencher.iter_batched_ref(
                    || subject(&snapshot),
                    |subject| {
                        worker.runtime.block_on(async {
                            let mut passed = 0;
                            let there = chain::request::run(chain, &worker.pools, subject, &mut passed).await;
                            subject.response =
                                Some(ResponseHead { status: StatusCode::OK, headers: HeaderMap::new() });
                            let back = chain::response::run(chain, &worker.pools, subject, &mut passed).await;
                            assert!(there.is_continue() && back.is_continue());
                        });
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}
