//! The conformance suite's guest in Rust: each scenario of `../suite.yaml`, on the bare contract.
//!
//! The other languages' guests do the same to the letter. `do` of the configuration names the
//! scenario; what the gateway answered stands in the edit of `x-result`.

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "witgate-suite:guest/suite",
    generate_all,
});

use exports::witgate::policy::body_stream::{ChunkVerdict, Direction, Guest as Stream, GuestBodyFilter};
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use witgate::policy::crypto::Digest;
use witgate::policy::http_client::{FetchError, FetchRequest, FetchResponse};
use witgate::policy::jwt::{KeySource, Rules, TokenFault, Verifier};
use witgate::policy::log::Level;
use witgate::policy::metrics::Kind;
use witgate::policy::rate_limit::{Limiter, Quota};
use witgate::policy::shared_state::Bucket;
use witgate::policy::types::{BodyMode, Edit, Fallback, Reply};
use witgate::policy::{consumers, crypto, env, http_client, log, message, metrics, plan};

#[derive(Deserialize)]
struct Config {
    r#do: String,
}

/// What `configure` made for the scenario.
#[derive(Default)]
struct Made {
    scenario: String,
    bucket: Option<Bucket>,
    limiter: Option<Limiter>,
    verifier: Option<Verifier>,
    metrics: Vec<u32>,
}

thread_local! {
    static MADE: RefCell<Made> = RefCell::default();
}

struct Suite;

impl Guest for Suite {
    fn config_schema() -> String {
        r#"{"type":"object","properties":{"do":{"type":"string"}},"required":["do"],"additionalProperties":false}"#
            .into()
    }

