//! A policy that does what its configuration tells it, good and bad: traps, spins, grows, returns
//! too much, edits what it may not.
//!
//! Loaded by the end-to-end tests as a real component. Written on the bare contract, not on the
//! SDK, so that a fault of the SDK cannot hide one of the gateway.

use serde::Deserialize;
use std::cell::{Cell, OnceCell, RefCell};

mod bindings {
    wit_bindgen::generate!({
        inline: r#"
            package witgate-test:probe;
            world probe {
                use witgate:policy/types@0.1.0.{values, verdict, body-verdict};
                import witgate:policy/plan@0.1.0;
                import witgate:policy/env@0.1.0;
                import witgate:policy/log@0.1.0;
                import witgate:policy/metrics@0.1.0;
                import witgate:policy/message@0.1.0;
                import witgate:policy/shared-state@0.1.0;
                export config-schema: func() -> string;
                export configure: func(config: string) -> result<_, string>;
                export on-request: func(values: values) -> result<verdict, string>;
                export on-request-body: func(body: list<u8>, note: list<u8>) -> result<body-verdict, string>;
                export on-response: func(values: values, note: list<u8>) -> result<verdict, string>;
                export on-response-body: func(body: list<u8>, note: list<u8>) -> result<body-verdict, string>;
                export witgate:policy/body-stream@0.1.0;
                export on-log: func(entries: list<values>) -> result<_, string>;
                export on-tick: func() -> result<_, string>;
            }
        "#,
        path: "../../../wit",
        world: "witgate-test:probe/probe",
        generate_all,
        pub_export_macro: true,
    });
}

use bindings::exports::witgate::policy::body_stream;
use bindings::witgate::policy::shared_state::Bucket;
use bindings::witgate::policy::types::{BodyMode, Edit, Fallback, Reply};
use bindings::witgate::policy::{log, message, metrics, plan};
use bindings::{BodyVerdict, Values, Verdict};

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Config {
    reads: Vec<String>,
    response_reads: Vec<String>,
    log_reads: Vec<String>,
    writes: Vec<String>,
    /// `buffer` or `stream`, with `body_limit`.
    request_body: Option<String>,
    response_body: Option<String>,
    body_limit: u32,
    tick_millis: u32,
    /// `skip` or `deny`, said by the policy itself.
    on_error: Option<String>,
    /// Opened in `configure`; `count` adds to keys of it.
    bucket: Option<String>,
    /// A counter that `metric` adds to.
    metric: Option<String>,
    configure: Act,
    request: Act,
    response: Act,
    body: BodyAct,
    log: LogAct,
    tick: Act,
}

#[derive(Deserialize, Default, Clone)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Act {
    #[default]
    Pass,
    /// What the value of the first read says, as JSON; nothing where there is none.
    Told,
    Trap,
    Overflow,
    Spin,
    Grow,
    /// Grows by so much once and keeps it.
    Keep {
        bytes: usize,
    },
    Error {
        text: String,
    },
    /// Any edits, forbidden ones too.
    Edits {
        edits: Vec<EditAct>,
    },
    ManyEdits {
        count: usize,
    },
    GiantEdit {
        bytes: usize,
    },
    GiantNote {
        bytes: usize,
    },
    GiantError {
        bytes: usize,
    },
    Reply {
        status: u16,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default)]
        body: String,
        /// A body of so many `x` instead.
        #[serde(default)]
        bytes: usize,
    },
    /// Sets `PREFIX0`, `PREFIX1`, … to the values read, `(none)` for those that are missing.
    Echo {
        prefix: String,
    },
    /// Sets `x-note` to the note.
    EchoNote,
    /// Sets `x-headers` to the names of all headers, through `message.headers`.
    Headers,
    /// Sets `x-calls` to the number of calls that this instance has seen.
    Calls,
    /// Adds to a key of the bucket and sets `x-count` to what it is then.
    Count {
        key: String,
        by: i64,
    },
    /// Reads a key of the bucket, `(none)` where it is missing.
    Get {
        key: String,
    },
    Put {
        key: String,
        value: String,
        #[serde(default)]
        ttl_millis: u32,
    },
    /// Puts so many bytes at a key of the bucket for ever, and counts how often at the key `turns`.
    Fill {
        key: String,
        bytes: usize,
    },
    /// Fails in all instances but the first ones.
    FailLater {
        after: i64,
    },
    /// Adds 1 to the metric.
    Metric,
    Log {
        text: String,
    },
    /// Plans and opens in a hook, where neither is allowed.
    LatePlan,
    LateOpen {
        name: String,
    },
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "snake_case")]
enum EditAct {
    Set(String, String),
    Append(String, String),
    Remove(String),
    Note(String),
}

