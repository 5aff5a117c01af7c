//! Cross-origin resource sharing, as the Fetch standard has it.
//!
//! ```yaml
//! plugin: cors
//! config:
//!   allow_origins: ["https://app.example.com", "https://*.example.org"]
//!   allow_methods: [GET, POST]
//!   allow_headers: [authorization, content-type]
//!   expose_headers: [x-request-id]
//!   credentials: true
//!   max_age: 10m
//! ```
//!
//! Put it before authentication: browsers send preflights without credentials. It answers every
//! preflight itself (204). An origin that is not allowed gets the answer without the headers of
//! this protocol, so that the browser refuses it; whatever the upstream says about it is removed.
//! `*` with `credentials` is a mistake: it would open the API to every page with the user's own
//! cookies. `https://*.example.com` means every host below `example.com`, not itself.

use std::net::Ipv6Addr;

use witgate::prelude::*;
use witgate::setting::Period;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `*`, or origins (`https://app.example.com`), also with a wildcard for the names below a
    /// domain (`https://*.example.com`).
    allow_origins: Vec<String>,
    /// Methods that pages may use; `*`: all, if `credentials` is off.
    #[serde(default = "simple_methods")]
    allow_methods: Vec<String>,
    /// Request headers that pages may set; `*`: all, if `credentials` is off.
    #[serde(default)]
    allow_headers: Vec<String>,
    /// Response headers that pages may read.
    #[serde(default)]
    expose_headers: Vec<String>,
    /// Whether pages may send cookies, certificates and authorization.
    #[serde(default)]
    credentials: bool,
    /// How long a browser may keep the answer of a preflight, such as `10m`.
    #[serde(default)]
    max_age: Option<Period>,
}

pub struct Cors {
    origins: Origins,
    credentials: bool,
    /// The lists as the headers have them; empty: no header.
    methods: String,
    headers: String,
    expose: String,
    max_age_seconds: Option<String>,
    request: Preflight,
    response: Answer,
}

enum Origins {
    Any,
    Listed(Vec<Origin>),
}

enum Origin {
    Exact(String),
    /// What is before the wildcard (`https://`) and after it (`.example.com`).
    Below {
        scheme: String,
        domain: String,
    },
}

struct Preflight {
    method: Read,
    origin: Read,
    wanted: Read,
}

struct Answer {
    origin: Read<Response>,
    vary: Read<Response>,
    /// What the upstream says on its own, by [`OWN`].
    own: [Read<Response>; 3],
}

/// The headers of answers that are not preflights: this policy's alone.
const OWN: [&str; 3] = [ALLOW_ORIGIN, ALLOW_CREDENTIALS, "access-control-expose-headers"];
const ALLOW_ORIGIN: &str = "access-control-allow-origin";
const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";

impl Policy for Cors {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        let origins = Origins::parse(&config.allow_origins)?;
        if config.credentials {
            if matches!(origins, Origins::Any) {
                return Err("allow_origins: `*` cannot be with credentials: name the origins".into());
            }
            let lists = [
                ("allow_methods", &config.allow_methods),
                ("allow_headers", &config.allow_headers),
                ("expose_headers", &config.expose_headers),
            ];
            for (name, list) in lists {
                if list.iter().any(|item| item == "*") {
                    return Err(format!("{name}: with credentials `*` is no wildcard: name them"));
                }
            }
        }
        plan.write(OWN).write(["vary"]);
        Ok(Cors {
            origins,
            credentials: config.credentials,
            methods: tokens("allow_methods", &config.allow_methods)?,
            headers: tokens("allow_headers", &config.allow_headers)?,
            expose: tokens("expose_headers", &config.expose_headers)?,
            max_age_seconds: config.max_age.map(|age| age.duration().as_secs().to_string()),
            request: Preflight {
                method: plan.read(":method"),
                origin: plan.read("origin"),
                wanted: plan.read("access-control-request-method"),
            },
            response: Answer {
                origin: plan.read_of_response("request-header:origin"),
                vary: plan.read_of_response("vary"),
                own: OWN.map(|name| plan.read_of_response(name)),
            },
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let read = &self.request;
        let is_preflight = request.get(read.method) == Some("OPTIONS") && request.get(read.wanted).is_some();
        match request.get(read.origin) {
            Some(origin) if is_preflight => Ok(self.preflight(origin).into()),
            _ => Ok(Verdict::Proceed),
        }
    }

    fn on_response(&self, response: &Response) -> Result<Verdict, String> {
        let read = &self.response;
        let mut verdict = Verdict::proceed();
        if self.depends_on_origin() && !response.get(read.vary).is_some_and(names_origin) {
            verdict = verdict.append("vary", "Origin");
        }
        let mut written = [None, None, None];
        let origin = response.get(read.origin).filter(|origin| self.origins.allow(origin));
        if let Some(origin) = origin {
            written[0] = Some(self.answer_to(origin));
            written[1] = self.credentials.then_some("true");
            written[2] = Some(self.expose.as_str()).filter(|list| !list.is_empty());
        }
        for ((name, value), own) in OWN.into_iter().zip(written).zip(read.own) {
            match value {
                Some(value) => verdict = verdict.set(name, value),
                None if response.get(own).is_some() => verdict = verdict.remove(name),
                None => {}
            }
        }
        Ok(verdict)
    }
}

witgate::policy!(Cors);

impl Cors {
    fn preflight(&self, origin: &str) -> Reply {
        let mut reply = Reply::new(204);
        if self.depends_on_origin() {
            reply = reply.header("vary", "Origin");
        }
        if !self.origins.allow(origin) {
            return reply;
        }
        reply = reply.header(ALLOW_ORIGIN, self.answer_to(origin));
        if self.credentials {
            reply = reply.header(ALLOW_CREDENTIALS, "true");
        }
        let lists = [
            ("access-control-allow-methods", &self.methods),
            ("access-control-allow-headers", &self.headers),
        ];
        for (name, list) in lists {
            if !list.is_empty() {
                reply = reply.header(name, list);
            }
        }
        match &self.max_age_seconds {
            Some(seconds) => reply.header("access-control-max-age", seconds),
            None => reply,
        }
    }

