//! One hook call: its price with values and edits, and that of a fresh instance.

use crate::gateway::{Bench, Worker, config, plain};
use criterion::Criterion;
use witgate::plugin::instance::HeaderCall;

pub fn all(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("hook");
    for (name, reads, edits) in
        [("no-op", 0, 0), ("3 values", 3, 0), ("20 values", 20, 0), ("1 edit", 0, 1), ("10 edits", 0, 10)]
    {
        let snapshot = bench.compile(&config(&[plain(reads, edits)], ""), None);
        let worker = Worker::new(&snapshot);
        let values = vec![Some("some value of 24 bytes.."); reads];
        let mut lease = worker.pools[0].lease_warm().unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| lease.now(HeaderCall::Request(&values), &mut None).unwrap());
        });
    }
    // What `isolation: request` adds to each exchange and policy.
    let fresh = plain(0, 0).replace("plugin: plain,", "plugin: plain, isolation: request,");
    let snapshot = bench.compile(&config(&[fresh], ""), None);
    let worker = Worker::new(&snapshot);
    group.bench_function("fresh instance", |bencher| {
        bencher.iter(|| drop(worker.runtime.block_on(worker.pools[0].lease()).unwrap()));
    });
    group.finish();
}