#[derive(Deserialize, Default, Clone)]
#[serde(tag = "do", rename_all = "snake_case")]
enum BodyAct {
    #[default]
    Pass,
    Upper,
    /// Puts the note before the body and sets `x-body-bytes`.
    Prefix,
    /// Sets `x-headers` as `Act::Headers` does, and leaves the body.
    Headers,
    Giant {
        bytes: usize,
    },
    Refuse {
        status: u16,
    },
    Trap,
    /// In a stream: breaks off at the first chunk.
    Abort,
    /// In a stream: swallows everything.
    Swallow,
    Spin,
    Grow,
    /// In a stream: goes along, and traps when the filter is dropped.
    TrapInDrop,
}

#[derive(Deserialize, Default, Clone)]
#[serde(tag = "do", rename_all = "snake_case")]
enum LogAct {
    #[default]
    Pass,
    /// Adds the number of entries to the bucket's key `log`, and writes each to the log.
    Collect,
    Trap,
    Spin,
}

/// What one instance knows. A policy's instance is single-threaded, and so is this.
struct State {
    config: Config,
    bucket: Option<Bucket>,
    metric: Option<u32>,
    calls: Cell<u64>,
    kept: RefCell<Vec<Vec<u8>>>,
}

thread_local! {
    static STATE: OnceCell<&'static State> = const { OnceCell::new() };
}

fn state() -> Result<&'static State, String> {
    STATE.with(|state| state.get().copied()).ok_or_else(|| "not configured".into())
}

struct Probe;

impl bindings::Guest for Probe {
    fn config_schema() -> String {
        r#"{"type":"object"}"#.into()
    }

    fn configure(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        plan::request_reads(&config.reads);
        plan::response_reads(&config.response_reads);
        plan::log_reads(&config.log_reads);
        plan::writes(&config.writes);
        if let Some(mode) = &config.request_body {
            plan::request_body(body_mode(mode)?, config.body_limit);
        }
        if let Some(mode) = &config.response_body {
            plan::response_body(body_mode(mode)?, config.body_limit);
        }
        if config.tick_millis > 0 {
            plan::tick_millis(config.tick_millis);
        }
        match config.on_error.as_deref() {
            Some("skip") => plan::on_error(Fallback::Skip),
            Some("deny") => plan::on_error(Fallback::Deny),
            _ => {}
        }
        let bucket = config.bucket.as_deref().map(Bucket::open).transpose()?;
        let metric = match &config.metric {
            Some(name) => Some(metrics::define(metrics::Kind::Counter, name, &[])?),
            None => None,
        };
        let act = config.configure.clone();
        let state = State { config, bucket, metric, calls: Cell::new(0), kept: RefCell::new(Vec::new()) };
        // Lives as long as the instance.
        let state: &'static State = Box::leak(Box::new(state));
        STATE.with(|place| place.set(state)).map_err(|_| "configured twice")?;
        perform(&act, &Vec::new(), &[]).map(|_| ())
    }

    fn on_request(values: Values) -> Result<Verdict, String> {
        let state = state()?;
        state.calls.set(state.calls.get() + 1);
        perform(&state.config.request, &values, &[])
    }

    fn on_response(values: Values, note: Vec<u8>) -> Result<Verdict, String> {
        perform(&state()?.config.response, &values, &note)
    }

    fn on_request_body(body: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
        body_hook(body, note)
    }

    fn on_response_body(body: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
        body_hook(body, note)
    }

    fn on_log(entries: Vec<Values>) -> Result<(), String> {
        let state = state()?;
        match state.config.log {
            LogAct::Pass => {}
            LogAct::Trap => std::process::abort(),
            LogAct::Spin => spin(),
            LogAct::Collect => {
                if let Some(bucket) = &state.bucket {
                    bucket.increment("log", entries.len() as i64, 0);
                }
                for entry in entries {
                    let line: Vec<_> = entry.iter().map(|value| value.as_deref().unwrap_or("-")).collect();
                    log::write(log::Level::Info, &format!("probe-entry {}", line.join(" ")));
                }
            }
        }
        Ok(())
    }