    fn depends_on_origin(&self) -> bool {
        matches!(self.origins, Origins::Listed(_))
    }

    fn answer_to<'a>(&self, origin: &'a str) -> &'a str {
        if self.depends_on_origin() { origin } else { "*" }
    }
}

impl Origins {
    fn parse(texts: &[String]) -> Result<Self, String> {
        match texts {
            [] => return Err("allow_origins: no origin is allowed".into()),
            [any] if any == "*" => return Ok(Origins::Any),
            _ => {}
        }
        texts.iter().map(|text| Origin::parse(text)).collect::<Result<_, _>>().map(Origins::Listed)
    }

    /// `origin` as browsers write it: one line, lower case.
    fn allow(&self, origin: &str) -> bool {
        match self {
            Origins::Any => true,
            Origins::Listed(listed) => listed.iter().any(|known| known.matches(origin)),
        }
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, String> {
        let refused = |why: &str| Err(format!("allow_origins: `{text}` {why}"));
        if text == "*" {
            return refused("allows all, so that the others say nothing: let it stand alone");
        }
        let Some((scheme, host)) = text.split_once("://") else {
            return refused("is no origin, such as `https://app.example.com`");
        };
        if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return refused("is no origin: scheme, host and port, without a path or a slash at the end");
        }
        if text.chars().any(|c| c.is_ascii_uppercase() || !c.is_ascii_graphic()) {
            return refused("must be written as browsers do, in lower-case ASCII");
        }
        let named = host.strip_prefix("*.").unwrap_or(host);
        match host.strip_prefix('*') {
            None if host.contains('*') => refused("has a wildcard that is not at the start of the host"),
            Some(domain) if !domain.starts_with('.') || domain.contains('*') => {
                refused("has a wildcard that is not a whole label: `https://*.example.com`")
            }
            _ if !is_scheme(scheme) || !is_host(named) => refused("is no origin that a browser sends"),
            None => Ok(Origin::Exact(text.into())),
            Some(domain) => Ok(Origin::Below { scheme: format!("{scheme}://"), domain: domain.into() }),
        }
    }

