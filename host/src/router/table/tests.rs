//! Routes found against a linear scan, conflicts, and the shape of the answers.

use super::*;
use proptest::prelude::*;

const L0: ListenerId = ListenerId(0);

fn api(route: u32, prefix: &str) -> ApiSpec {
    ApiSpec {
        listeners: Vec::new(),
        hosts: Vec::new(),
        prefix: prefix.into(),
        operations_only: false,
        route: RouteId(route),
        operations: Vec::new(),
    }
}

fn operation(route: u32, methods: &[Method], template: &str) -> OperationSpec {
    OperationSpec {
        methods: methods.to_vec(),
        template: Some(template).filter(|template| !template.is_empty()).map(Into::into),
        route: RouteId(route),
    }
}

fn only(route: u32, prefix: &str, operations: Vec<OperationSpec>) -> ApiSpec {
    ApiSpec { operations_only: true, operations, ..api(route, prefix) }
}

/// One line for what was found: `7 id=..`, `405 GET, HEAD`, `404`.
fn shown(found: &Found, path: &str) -> String {
    let matched = |matched: &Match| {
        let params = (0..matched.params.len()).filter_map(|index| matched.params.get(path, index));
        let params: String = params.map(|value| format!(" {value}")).collect();
        format!("{}{params}", matched.route.0)
    };
    match found {
        Found::Route(found) => matched(found),
        Found::Preflight { matched: found, allow } => format!("preflight {} {allow:?}", matched(found)),
        Found::MethodNotAllowed { api, allow } => format!("405 {} {allow:?}", api.0),
        Found::NotFound { api } => format!("404 {api:?}"),
    }
}

fn check(router: &Router, method: Method, path: &str, expected: &str) {
    let found = router.find(L0, Some("a.example"), &method, path);
    assert_eq!(shown(&found, path), expected, "{method} {path}");
}

#[test]
fn the_most_specific_operation_wins_whatever_the_order() {
    let mut operations = vec![
        operation(1, &[], ""),
        operation(2, &[Method::GET], "/{id}"),
        operation(3, &[Method::GET], "/me"),
        operation(4, &[Method::POST, Method::PUT], "/{id}"),
        operation(5, &[], "/files/{*rest}"),
        operation(6, &[Method::GET], "/files/{*path}"),
    ];
    for _ in 0..operations.len() {
        operations.rotate_left(1);
        let router =
            Router::build(1, vec![ApiSpec { operations: operations.clone(), ..api(0, "/api/employee") }]);
        let router = router.expect("no conflict");
        check(&router, Method::GET, "/api/employee/5", "2 5");
        check(&router, Method::GET, "/api/employee/me", "3");
        check(&router, Method::GET, "/api/employee/me/", "3");
        check(&router, Method::HEAD, "/api/employee/me", "3");
        check(&router, Method::PUT, "/api/employee/me", "4 me");
        check(&router, Method::DELETE, "/api/employee/me", "1 me");
        check(&router, Method::GET, "/api/employee/files/a/b", "6 a/b");
        check(&router, Method::POST, "/api/employee/files/a/b", "5 a/b");
        check(&router, Method::GET, "/api/employee", "1 ");
        check(&router, Method::GET, "/api/employees", "404 None");
        check(&router, Method::GET, "/api", "404 None");
    }
}

#[test]
fn what_no_operation_matches_is_the_apis_own_unless_operations_only() {
    let operations = vec![operation(1, &[Method::GET], "/{id}"), operation(2, &[Method::POST], "/{id}/x")];
    let open = Router::build(1, vec![ApiSpec { operations: operations.clone(), ..api(0, "/a") }]);
    let open = open.expect("no conflict");
    // Another method of a path that has an operation does not go past its policies.
    check(&open, Method::POST, "/a/5", "405 0 \"GET, HEAD\"");
    check(&open, Method::OPTIONS, "/a/5", "preflight 1 5 \"GET, HEAD\"");
    check(&open, Method::GET, "/a/5/y", "0");
    let closed = Router::build(1, vec![api(9, "/"), only(0, "/a", operations)]).expect("no conflict");
    check(&closed, Method::POST, "/a/5", "405 0 \"GET, HEAD\"");
    check(&closed, Method::OPTIONS, "/a/5", "preflight 1 5 \"GET, HEAD\"");
    check(&closed, Method::OPTIONS, "/a/5/x", "preflight 2 5 \"POST\"");
    check(&closed, Method::GET, "/a/5/y", "404 Some(RouteId(0))");
    check(&closed, Method::OPTIONS, "/a/5/y", "404 Some(RouteId(0))");
    check(&closed, Method::GET, "/b", "9");
}

