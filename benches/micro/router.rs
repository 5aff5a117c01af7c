//! The router, among few and among many operations.

use criterion::Criterion;
use http::Method;
use std::hint::black_box;
use witgate::router::{ApiSpec, Found, ListenerId, OperationSpec, RouteId, Router};

const OPERATIONS_OF_API: u32 = 10;

pub fn all(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    for operations in [10, 1_000, 10_000] {
        let router = Router::build(1, apis(operations / OPERATIONS_OF_API)).unwrap();
        let middle = operations / OPERATIONS_OF_API / 2;
        let path = format!("/api/team-{}/service-{middle}/orders-7/4711/items", middle % 10);
        group.bench_function(format!("{operations} operations"), |bencher| {
            bencher.iter(|| {
                let found =
                    router.find(ListenerId(0), Some("api.example.com"), &Method::GET, black_box(&path));
                assert!(matches!(found, Found::Route(_)));
            });
        });
        let miss = format!("/api/team-{}/service-{middle}x/orders-7/4711/items", middle % 10);
        group.bench_function(format!("{operations} operations, none fits"), |bencher| {
            bencher.iter(|| {
                let found =
                    router.find(ListenerId(0), Some("api.example.com"), &Method::GET, black_box(&miss));
                assert!(matches!(found, Found::NotFound { .. }));
            });
        });
    }
    group.finish();
}

fn apis(count: u32) -> Vec<ApiSpec> {
    let api = |number: u32| ApiSpec {
        listeners: vec![],
        hosts: vec![],
        prefix: format!("/api/team-{}/service-{number}", number % 10),
        operations_only: false,
        route: RouteId(number * (OPERATIONS_OF_API + 1)),
        operations: (0..OPERATIONS_OF_API)
            .map(|operation| OperationSpec {
                methods: vec![Method::GET, Method::POST],
                template: Some(format!("/orders-{operation}/{{id}}/items")),
                route: RouteId(number * (OPERATIONS_OF_API + 1) + 1 + operation),
            })
            .collect(),
    };
    (0..count).map(api).collect()
}
