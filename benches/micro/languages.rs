//! What a policy costs by its language: the start of an instance, one hook, memory.
//!
//! Measures the components that `WITGATE_COMPONENTS`, a folder, holds; nothing without it. They are
//! what `witgate plugin new` writes, so that all do the same: read two values, set one header.

use crate::gateway::{Bench, Worker, config};
use criterion::Criterion;
use std::path::{Path, PathBuf};
use witgate::plugin::instance::HeaderCall;

/// Hooks after which memory is looked at again.
const CALLS: usize = 10_000;

pub fn all(criterion: &mut Criterion) {
    let Some(folder) = std::env::var_os("WITGATE_COMPONENTS").map(PathBuf::from) else { return };
    let mut components: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    components.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    components.sort();
    for component in components {
        measure(criterion, &component);
    }
}

fn measure(criterion: &mut Criterion, component: &Path) {
    let bench = Bench::new();
    let name = component.file_stem().unwrap().to_str().unwrap();
    let began = std::time::Instant::now();
    std::fs::copy(component, bench.directory.path().join(component.file_name().unwrap())).unwrap();
    let policy = |isolation: &str| {
        let limits = "limits: { memory: 64MiB, time: 1s }";
        format!("{{ plugin: {name}, {isolation} {limits}, config: {{ header: x-tenant }} }}")
    };
    let snapshot = bench.compile(&config(&[policy("")], ""), None);
    let compiled = began.elapsed();
    let worker = Worker::new(&snapshot);
    let values = [Some("blue"), Some("192.0.2.1")];
    let mut lease = worker.runtime.block_on(worker.pools[0].lease()).unwrap();
    let at_start = lease.memory_bytes();
    let mut group = criterion.benchmark_group(format!("language {name}"));
    group.bench_function("hook", |bencher| {
        bencher
            .iter(|| worker.runtime.block_on(lease.later(HeaderCall::Request(&values), &mut None)).unwrap());
    });
    for _ in 0..CALLS {
        worker.runtime.block_on(lease.later(HeaderCall::Request(&values), &mut None)).unwrap();
    }
    let size = std::fs::metadata(component).unwrap().len();
    println!(
        "language {name}: {size} bytes; compiled in {compiled:?}; memory {at_start} bytes at the start, {} after more \
         than {CALLS} hooks",
        lease.memory_bytes()
    );
    let snapshot = bench.compile(&config(&[policy("isolation: request,")], ""), None);
    let worker = Worker::new(&snapshot);
    group.bench_function("start", |bencher| {
        bencher.iter(|| drop(worker.runtime.block_on(worker.pools[0].lease()).unwrap()));
    });
    group.finish();
}