    fn on_tick() -> Result<(), String> {
        let state = state()?;
        if let Some(bucket) = &state.bucket {
            bucket.increment("tick", 1, 0);
        }
        perform(&state.config.tick, &Vec::new(), &[]).map(|_| ())
    }
}

fn body_mode(word: &str) -> Result<BodyMode, String> {
    match word {
        "buffer" => Ok(BodyMode::Buffer),
        "stream" => Ok(BodyMode::Stream),
        other => Err(format!("no body mode is called {other}")),
    }
}

fn perform(act: &Act, values: &Values, note: &[u8]) -> Result<Verdict, String> {
    let state = state()?;
    let set = |name: &str, value: String| Ok(Verdict::Amend(vec![Edit::Set((name.into(), value))]));
    match act {
        Act::Pass => Ok(Verdict::Proceed),
        Act::Told => match values.first() {
            Some(Some(text)) => {
                let told = serde_json::from_str(text).map_err(|error| error.to_string())?;
                if matches!(told, Act::Told) { Ok(Verdict::Proceed) } else { perform(&told, values, note) }
            }
            _ => Ok(Verdict::Proceed),
        },
        Act::Trap => std::process::abort(),
        Act::Overflow => Err(deep(0).to_string()),
        Act::Spin => spin(),
        Act::Grow => grow(state),
        Act::Keep { bytes } => {
            state.kept.borrow_mut().push(vec![1; *bytes]);
            Ok(Verdict::Proceed)
        }
        Act::Error { text } => Err(text.clone()),
        Act::Edits { edits } => Ok(Verdict::Amend(edits.iter().map(edit).collect())),
        Act::ManyEdits { count } => {
            let many = (0..*count).map(|index| Edit::Append(("x-many".into(), index.to_string())));
            Ok(Verdict::Amend(many.collect()))
        }
        Act::GiantEdit { bytes } => set("x-giant", "x".repeat(*bytes)),
        Act::GiantNote { bytes } => Ok(Verdict::Amend(vec![Edit::Note(vec![b'x'; *bytes])])),
        Act::GiantError { bytes } => Err("x".repeat(*bytes)),
        Act::Reply { status, headers, body, bytes } => {
            let body = if *bytes > 0 { vec![b'x'; *bytes] } else { body.clone().into_bytes() };
            Ok(Verdict::Respond(Reply { status: *status, headers: headers.clone(), body }))
        }
        Act::Echo { prefix } => {
            let seen = values.iter().enumerate().map(|(index, value)| {
                let value = value.as_deref().unwrap_or("(none)").replace('\n', "|");
                Edit::Set((format!("{prefix}{index}"), value))
            });
            Ok(Verdict::Amend(seen.collect()))
        }
        Act::EchoNote => set("x-note", String::from_utf8_lossy(note).into_owned()),
        Act::Headers => set("x-headers", header_names()),
        Act::Calls => set("x-calls", state.calls.get().to_string()),
        Act::Count { key, by } => {
            let bucket = state.bucket.as_ref().ok_or("no bucket")?;
            set("x-count", bucket.increment(key, *by, 0).to_string())
        }
        Act::Get { key } => {
            let bucket = state.bucket.as_ref().ok_or("no bucket")?;
            let value = bucket.get(key).map(|value| String::from_utf8_lossy(&value).into_owned());
            set("x-value", value.unwrap_or_else(|| "(none)".into()))
        }
        Act::Put { key, value, ttl_millis } => {
            let bucket = state.bucket.as_ref().ok_or("no bucket")?;
            set("x-put", bucket.set(key, value.as_bytes(), *ttl_millis).to_string())
        }
        Act::Fill { key, bytes } => {
            let bucket = state.bucket.as_ref().ok_or("no bucket")?;
            let value = vec![1; *bytes];
            loop {
                bucket.set(key, &value, 0);
                bucket.increment("turns", 1, 0);
            }
        }
        Act::FailLater { after } => {
            let bucket = state.bucket.as_ref().ok_or("no bucket")?;
            if bucket.increment("made", 1, 0) > *after { Err("no more".into()) } else { Ok(Verdict::Proceed) }
        }
        Act::Metric => {
            metrics::add(state.metric.ok_or("no metric")?, 1.0);
            Ok(Verdict::Proceed)
        }
        Act::Log { text } => {
            log::write(log::Level::Warn, text);
            Ok(Verdict::Proceed)
        }
        Act::LatePlan => {
            plan::request_reads(&["authorization".to_string()]);
            plan::writes(&["*".to_string()]);
            Ok(Verdict::Proceed)
        }
        Act::LateOpen { name } => match Bucket::open(name) {
            Ok(_) => set("x-late", "opened".into()),
            Err(_) => set("x-late", "refused".into()),
        },
    }
}