    fn configure(config: String) -> Result<(), String> {
        let Config { r#do: scenario } = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let mut made = Made::default();
        let mut reads = vec!["x-a".to_string(), ":path".into(), "client:ip".into(), "query:q".into()];
        match scenario.as_str() {
            "refuse" => return Err("refused as told".into()),
            "unknown-read" => reads.push("no such:name".into()),
            "message" => reads.push("headers:*".into()),
            "skip" => plan::on_error(Fallback::Skip),
            "tick" => plan::tick_millis(1000),
            "open-ungranted" => drop(Bucket::open("other")?),
            "state" => made.bucket = Some(Bucket::open("suite")?),
            "rate" => {
                made.limiter =
                    Some(Limiter::create("suite", Quota { count: 2, period_millis: 60_000, burst: 0 })?)
            }
            "jwt" => {
                made.verifier = Some(Verifier::create(&Rules {
                    keys: vec![KeySource::Secret("signing".into())],
                    algorithms: vec![],
                    issuers: vec!["https://issuer.example".into()],
                    audiences: vec![],
                    required_claims: vec!["sub".into()],
                    leeway_seconds: 0,
                })?)
            }
            "metrics" => {
                let labels = [("kind".to_string(), "suite".to_string())];
                for (kind, name) in [
                    (Kind::Counter, "suite_total"),
                    (Kind::Gauge, "suite_level"),
                    (Kind::Histogram, "suite_seconds"),
                ] {
                    made.metrics.push(metrics::define(kind, name, &labels)?);
                }
            }
            name if name.starts_with("body-") => {
                plan::request_body(BodyMode::Buffer, 1000);
                plan::response_body(BodyMode::Buffer, 1000);
            }
            name if name.starts_with("stream-") => {
                plan::request_body(BodyMode::Stream, 0);
                plan::response_body(BodyMode::Stream, 0);
            }
            _ => {}
        }
        plan::request_reads(&reads);
        plan::response_reads(&[":status".into(), "x-b".into()]);
        plan::log_reads(&[":status".into(), "answered:by".into()]);
        plan::writes(&["x-*".into()]);
        made.scenario = scenario;
        MADE.set(made);
        Ok(())
    }

    fn on_request(values: Vec<Option<String>>) -> Result<Verdict, String> {
        MADE.with_borrow(|made| on_request(made, values))
    }

    fn on_request_body(body: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
        on_body(body, note)
    }

    fn on_response(values: Vec<Option<String>>, note: Vec<u8>) -> Result<Verdict, String> {
        match scenario().as_str() {
            "edits" | "echo" => {
                Ok(Verdict::Amend(vec![set("x-response", format!("{}|{}", joined(&values), text(&note)))]))
            }
            "response-respond" => Ok(Verdict::Respond(teapot())),
            "response-error" => Err("as told".into()),
            _ => Ok(Verdict::Proceed),
        }
    }

    fn on_response_body(body: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
        on_body(body, note)
    }

    fn on_log(entries: Vec<Vec<Option<String>>>) -> Result<(), String> {
        for entry in &entries {
            log::write(Level::Info, &format!("entry {}", joined(entry)));
        }
        match scenario().as_str() {
            "log-error" => Err("as told".into()),
            _ => Ok(()),
        }
    }

    fn on_tick() -> Result<(), String> {
        log::write(Level::Info, "tick");
        Ok(())
    }
}

fn on_request(made: &Made, values: Vec<Option<String>>) -> Result<Verdict, String> {
    let first = values[0].clone().unwrap_or_default();
    let result = match made.scenario.as_str() {
        "echo" => joined(&values),
        "edits" => {
            return Ok(Verdict::Amend(vec![
                set("x-set", "1".into()),
                Edit::Append(("x-append".into(), "2".into())),
                Edit::Remove("x-remove".into()),
                Edit::Note(b"n\xc3\xa4".to_vec()),
            ]));
        }
        "body-amend" => return Ok(Verdict::Amend(vec![Edit::Note(b"from headers".to_vec())])),
        "respond" => return Ok(Verdict::Respond(teapot())),
        "error" | "skip" => return Err("as told".into()),
        "trap" => panic!("trapped as told"),
        "spin" => loop {
            std::hint::spin_loop();
        },
        "grow" => {
            let mut kept = Vec::new();
            loop {
                kept.push(vec![1u8; 1 << 20]);
            }
        }
        "undeclared" => return Ok(Verdict::Amend(vec![set("undeclared", "1".into())])),
        "forbidden-value" => return Ok(Verdict::Amend(vec![set("x-set", "a\r\nb: c".into())])),
        "bad-status" => return Ok(Verdict::Respond(Reply { status: 99, ..teapot() })),
        "many-edits" => {
            return Ok(Verdict::Amend((0..1_000).map(|_| set("x-set", "1".into())).collect()));
        }
        "env" => environment(),
        "log" => {
            for (level, name) in [
                (Level::Trace, "trace"),
                (Level::Debug, "debug"),
                (Level::Info, "info"),
                (Level::Warn, "warn"),
                (Level::Error, "error"),
            ] {
                log::write(level, &format!("at {name}"));
            }
            log::print(b"printed in ");
            log::print(b"pieces\n");
            (log::max_level() == Level::Trace).to_string()
        }
        "metrics" => {
            metrics::add(made.metrics[0], 2.5);
            metrics::add(made.metrics[1], -1.0);
            metrics::observe(made.metrics[2], 0.25);
            metrics::define(Kind::Counter, "suite_late", &[]).unwrap_err()
        }
        "message" => {
            let names: Vec<String> =
                message::headers().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            names.join(",")
        }
        "state" => made.bucket.as_ref().map(state).unwrap_or_default(),
        "late-open" => Bucket::open("suite").err().unwrap_or_default(),
        "rate" => {
            let limiter = made.limiter.as_ref().ok_or("no limiter")?;
            let check = || {
                let outcome = limiter.check("key", 1);
                format!("{},{},{}", outcome.allowed, outcome.remaining, outcome.retry_after_millis)
            };
            [check(), check(), check()].join("|")
        }
        "jwt" => match made.verifier.as_ref().ok_or("no verifier")?.verify(&first) {
            Ok(claims) => claims,
            Err(fault) => fault_name(fault).into(),
        },
        "by-key" => consumer(consumers::identify_by_key(&first)),
        "by-name" => consumer(consumers::identify_by_name(&first)),
        "crypto" => cryptography(),
        "fetch" => fetched(http_client::fetch(&request("backend"))),
        "fetch-ungranted" => fetched(http_client::fetch(&request("elsewhere"))),
        "fetch-all" => {
            let answers = http_client::fetch_all(&[request("backend"), request("broken")]);
            answers.into_iter().map(fetched).collect::<Vec<_>>().join("|")
        }
        _ => return Ok(Verdict::Proceed),
    };
    Ok(Verdict::Amend(vec![set("x-result", result)]))
}

fn on_body(body: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
    match scenario().as_str() {
        "body-amend" => {
            Ok(BodyVerdict::Amend(vec![set("x-result", format!("{}|{}", body.len(), text(&note)))]))
        }
        "body-replace" => {
            let length = body.len().to_string();
            Ok(BodyVerdict::Replace((body.to_ascii_uppercase(), vec![set("x-result", length)])))
        }
        "body-respond" => Ok(BodyVerdict::Respond(teapot())),
        "body-error" => Err("as told".into()),
        _ => Ok(BodyVerdict::Proceed),
    }
}

struct Filter {
    direction: Direction,
    chunks: Cell<u32>,
}

impl Stream for Suite {
    type BodyFilter = Filter;
}

impl GuestBodyFilter for Filter {
    fn new(direction: Direction, _note: Vec<u8>) -> Filter {
        Filter { direction, chunks: Cell::new(0) }
    }

