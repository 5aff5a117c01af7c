//! The gateway's inside without its sockets: what a configuration compiles to, and one worker's
//! runtime to run it on.

use http::{HeaderMap, HeaderValue, Method};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::{LocalRuntime, Runtime};
use witgate::chain::Subject;
use witgate::chain::request::memory;
use witgate::compile::{Running, Workshop, compile};
use witgate::config;
use witgate::message::forwarded::{ForwardedCache, Scheme};
use witgate::message::id::RequestIds;
use witgate::message::peer::Peer;
use witgate::message::problem::Dialect;
use witgate::plugin::artifact::{Artifacts, Compiler};
use witgate::plugin::{Pool, Seats};
use witgate::router::{Found, ListenerId};
use witgate::snapshot::Snapshot;

pub const PATH: &str = "/api/flights/LX1234";

/// Makes snapshots, as the control runtime does.
pub struct Bench {
    workshop: Workshop,
    /// Plugins, and their cache.
    pub directory: TempDir,
    _control: Runtime,
}

impl Bench {
    pub fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy(witgate_test_support::guests::bench_plain(), directory.path().join("plain.wasm"))
            .unwrap();
        let control =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = load(&config(&[], ""), directory.path());
        let mut workshop = witgate::server::workshop(&config.config, 1, control.handle()).unwrap();
        // This program cannot compile in a child of its own.
        workshop.artifacts = Artifacts::open(directory.path().join("cache"), Compiler::InProcess).unwrap();
        Bench { workshop, directory, _control: control }
    }

    pub fn compile(&self, text: &str, before: Option<&Snapshot>) -> Snapshot {
        let loaded = load(text, self.directory.path());
        let running = before.map(|snapshot| Running { snapshot, tls: &[] });
        match compile(&self.workshop, &loaded.config, PathBuf::new(), loaded.report(), running) {
            Ok(compiled) => compiled.snapshot,
            Err(report) => panic!("{report}"),
        }
    }
}

fn load(text: &str, directory: &Path) -> config::Loaded {
    config::load_text(&directory.join("witgate.yaml"), text.to_string())
        .unwrap_or_else(|report| panic!("{report}"))
}

/// A configuration with one API that has these policies, each a flow mapping, and more APIs.
pub fn config(policies: &[String], apis: &str) -> String {
    format!(
        "listeners: [{{ name: public, address: '127.0.0.1:0' }}]\n\
         plugins: {{ directory: ., cache: cache }}\n\
         upstreams: {{ flights: {{ endpoints: ['http://127.0.0.1:1'] }} }}\n\
         apis:\n- {{ name: flights, path: /api/flights, upstream: flights, chain: [{}] }}\n{apis}",
        policies.join(", ")
    )
}

/// A policy of the benches' own guest.
pub fn plain(reads: usize, edits: usize) -> String {
    let names = [
        "':path'",
        "':method'",
        "user-agent",
        "accept",
        "accept-encoding",
        "accept-language",
        "cookie",
        "referer",
        "x-client-version",
        "'client:ip'",
        "'request:id'",
        "'api:name'",
        "':authority'",
        "':scheme'",
        "authorization",
        "if-none-match",
        "origin",
        "'consumer:name'",
        "':query'",
        "x-forwarded-for",
    ];
    let reads = names[..reads].join(", ");
    format!("{{ plugin: plain, config: {{ reads: [{reads}], edits: {edits} }} }}")
}

/// A policy that reads one value and sets one header, each way.
pub fn rewrite(number: usize) -> String {
    format!(
        "{{ plugin: header-rewrite, config: {{ request: {{ set: {{ x-request-{number}: '{{:path}}' }} }}, \
         response: {{ set: {{ x-response-{number}: '{{:status}}' }} }} }} }}"
    )
}

/// One worker's side of a snapshot.
pub struct Worker {
    pub runtime: LocalRuntime,
    pub pools: Vec<Rc<Pool>>,
}

impl Worker {
    pub fn new(snapshot: &Snapshot) -> Worker {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .unwrap();
        let seats = Seats::share(1);
        let pools: Vec<_> =
            snapshot.policies.iter().map(|policy| Pool::new(policy.clone(), &seats)).collect();
        runtime.block_on(async {
            for pool in &pools {
                pool.warm().await;
            }
        });
        Worker { runtime, pools }
    }
}

/// A browser's request for `PATH`, as a chain meets it.
pub fn subject(snapshot: &Snapshot) -> Subject {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("host", "api.example.com"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "application/json, text/plain, */*"),
        ("accept-language", "en-GB,en;q=0.8,de;q=0.5"),
        ("accept-encoding", "gzip, deflate, br"),
        ("cookie", "session=8d3f0a6c1b5e4f27; theme=dark"),
        ("referer", "https://app.example.com/flights/today"),
        ("x-client-version", "4.18.2"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let address = "192.0.2.7:40000".parse().unwrap();
    let forwarded = ForwardedCache::new(std::net::SocketAddr::ip(&address), Scheme::Http);
    let peer = Rc::new(Peer { address, listener: "public".into(), forwarded, tls: None });
    let client = peer.forwarded.client(&headers, Some("api.example.com"), &snapshot.trusted);
    let Found::Route(found) =
        snapshot.router.find(ListenerId(0), Some("api.example.com"), &Method::GET, PATH)
    else {
        panic!("no route");
    };
    let route = &snapshot.routes[found.route.0 as usize];
    Subject {
        method: Method::GET,
        target: PATH.parse().unwrap(),
        routed: PATH.parse().unwrap(),
        authority: Some(HeaderValue::from_static("api.example.com")),
        headers,
        response: None,
        client,
        peer,
        id: RequestIds::new().draw(),
        dialect: Dialect::of(&HeaderMap::new()),
        api: route.api.clone(),
        operation: None,
        parameters: Arc::new([]),
        params: found.params,
        prefix_end: found.prefix_end,
        identity: None,
        claims: None,
        facts: None,
        context: Vec::new(),
        upstream: None,
        memory: memory(&route.chain),
        end: None,
    }
}