#[test]
fn another_spelling_of_a_name_is_the_same_name() {
    let operations = vec![
        operation(1, &[], "/things:purge"),
        operation(2, &[], "/%c3%bc"),
        operation(3, &[], "/adm/{*x}"),
    ];
    let router = Router::build(1, vec![ApiSpec { operations, ..api(0, "/v1:a") }]).expect("no conflict");
    for path in
        ["/v1:a/things:purge", "/v1%3Aa/things%3Apurge", "/v1:a/things%3Apurge%3Bx=1", "/v1:a/things:purge;x"]
    {
        check(&router, Method::GET, path, "1");
    }
    check(&router, Method::GET, "/v1:a/%C3%BC", "2");
    check(&router, Method::GET, "/v1:a/adm%3Bx/y", "3 y");
    check(&router, Method::GET, "/v1:a/things%253Apurge", "0");
    let semicolon = Router::build(1, vec![api(0, "/a%3Bb")]);
    assert!(semicolon.is_err(), "what stands behind a `;` is no name");
}

#[test]
fn a_host_that_cannot_be_read_has_no_api_where_others_have_their_own() {
    let router =
        Router::build(1, vec![api(0, "/"), ApiSpec { hosts: vec!["*.priv.test".into()], ..api(1, "/") }]);
    let router = router.expect("no conflict");
    let find = |host| router.find(ListenerId(0), Some(host), &Method::GET, "/");
    assert!(matches!(find("x.priv.test"), Found::Route(found) if found.route == RouteId(1)));
    assert!(matches!(find(""), Found::Route(found) if found.route == RouteId(0)));
    for host in ["~.priv.test", "x..priv.test", ".priv.test", "x.priv.test:000080", "x.priv.test.."] {
        assert!(matches!(find(host), Found::NotFound { .. }), "{host}");
    }
}

#[test]
fn allow_tells_the_methods_of_all_paths_that_fit() {
    let purge = Method::from_bytes(b"PURGE").expect("a token");
    let operations = vec![
        operation(1, &[Method::DELETE], "/me"),
        operation(2, &[Method::GET, purge.clone()], "/{id}"),
        operation(3, &[Method::OPTIONS], "/{id}/x"),
    ];
    let router = Router::build(1, vec![only(0, "/", operations)]).expect("no conflict");
    check(&router, Method::POST, "/me", "405 0 \"GET, HEAD, DELETE, PURGE\"");
    check(&router, purge, "/me", "2 me");
    check(&router, Method::from_bytes(b"LOCK").expect("a token"), "/you", "405 0 \"GET, HEAD, PURGE\"");
    check(&router, Method::OPTIONS, "/me", "preflight 1 \"GET, HEAD, DELETE, PURGE\"");
    check(&router, Method::OPTIONS, "/me/x", "3 me");
}

#[test]
fn hosts_come_before_prefixes() {
    let on = |route, host: &str, prefix: &str| ApiSpec { hosts: vec![host.into()], ..api(route, prefix) };
    let router = Router::build(
        1,
        vec![api(0, "/a/b"), on(1, "*.example", "/a/b"), on(2, "a.example", "/a"), on(3, "[::1]", "/")],
    );
    let router = router.expect("no conflict");
    let check = |host: Option<&str>, path, expected| {
        assert_eq!(shown(&router.find(L0, host, &Method::GET, path), path), expected, "{host:?}");
    };
    check(Some("A.Example.:8080"), "/a/b/c", "2");
    check(Some("b.example"), "/a/b/c", "1");
    check(Some("b.example"), "/a", "404 None");
    check(Some("a.example"), "/b", "404 None");
    check(Some("other"), "/a/b", "0");
    check(Some("not a host"), "/a/b", "404 None");
    check(None, "/a/b", "0");
    check(Some("[0::1]:80"), "/x", "3");
}

#[test]
fn listeners_have_tables_of_their_own() {
    let on = |route, listeners: &[u16]| ApiSpec {
        listeners: listeners.iter().copied().map(ListenerId).collect(),
        ..api(route, "/")
    };
    let router = Router::build(3, vec![on(1, &[0]), on(2, &[1, 1])]).expect("no conflict");
    let find = |listener| shown(&router.find(ListenerId(listener), None, &Method::GET, "/"), "/");
    assert_eq!([0, 1, 2, 3].map(find), ["1", "2", "404 None", "404 None"]);
    let conflicts = Router::build(1, vec![on(1, &[1])]).expect_err("no such listener");
    assert_eq!(conflicts, [Conflict::Listener { route: RouteId(1), listener: ListenerId(1) }]);
}