    fn chunk(&self, data: Vec<u8>, last: bool) -> Result<ChunkVerdict, String> {
        self.chunks.set(self.chunks.get() + 1);
        match scenario().as_str() {
            "stream-replace" => {
                let which = if self.direction == Direction::Request { "request" } else { "response" };
                let text =
                    format!("{which} {} {} {last};", self.chunks.get(), text(&data).to_ascii_uppercase());
                Ok(ChunkVerdict::Replace(text.into_bytes()))
            }
            "stream-swallow" if !last => Ok(ChunkVerdict::Replace(vec![])),
            "stream-abort" => Ok(ChunkVerdict::Abort("as told".into())),
            "stream-error" => Err("as told".into()),
            _ => Ok(ChunkVerdict::Proceed),
        }
    }
}

fn environment() -> String {
    let (millis, nanos) = (env::unix_millis(), env::unix_nanos());
    let earlier = env::monotonic_nanos();
    let is_steady = earlier <= env::monotonic_nanos();
    let differ = env::random_u64() != env::random_u64();
    let bytes = env::random_bytes(5).len();
    format!("{millis}|{}|{is_steady}|{differ}|{bytes}", nanos / 1_000_000 == millis)
}

fn state(bucket: &Bucket) -> String {
    let get = || bucket.get("k").map_or("-".into(), |value| text(&value));
    let steps = [
        get(),
        bucket.set("k", b"v", 0).to_string(),
        get(),
        bucket.increment("n", 5, 0).to_string(),
        bucket.increment("n", -7, 60_000).to_string(),
        bucket.compare_and_set("k", Some(b"v"), b"w", 0).to_string(),
        bucket.compare_and_set("k", None, b"x", 0).to_string(),
        get(),
    ];
    bucket.remove("k");
    format!("{}|{}", steps.join("|"), get())
}

fn cryptography() -> String {
    let hash = hex(&crypto::hash(Digest::Sha256, b"abc"));
    let lengths =
        [Digest::Sha384, Digest::Sha512].map(|digest| crypto::hash(digest, b"").len().to_string()).join("|");
    let hmac = crypto::hmac(Digest::Sha256, "signing", b"abc").map_or_else(|why| why, |tag| hex(&tag));
    let unknown = crypto::hmac(Digest::Sha256, "unknown", b"abc").err().unwrap_or_default();
    let (same, other) = (crypto::equal(b"a", b"a"), crypto::equal(b"a", b"b"));
    // Of "password", and made weak so that it is quick.
    let phc =
        "$argon2id$v=19$m=64,t=1,p=1$ZhDKCbdbeOfz8SxEaeh23A$LZGaupyDSr25QL75JXj/x1KkJ9YyIniFkm2WGkbavGA";
    let (right, wrong) = (crypto::verify_password("password", phc), crypto::verify_password("passwort", phc));
    format!("{hash}|{lengths}|{hmac}|{unknown}|{same}|{other}|{right}|{wrong}")
}

fn request(upstream: &str) -> FetchRequest {
    FetchRequest {
        upstream: upstream.into(),
        method: "POST".into(),
        path: "/x?y=1".into(),
        headers: vec![("x-h".into(), "1".into())],
        body: b"hi".to_vec(),
        timeout_millis: 500,
    }
}

fn fetched(answer: Result<FetchResponse, FetchError>) -> String {
    match answer {
        Ok(answer) => {
            let header = answer.headers.iter().find(|(name, _)| name == "x-r");
            let header = header.map_or("-", |(_, value)| value.as_str());
            format!("{} {header} {}", answer.status, text(&answer.body))
        }
        Err(FetchError::NotGranted) => "not-granted".into(),
        Err(FetchError::NoHealthyEndpoint) => "no-healthy-endpoint".into(),
        Err(FetchError::Timeout) => "timeout".into(),
        Err(FetchError::Connect) => "connect".into(),
        Err(FetchError::Protocol) => "protocol".into(),
        Err(FetchError::TooLarge) => "too-large".into(),
    }
}

fn consumer(found: Result<consumers::Consumer, consumers::Refusal>) -> String {
    use consumers::Refusal;
    match found {
        Ok(found) => format!("{} {}", found.name, found.product.as_deref().unwrap_or("-")),
        Err(Refusal::Unknown) => "unknown".into(),
        Err(Refusal::Suspended) => "suspended".into(),
        Err(Refusal::Expired) => "expired".into(),
        Err(Refusal::NotSubscribed) => "not-subscribed".into(),
        Err(Refusal::QuotaExceeded) => "quota-exceeded".into(),
    }
}

fn fault_name(fault: TokenFault) -> &'static str {
    match fault {
        TokenFault::Malformed => "malformed",
        TokenFault::UnknownKey => "unknown-key",
        TokenFault::BadSignature => "bad-signature",
        TokenFault::Expired => "expired",
        TokenFault::NotYetValid => "not-yet-valid",
        TokenFault::BadIssuer => "bad-issuer",
        TokenFault::BadAudience => "bad-audience",
        TokenFault::MissingClaim => "missing-claim",
        TokenFault::AlgorithmRefused => "algorithm-refused",
        TokenFault::KeysUnavailable => "keys-unavailable",
    }
}

fn teapot() -> Reply {
    Reply {
        status: 418,
        headers: vec![
            ("content-type".into(), "text/plain".into()),
            ("x-two".into(), "1".into()),
            ("x-two".into(), "2".into()),
        ],
        body: b"short and stout".to_vec(),
    }
}

fn set(name: &str, value: String) -> Edit {
    Edit::Set((name.into(), value))
}

fn joined(values: &[Option<String>]) -> String {
    values.iter().map(|value| value.as_deref().unwrap_or("-")).collect::<Vec<_>>().join("|")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn scenario() -> String {
    MADE.with_borrow(|made| made.scenario.clone())
}

export!(Suite);