    fn matches(&self, origin: &str) -> bool {
        match self {
            Origin::Exact(known) => known == origin,
            // What the wildcard stands for must be labels: `https://evil/.example.com` is no origin
            // that a browser sends, but not all clients are browsers.
            Origin::Below { scheme, domain } => origin
                .strip_prefix(scheme.as_str())
                .and_then(|host| host.strip_suffix(domain.as_str()))
                .is_some_and(|labels| {
                    !labels.is_empty()
                        && labels.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                }),
        }
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A name or an address, and a port if there is one.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok();
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_name = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    is_name && port.is_none_or(is_port)
}

/// Whether `vary` says already that the answer depends on the origin.
fn names_origin(vary: &str) -> bool {
    vary.split([',', '\n']).map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
}

fn tokens(name: &str, list: &[String]) -> Result<String, String> {
    match list.iter().find(|item| !witgate::is_header(item)) {
        Some(odd) => Err(format!("{name}: `{odd}` is no name")),
        None => Ok(list.join(", ")),
    }
}

/// The methods that need no preflight.
fn simple_methods() -> Vec<String> {
    ["GET", "HEAD", "POST"].map(String::from).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use witgate::testing::{self, Harness};

    fn cors(config: Value) -> Harness<Cors> {
        testing::policy(config).expect("configured")
    }

    fn strict() -> Harness<Cors> {
        cors(json!({
            "allow_origins": ["https://app.example.com", "https://*.example.org", "http://localhost:3000"],
            "allow_methods": ["GET", "PUT"], "allow_headers": ["authorization"],
            "expose_headers": ["x-request-id"], "credentials": true, "max_age": "10m",
        }))
    }

    fn preflight(policy: &Harness<Cors>, origin: &str) -> Reply {
        let request = [(":method", "OPTIONS"), ("origin", origin), ("access-control-request-method", "PUT")];
        policy.request(request).reply().cloned().expect("an answer")
    }

    #[test]
    fn a_preflight_is_answered() {
        let reply = preflight(&strict(), "https://app.example.com");
        assert_eq!((reply.status, reply.body.len()), (204, 0));
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example.com"),
            ("access-control-allow-credentials", "true"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "authorization"),
            ("access-control-max-age", "600"),
            ("vary", "Origin"),
        ] {
            assert_eq!(reply.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn a_foreign_origin_gets_nothing() {
        let policy = strict();
        for origin in
            ["https://evil.com", "null", "https://app.example.com.evil.com", "http://app.example.com"]
        {
            let reply = preflight(&policy, origin);
            assert_eq!(reply.headers, [("vary".to_string(), "Origin".to_string())], "{origin}");
            policy.request([("origin", origin)]);
            let verdict = policy.response([("access-control-allow-origin", "*")]);
            assert!(verdict.removes("access-control-allow-origin"), "{origin}");
            assert_eq!(verdict.written("vary"), Some("Origin"));
        }
    }

    #[test]
    fn what_is_no_preflight_goes_on() {
        let policy = strict();
        assert_eq!(policy.request([(":method", "OPTIONS")]), Verdict::Proceed);
        assert_eq!(policy.request([(":method", "OPTIONS"), ("origin", "https://x")]), Verdict::Proceed);
        let get = [(":method", "GET"), ("origin", "https://x"), ("access-control-request-method", "PUT")];
        assert_eq!(policy.request(get), Verdict::Proceed);
    }

    #[test]
    fn responses() {
        let policy = strict();
        policy.request([("origin", "http://localhost:3000")]);
        let verdict = policy.response([("access-control-allow-origin", "*"), ("vary", "accept, ORIGIN")]);
        assert_eq!(verdict.written("access-control-allow-origin"), Some("http://localhost:3000"));
        assert_eq!(verdict.written("access-control-allow-credentials"), Some("true"));
        assert_eq!(verdict.written("access-control-expose-headers"), Some("x-request-id"));
        assert_eq!(verdict.written("vary"), None);

        policy.request([]);
        assert_eq!(policy.response([]), Verdict::proceed().append("vary", "Origin"));
    }

    #[test]
    fn anybody() {
        let policy = cors(json!({ "allow_origins": ["*"] }));
        let reply = preflight(&policy, "https://x");
        assert_eq!(reply.get("access-control-allow-origin"), Some("*"));
        assert_eq!(reply.get("vary"), None);
        policy.request([("origin", "https://x")]);
        assert_eq!(policy.response([]), Verdict::proceed().set("access-control-allow-origin", "*"));
        policy.request([]);
        assert_eq!(policy.response([]), Verdict::Proceed);
    }

    #[test]
    fn wildcards_stand_for_labels() {
        let origin = Origin::parse("https://*.example.org").expect("valid");
        for good in ["https://a.example.org", "https://a.b.example.org"] {
            assert!(origin.matches(good), "{good}");
        }
        for bad in [
            "https://example.org",
            "https://.example.org",
            "https://evilexample.org",
            "http://a.example.org",
            "https://evil.com/.example.org",
            "https://evil.com:1@a.example.org",
            "https://a.example.org:8443",
            "https://a.example.org\nhttps://b",
        ] {
            assert!(!origin.matches(bad), "{bad}");
        }
    }

    #[test]
    fn origins_that_a_browser_can_send() {
        for good in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://192.0.2.1:8443",
            "http://[::1]:3000",
            "http://[::1]",
            "capacitor://localhost",
            "chrome-extension://abcdef",
            "https://*.example.com:8443",
            "https://xn--bcher-kva.example",
        ] {
            assert!(Origin::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "https://a:99999",
            "https://a:0",
            "https://a:",
            "https://a:b",
            "https://a:+1",
            "https://a:1:2",
            "https://..",
            "https://a..b",
            "https://.a",
            "https://a.",
            "https://:80",
            "https://*.a:99999",
            "https://*..a",
            "https://[::1",
            "https://[x]",
            "https://[::1]:",
            "https://::1",
            "https://a%20b",
            "https://a,b",
            "1s://a",
            "ht tp://a",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes() {
        for bad in [
            json!({}),
            json!({ "allow_origins": [] }),
            json!({ "allow_origins": ["*"], "credentials": true }),
            json!({ "allow_origins": ["*", "https://x"] }),
            json!({ "allow_origins": ["https://x/"] }),
            json!({ "allow_origins": ["example.com"] }),
            json!({ "allow_origins": ["https://*example.com"] }),
            json!({ "allow_origins": ["https://a.*.com"] }),
            json!({ "allow_origins": ["https://App.example.com"] }),
            json!({ "allow_origins": ["https://x"], "credentials": true, "allow_headers": ["*"] }),
            json!({ "allow_origins": ["https://x"], "allow_methods": ["GET, PUT"] }),
            json!({ "allow_origins": ["https://x"], "max_age": 600 }),
            json!({ "allow_origins": ["https://x"], "origins": [] }),
        ] {
            assert!(testing::policy::<Cors>(bad.clone()).is_err(), "{bad}");
        }
    }
}
