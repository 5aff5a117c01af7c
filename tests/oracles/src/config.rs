//! Any text as a configuration: refused with a message, or understood the same way twice.

use crate::gateway::Bench;
use witgate::config::effective;

pub const WORDS: &[&str] = &[
    "listeners:\n",
    "- { name: public, address: '127.0.0.1:0' }\n",
    "upstreams:\n",
    "  a: { endpoints: ['http://a:1'] }\n",
    "apis:\n",
    "- { name: a, path: /a, upstream: a }\n",
    "  operations:\n",
    "  - { methods: [GET], path: '/{id}' }\n",
    "chain:",
    "policies:\n",
    "plugins:\n",
    "server:\n",
    "admin:",
    "${env:HOME}",
    "${file:x}",
    "${",
    "$${",
    "&a ",
    "*a",
    "<<: ",
    "{",
    "}",
    "[",
    "]",
    ":",
    "- ",
    "\n",
    "  ",
    "\t",
    "'",
    "\"",
    "1s",
    "1m",
    "16MiB",
    "-1",
    "1e99",
    "null",
    "true",
    "~",
    "!!binary ",
    "? ",
    "|\n",
    ">\n",
    "%YAML 1.2\n",
    "---\n",
    "#",
    "\u{feff}",
    "\0",
    "9999999999999999999999",
    "hosts: ['*.a']",
    "limits:",
    "timeouts:",
    "tls:",
    "consumers:\n",
    "products:\n",
    "state:",
    "weight: 0",
    "http://[::1]:80",
    "path: /%2e%2e/",
];

thread_local! {
    static BENCH: Bench = Bench::new(&[]);
}

pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    BENCH.with(|bench| {
        let loaded = match bench.load(&text) {
            Ok(loaded) => loaded,
            Err(report) => {
                assert!(report.errors() > 0 && !report.to_string().is_empty(), "refused without a word");
                return;
            }
        };
        let again = bench.load(&text).unwrap_or_else(|report| panic!("refused the second time: {report}"));
        assert_eq!(effective(&loaded.config), effective(&again.config));
        assert_eq!(format!("{:?}", loaded.config), format!("{:?}", again.config));
        // Policies are compiled for real: seconds for the first of each kind.
        match (bench.compile(&loaded), bench.compile(&again)) {
            (Ok(first), Ok(second)) => {
                let shape = |compiled: &witgate::compile::Compiled| {
                    let snapshot = &compiled.snapshot;
                    let routes = snapshot.routes.iter();
                    let routes = routes
                        .map(|r| format!("{} {:?} {:?} {:?}", r.api, r.operation, r.upstream, r.rewrite));
                    (
                        routes.collect::<Vec<_>>(),
                        snapshot.policies.len(),
                        snapshot.upstreams.len(),
                        compiled.listeners.len(),
                    )
                };
                assert_eq!(shape(&first), shape(&second));
            }
            (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
            _ => panic!("compiled once, refused once"),
        }
    });
}
