//! What the tests start from: configurations put together piece by piece, and the pieces.
//!
//! Configurations are written as JSON, of which YAML is a superset, so that tests can compute
//! them; the YAML that people write is read by the tests of `config` and by the airline demo.

use serde_json::{Value, json};
use std::fmt::Display;
use std::path::Path;
use witgate_test_support::{Origin, Setup, guests, tokens};

pub fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_witgate"))
}

/// With the policy `probe` in the plugin directory.
pub fn setup_with_probe() -> Setup {
    setup().plugin("probe", guests::probe())
}

/// Builds of plugins share a folder, so that what the SDK depends on is built once for all tests.
pub fn with_target(setup: Setup) -> Setup {
    let target = Path::new(env!("CARGO_BIN_EXE_witgate")).with_file_name("witgate-test-plugins");
    setup.env("CARGO_TARGET_DIR", target.to_str().unwrap())
}

/// One listener `public`, the admin port, two workers, and what a test adds.
#[derive(Clone)]
pub struct Config(Value);

impl Config {
    pub fn new() -> Config {
        Config(json!({
            "listeners": [{"name": "public", "address": "127.0.0.1:0"}],
            "admin": {"address": "127.0.0.1:0"},
            "server": {"workers": 2},
            // A machine that runs all tests at once may take a hook off its core for a while.
            "plugins": {"directory": "plugins", "limits": {"time": "1s"}},
            "upstreams": {},
            "apis": [],
        }))
    }

    /// Sets a value by its path: `server.drain`.
    pub fn set(mut self, path: &str, value: Value) -> Config {
        let mut place = &mut self.0;
        for key in path.split('.') {
            place = match key.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[key],
            };
        }
        *place = value;
        self
    }

    pub fn upstream(self, name: &str, origin: &Origin) -> Config {
        self.upstream_with(name, json!({"endpoints": [origin.url()]}))
    }

    pub fn upstream_with(mut self, name: &str, upstream: Value) -> Config {
        self.0["upstreams"][name] = upstream;
        self
    }

    pub fn policy(mut self, name: &str, policy: Value) -> Config {
        self.0["policies"][name] = policy;
        self
    }

    pub fn api(mut self, api: Value) -> Config {
        self.0["apis"].as_array_mut().unwrap().push(api);
        self
    }

    /// An API `name` at `/name`, in front of an upstream of that name.
    pub fn simple(self, name: &str, chain: Value) -> Config {
        self.api(json!({"name": name, "path": format!("/{name}"), "upstream": name, "chain": chain}))
    }

    pub fn text(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap()
    }
}

/// One API at `/echo` in front of `origin`, with this chain.
pub fn echo(origin: &Origin, chain: Value) -> Config {
    Config::new().upstream("echo", origin).simple("echo", chain)
}

pub fn probe(config: Value) -> Value {
    json!({"plugin": "probe", "config": config})
}

/// A probe that does on requests what the header `x-do` says, and may write `writes`.
pub fn told(writes: &[&str]) -> Value {
    probe(json!({"reads": ["x-do"], "writes": writes, "request": {"do": "told"}}))
}

/// Puts more keys beside `plugin` and `config`.
pub fn with(mut policy: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        policy[key] = value.clone();
    }
    policy
}

/// The policy `jwt` with the test's RSA and EC keys.
pub fn jwt(more: Value) -> Value {
    let keys: Value = serde_json::from_str(&tokens::jwks(&[&tokens::RSA, &tokens::EC])).unwrap();
    let mut policy = json!({"plugin": "jwt", "config": {
        "issuer": "https://id.test",
        "audience": "api",
        "jwks": keys,
    }});
    for (key, value) in more.as_object().unwrap() {
        policy["config"][key] = value.clone();
    }
    policy
}

/// `sha256:…` of a subscription key, as the configuration holds it.
pub fn key_hash(key: &str) -> String {
    use std::fmt::Write;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    digest.as_ref().iter().fold("sha256:".to_string(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A component in WebAssembly's text format.
pub fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[track_caller]
pub fn assert_contains(text: impl Display, wanted: &str) {
    let text = text.to_string();
    assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
}

#[track_caller]
pub fn assert_lacks(text: impl Display, unwanted: &str) {
    let text = text.to_string();
    assert!(!text.contains(unwanted), "{unwanted:?} in:\n{text}");
}
