//! The gateway's inside without its sockets: a workshop to compile in, one worker's runtime, and a
//! request as a chain meets it.

use http::{HeaderMap, HeaderValue, Method};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::{LocalRuntime, Runtime};
use witgate::chain::Subject;
use witgate::chain::subject::Memory;
use witgate::compile::{Compiled, Workshop, compile};
use witgate::config::{self, Loaded, Report};
use witgate::message::forwarded::{Client, ForwardedCache, Scheme};
use witgate::message::id::RequestIds;
use witgate::message::peer::Peer;
use witgate::message::problem::Dialect;
use witgate::plugin::artifact::{Artifacts, Compiler};
use witgate::plugin::{Pool, Seats};
use witgate::snapshot::Snapshot;

/// Compiles configurations, in a folder of its own.
pub struct Bench {
    workshop: Workshop,
    pub folder: TempDir,
    /// Never driven: whatever a configuration wants to fetch stays unfetched.
    _control: Runtime,
}

impl Bench {
    pub fn new(plugins: &[(&str, &Path)]) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        for (name, component) in plugins {
            std::fs::copy(component, folder.path().join(format!("{name}.wasm"))).unwrap();
        }
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let plain = "listeners: [{ name: public, address: '127.0.0.1:0' }]\nplugins: { directory: ., cache: cache }\n\
                     upstreams: { a: { endpoints: ['http://127.0.0.1:1'] } }\napis: [{ name: a, path: /, upstream: a }]\n";
        let config = config::load_text(&folder.path().join("witgate.yaml"), plain.into()).unwrap().config;
        let mut workshop = witgate::server::workshop(&config, 1, control.handle()).unwrap();
        // This program cannot compile in a child of its own.
        workshop.artifacts = Artifacts::open(folder.path().join("cache"), Compiler::InProcess).unwrap();
        Bench { workshop, folder, _control: control }
    }

    pub fn load(&self, text: &str) -> Result<Loaded, Report> {
        config::load_text(&self.folder.path().join("witgate.yaml"), text.into())
    }

    pub fn compile(&self, loaded: &Loaded) -> Result<Compiled, Report> {
        compile(&self.workshop, &loaded.config, PathBuf::new(), loaded.report(), None)
    }
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
        let pools = snapshot.policies.iter().map(|policy| Pool::new(policy.clone(), &seats)).collect();
        Worker { runtime, pools }
    }
}

/// A GET of `target` with these fields, before a chain of one policy.
pub fn subject(target: &str, headers: &HeaderMap) -> Subject {
    let address: std::net::SocketAddr = "192.0.2.7:40000".parse().unwrap();
    let forwarded = ForwardedCache::new(address.ip(), Scheme::Http);
    let client = Client {
        ip: address.ip(),
        scheme: Scheme::Http,
        host: None,
        peer_trusted: false,
        via: Default::default(),
    };
    Subject {
        method: Method::GET,
        target: target.parse().unwrap(),
        routed: target.parse().unwrap(),
        authority: Some(HeaderValue::from_static("api.example.com")),
        headers: headers.clone(),
        response: None,
        client,
        peer: Rc::new(Peer { address, listener: "public".into(), forwarded, tls: None }),
        id: RequestIds::new().draw(),
        dialect: Dialect::of(&HeaderMap::new()),
        api: Arc::from("a"),
        operation: None,
        parameters: Arc::new([]),
        params: Default::default(),
        prefix_end: 0,
        identity: None,
        claims: None,
        facts: None,
        context: Vec::new(),
        upstream: None,
        memory: [Memory::default()].into_iter().collect(),
        end: None,
    }
}