fn spin() -> ! {
    let mut turns = 0u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn grow(state: &State) -> ! {
    loop {
        state.kept.borrow_mut().push(vec![1; 1 << 20]);
    }
}

fn edit(act: &EditAct) -> Edit {
    match act.clone() {
        EditAct::Set(name, value) => Edit::Set((name, value)),
        EditAct::Append(name, value) => Edit::Append((name, value)),
        EditAct::Remove(name) => Edit::Remove(name),
        EditAct::Note(text) => Edit::Note(text.into_bytes()),
    }
}

/// Recurses until the stack ends; the array keeps it from becoming a loop.
#[expect(unconditional_recursion, reason = "that is the point")]
fn deep(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    deep(room[0] + 1) + room[63]
}

fn header_names() -> String {
    let names: Vec<String> = message::headers().into_iter().map(|(name, _)| name).collect();
    names.join(",")
}

fn body_hook(body: Vec<u8>, note: Vec<u8>) -> Result<BodyVerdict, String> {
    match &state()?.config.body {
        BodyAct::Pass => Ok(BodyVerdict::Proceed),
        BodyAct::Upper => Ok(BodyVerdict::Replace((body.to_ascii_uppercase(), Vec::new()))),
        BodyAct::Prefix => {
            let bytes = Edit::Set(("x-body-bytes".into(), body.len().to_string()));
            Ok(BodyVerdict::Replace(([note, body].concat(), vec![bytes])))
        }
        BodyAct::Headers => Ok(BodyVerdict::Amend(vec![Edit::Set(("x-headers".into(), header_names()))])),
        BodyAct::Giant { bytes } => Ok(BodyVerdict::Replace((vec![b'x'; *bytes], Vec::new()))),
        BodyAct::Refuse { status } => Ok(BodyVerdict::Respond(Reply {
            status: *status,
            headers: Vec::new(),
            body: b"refused".to_vec(),
        })),
        BodyAct::Trap => std::process::abort(),
        BodyAct::Spin => spin(),
        BodyAct::Grow => grow(state()?),
        BodyAct::Abort | BodyAct::Swallow | BodyAct::TrapInDrop => Err("only for streams".into()),
    }
}

struct Filter;

impl Drop for Filter {
    fn drop(&mut self) {
        if state().is_ok_and(|state| matches!(state.config.body, BodyAct::TrapInDrop)) {
            std::process::abort();
        }
    }
}

impl body_stream::Guest for Probe {
    type BodyFilter = Filter;
}

impl body_stream::GuestBodyFilter for Filter {
    fn new(_which: body_stream::Direction, _note: Vec<u8>) -> Filter {
        Filter
    }

    fn chunk(&self, data: Vec<u8>, _last: bool) -> Result<body_stream::ChunkVerdict, String> {
        match &state()?.config.body {
            BodyAct::Upper => Ok(body_stream::ChunkVerdict::Replace(data.to_ascii_uppercase())),
            BodyAct::Abort => Ok(body_stream::ChunkVerdict::Abort("told to".into())),
            BodyAct::Swallow => Ok(body_stream::ChunkVerdict::Replace(Vec::new())),
            BodyAct::Giant { bytes } => Ok(body_stream::ChunkVerdict::Replace(vec![b'x'; *bytes])),
            BodyAct::Trap => std::process::abort(),
            BodyAct::Spin => spin(),
            BodyAct::Grow => grow(state()?),
            _ => Ok(body_stream::ChunkVerdict::Proceed),
        }
    }
}

#[expect(unsafe_code, reason = "generated exports")]
mod exports {
    use super::{Probe, bindings};
    bindings::export!(Probe with_types_in bindings);
}
