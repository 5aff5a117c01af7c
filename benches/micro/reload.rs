//! A reload: the configuration read, checked and compiled, on top of one that is nearly the same.

use crate::gateway::{Bench, config, plain};
use criterion::Criterion;
use std::fmt::Write;

pub fn all(criterion: &mut Criterion) {
    let bench = Bench::new();
    let mut group = criterion.benchmark_group("reload");
    group.sample_size(10);
    for count in [100, 1_000] {
        let before = bench.compile(&config(&[], &apis(count, "/v1")), None);
        let text = config(&[], &apis(count, "/v2"));
        group.bench_function(format!("{count} APIs"), |bencher| {
            bencher.iter(|| bench.compile(&text, Some(&before)));
        });
    }
    group.finish();
}

fn apis(count: usize, rewrite: &str) -> String {
    let mut text = String::new();
    for number in 1..count {
        let policy = plain(3, 1);
        writeln!(
            text,
            "- {{ name: api-{number}, path: /api/{number}, upstream: flights, rewrite: {rewrite}, chain: [{policy}], \
             operations: [{{ match: {{ methods: [GET], path: '/{{id}}' }} }}] }}"
        )
        .unwrap();
    }
    text
}