#[test]
fn only_normal_paths_are_looked_up() {
    let router = Router::build(1, vec![api(0, "/")]).expect("no conflict");
    for path in ["*", "", "a", "ü/a"] {
        check(&router, Method::OPTIONS, path, "404 None");
    }
    check(&router, Method::GET, "/ü//x/", "0");
}

#[test]
fn the_end_of_the_prefix_is_told() {
    let router = Router::build(1, vec![api(0, "/api/v1")]).expect("no conflict");
    for (path, end) in [("/api/v1", 7), ("/api/v1/x", 7), ("/api;a/v1;b=2/x", 13)] {
        match router.find(L0, None, &Method::GET, path) {
            Found::Route(found) => assert_eq!(found.prefix_end, end, "{path}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn conflicts_name_both_routes() {
    let hosts = |route, hosts: &[&str]| ApiSpec {
        hosts: hosts.iter().map(|host| host.to_string()).collect(),
        ..api(route, "/x/")
    };
    let conflicts = Router::build(
        2,
        vec![
            api(0, "/x"),
            api(1, "/x/"),
            hosts(2, &["a.example", "A.example."]),
            hosts(3, &["a.example:80", "A.EXAMPLE"]),
            api(4, "x"),
            ApiSpec {
                operations: vec![
                    operation(10, &[Method::GET, Method::POST], "/{a}"),
                    operation(11, &[Method::POST, Method::PUT], "/{b}/"),
                    operation(12, &[], ""),
                    operation(13, &[], "/{*all}"),
                    operation(14, &[Method::GET], "/{a}.txt"),
                ],
                ..api(5, "/y")
            },
        ],
    );
    let conflicts = conflicts.expect_err("conflicts");
    let shown: Vec<_> = conflicts
        .iter()
        .map(|conflict| {
            format!("{} {:?} {conflict}", conflict.route().0, conflict.other().map(|route| route.0))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "1 Some(0) another API is at \"/x/\" already",
            "3 None \"a.example:80\" is neither a host nor `*.` and a host",
            "3 Some(2) another API is at \"/x/\" of A.EXAMPLE already",
            "4 None \"x\" is not a prefix: it must begin with a slash",
            "11 Some(10) another operation has POST of /{b}/ already",
            "13 Some(12) another operation has every method of /{*all} already",
            "14 None \"/{a}.txt\" is not a template: a segment is plain text, `{name}` or `{*name}`",
        ]
    );
}

#[test]
fn ten_thousand_apis_and_operations() {
    let apis: Vec<_> =
        (0..10_000).map(|index| api(index, &format!("/api/{}/v{index}", index % 100))).collect();
    let router = Router::build(1, apis).expect("no conflict");
    check(&router, Method::GET, "/api/34/v1234/x", "1234");
    check(&router, Method::GET, "/api/35/v1234/x", "404 None");
    let operations: Vec<_> = (0..10_000u32)
        .map(|index| operation(index, &[Method::GET], &format!("/{}/{{id}}/p{index}", index % 10)))
        .collect();
    let router = Router::build(1, vec![only(0, "/a", operations)]).expect("no conflict");
    check(&router, Method::GET, "/a/4/77/p1234", "1234 77");
    check(&router, Method::PUT, "/a/4/77/p1234", "405 0 \"GET, HEAD\"");
}

mod oracle {
    //! The rules of `router`'s head, by looking at everything.

    use super::*;

    fn segments(path: &str) -> Vec<&str> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() { Vec::new() } else { path.split('/').collect() }
    }

    fn name(segment: &str) -> &str {
        segment.split(';').next().unwrap_or_default()
    }

    /// How well a host fits: exact hosts best, then by length of the suffix.
    fn host_rank(pattern: &str, host: &str) -> Option<usize> {
        if pattern == host {
            return Some(usize::MAX);
        }
        let suffix = pattern.strip_prefix('*')?;
        (host.ends_with(suffix) && host.len() > suffix.len()).then_some(suffix.len())
    }

    /// Lower is more specific, from the left.
    fn template_rank(template: Option<&str>, path: &[&str]) -> Option<Vec<u8>> {
        let mut rank = Vec::new();
        let template = segments(template.unwrap_or("/{*rest}"));
        for (index, segment) in template.iter().enumerate() {
            if segment.starts_with("{*") {
                rank.push(2);
                return Some(rank);
            }
            let part = path.get(index)?;
            if segment.starts_with('{') {
                rank.push(1);
            } else if *segment == name(part) {
                rank.push(0);
            } else {
                return None;
            }
        }
        rank.push(0);
        (template.len() == path.len()).then_some(rank)
    }

    /// The values of a template's parameters, each after a space.
    fn values(template: Option<&str>, path: &[&str], slash: bool) -> String {
        let mut values = String::new();
        for (index, segment) in segments(template.unwrap_or("/{*rest}")).iter().enumerate() {
            if segment.starts_with("{*") {
                let slash = if slash && index < path.len() { "/" } else { "" };
                values += &format!(" {}{slash}", path[index..].join("/"));
            } else if segment.starts_with('{') {
                values += &format!(" {}", path[index]);
            }
        }
        values
    }

    /// The route that answers, or the methods that are allowed, or nothing.
    pub(super) fn find(
        apis: &[ApiSpec],
        listener: ListenerId,
        host: &str,
        method: &Method,
        path: &str,
    ) -> String {
        let path_segments = segments(path);
        let fits = |api: &&ApiSpec| {
            let prefix = segments(&api.prefix);
            (api.listeners.is_empty() || api.listeners.contains(&listener))
                && prefix.len() <= path_segments.len()
                && prefix.iter().zip(&path_segments).all(|(a, b)| *a == name(b))
        };
        let rank = |api: &ApiSpec| {
            let host = api.hosts.iter().filter_map(|pattern| host_rank(pattern, host)).max();
            let host = if api.hosts.is_empty() { Some(0) } else { host };
            host.map(|host| (host, segments(&api.prefix).len()))
        };
        let best = apis.iter().filter(fits).filter(|api| rank(api).is_some()).max_by_key(|api| rank(api));
        let Some(api) = best else { return "404".into() };
        let rest = &path_segments[segments(&api.prefix).len()..];

        let mut fitting: Vec<_> = api
            .operations
            .iter()
            .filter_map(|operation| Some((template_rank(operation.template.as_deref(), rest)?, operation)))
            .collect();
        let has = |operation: &OperationSpec, method: &Method| operation.methods.contains(method);
        let method_rank = |operation: &OperationSpec| {
            if has(operation, method) {
                Some(0)
            } else if *method == Method::HEAD && has(operation, &Method::GET) {
                Some(1)
            } else if operation.methods.is_empty() {
                Some(2)
            } else {
                None
            }
        };
        let answer = fitting
            .iter()
            .filter_map(|(path, operation)| Some((path, method_rank(operation)?, operation.route)))
            .min();
        if let Some((_, _, route)) = answer {
            let operation = api.operations.iter().find(|operation| operation.route == route);
            let template = operation.and_then(|operation| operation.template.as_deref());
            return format!("{}{}", route.0, values(template, rest, path.ends_with('/')));
        }
        if fitting.is_empty() && !api.operations_only {
            return format!("{}", api.route.0);
        }
        fitting.sort_by(|a, b| a.0.cmp(&b.0));
        let Some((_, first)) = fitting.first() else { return "404".into() };
        let mut allow: Vec<&str> =
            fitting.iter().flat_map(|(_, operation)| operation.methods.iter().map(Method::as_str)).collect();
        if allow.contains(&"GET") {
            allow.push("HEAD");
        }
        allow.sort_unstable();
        allow.dedup();
        if method == Method::OPTIONS {
            format!("preflight {} {allow:?}", first.route.0)
        } else {
            format!("405 {allow:?}")
        }
    }
}

/// The same words for what the router found.
fn found(router: &Router, listener: ListenerId, host: &str, method: &Method, path: &str) -> String {
    let list = |allow: &HeaderValue| {
        let mut list: Vec<String> =
            allow.to_str().expect("tokens").split(", ").map(ToOwned::to_owned).collect();
        list.sort_unstable();
        format!("{list:?}")
    };
    match router.find(listener, Some(host), method, path) {
        found @ Found::Route(_) => shown(&found, path),
        Found::Preflight { matched, allow } => format!("preflight {} {}", matched.route.0, list(&allow)),
        Found::MethodNotAllowed { allow, .. } => format!("405 {}", list(&allow)),
        Found::NotFound { .. } => "404".into(),
    }
}

fn some_method() -> impl Strategy<Value = Method> {
    proptest::sample::select(vec![
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::OPTIONS,
        Method::from_bytes(b"PURGE").expect("a token"),
    ])
}

fn some_operation() -> impl Strategy<Value = (Vec<Method>, Option<String>)> {
    let segment = prop_oneof![3 => "/[ab]", 2 => "/\\{[xy]\\}"];
    let template = (proptest::collection::vec(segment, 0..4), any::<bool>(), any::<bool>()).prop_filter_map(
        "a name comes twice",
        |(segments, rest, slash)| {
            let end = if rest { "/{*rest}" } else { "" };
            let text = format!("{}{end}{}", segments.concat(), if slash { "/" } else { "" });
            let text = if text.is_empty() { "/".to_owned() } else { text };
            parse_template(&text).is_ok().then_some(text)
        },
    );
    (proptest::collection::vec(some_method(), 0..3), proptest::option::weighted(0.9, template))
}

fn some_api() -> impl Strategy<Value = ApiSpec> {
    let host = proptest::sample::select(vec!["a.b.c", "b.c", "*.b.c", "*.c", "*.a.b.c"]);
    (
        proptest::collection::vec((0u16..2).prop_map(ListenerId), 0..2),
        proptest::collection::vec(host.prop_map(str::to_owned), 0..3),
        "(/[ab]){0,3}/?",
        any::<bool>(),
        proptest::collection::vec(some_operation(), 0..8),
    )
        .prop_map(|(listeners, hosts, prefix, operations_only, operations)| ApiSpec {
            listeners,
            hosts,
            prefix,
            operations_only,
            route: RouteId(0),
            operations: operations
                .into_iter()
                .map(|(methods, template)| OperationSpec { methods, template, route: RouteId(0) })
                .collect(),
        })
}

/// Numbers the routes, and leaves out what is in conflict until nothing is.
fn settle(mut apis: Vec<ApiSpec>) -> (Vec<ApiSpec>, Router) {
    let mut next = 0;
    let mut number = || {
        next += 1;
        RouteId(next)
    };
    for api in &mut apis {
        api.route = number();
        api.operations.iter_mut().for_each(|operation| operation.route = number());
    }
    loop {
        match Router::build(2, apis.clone()) {
            Ok(router) => return (apis, router),
            Err(conflicts) => {
                let refused = |route: RouteId| conflicts.iter().any(|conflict| conflict.route() == route);
                apis.retain(|api| !refused(api.route));
                apis.iter_mut().for_each(|api| api.operations.retain(|operation| !refused(operation.route)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// 24 requests a case.
    #[test]
    fn equals_a_linear_scan(
        apis in proptest::collection::vec(some_api(), 1..8),
        requests in proptest::collection::vec((
            0u16..2,
            proptest::sample::select(vec!["a.b.c", "b.c", "x.b.c", "y.x.c", "c", "z"]),
            some_method(),
            "(/[abc](;v)?){0,6}/?",
        ), 24),
        turn in any::<proptest::sample::Index>(),
    ) {
        let (mut apis, router) = settle(apis);
        for (listener, host, method, path) in &requests {
            let path = if path.is_empty() { "/" } else { path };
            let expected = oracle::find(&apis, ListenerId(*listener), host, method, path);
            prop_assert_eq!(
                found(&router, ListenerId(*listener), host, method, path), expected,
                "{} {} {} {:#?}", host, method, path, apis);
        }
        // The order of declaration makes no difference.
        if !apis.is_empty() {
            let middle = turn.index(apis.len());
            apis.rotate_left(middle);
            let turned = Router::build(2, apis).expect("no conflict in another order either");
            for (listener, host, method, path) in &requests {
                let path = if path.is_empty() { "/" } else { path };
                prop_assert_eq!(
                    turned.find(ListenerId(*listener), Some(host), method, path),
                    router.find(ListenerId(*listener), Some(host), method, path));
            }
        }
    }

    #[test]
    fn never_panics(host in any::<String>(), path in any::<String>(), method in some_method()) {
        let operations = vec![operation(1, &[Method::GET], "/{a}/x/{*rest}")];
        let router = Router::build(1, vec![only(0, "/", operations)]).expect("no conflict");
        let _ = router.find(L0, Some(&host), &method, &path);
        let _ = router.find(L0, Some(&host), &method, &format!("/{path}"));
        let _ = super::super::path::parse_template(&path);
        let _ = super::super::host::canonical(&host);
    }
}
