//! A policy's real component between hostile bytes: values cross the boundary unharmed, edits stay
//! within the plan, and bodies come out as they went in.
//!
//! An input of `boundary` is lines: `NAME: VALUE`, fields of a request. One of `body`: its first line
//! says the mode (`stream`, `buffer`), each further line is a chunk; `!` breaks the body off.

use crate::gateway::{Bench, Worker, subject};
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::ops::ControlFlow;
use witgate::chain::{self, Chain, Stop};
use witgate::message::body::{Body, BodyError};
use witgate::snapshot::Snapshot;
use witgate_test_support::guests;

pub const BOUNDARY_WORDS: &[&str] = &[
    "x-a: ",
    "x-b: ",
    "X-A: 1\n",
    "cookie: c=1\n",
    "\n",
    "\u{e4}",
    "\u{1f600}",
    "\u{ff}",
    "x-a: \u{e4}\n",
    "; ",
    "c=",
    ",",
    "\t",
    "\"",
    "x-do: {\"do\":\"edits\",\"edits\":[{\"set\":[\"x-a\",\"1\"]}]}\n",
    "x-do: {\"do\":\"edits\",\"edits\":[{\"set\":[\"host\",\"1\"]}]}\n",
    "x-do: {\"do\":\"reply\",\"status\":",
    "200}",
    "99}",
    "\\u0000",
    "\\r\\n",
    "\u{202e}",
    "x-out-0: mine\n",
];

pub const BODY_WORDS: &[&str] = &[
    "stream\n",
    "buffer\n",
    "hello\n",
    "\n",
    "!\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u{0}",
    "\u{ff}",
];

/// Of `body`'s collecting policy.
const LIMIT: usize = 64;

struct Ready {
    worker: Worker,
    snapshot: Snapshot,
    _bench: Bench,
}

thread_local! {
    static READY: Ready = {
        let bench = Bench::new(&[("probe", guests::probe())]);
        let api = |name: &str, config: &str| {
            format!("- {{ name: {name}, path: /{name}, upstream: a, chain: [{{ plugin: probe, config: {config} }}] }}\n")
        };
        let text = format!(
            "listeners: [{{ name: public, address: '127.0.0.1:0' }}]\n\
             plugins: {{ directory: ., cache: cache, limits: {{ time: 5s }} }}\n\
             upstreams: {{ a: {{ endpoints: ['http://127.0.0.1:1'] }} }}\napis:\n{}{}{}{}",
            api("echo", "{ reads: [x-a, x-b, 'cookie:c', ':path', ':query'], writes: ['x-out-*'], request: { do: echo, prefix: x-out- } }"),
            api("told", "{ reads: [x-do], writes: [x-a], request: { do: told } }"),
            api("stream", "{ request_body: stream }"),
            api("buffer", &format!("{{ request_body: buffer, body_limit: {LIMIT} }}")),
        );
        let loaded = bench.load(&text).unwrap_or_else(|report| panic!("{report}"));
        let snapshot = bench.compile(&loaded).unwrap_or_else(|report| panic!("{report}")).snapshot;
        Ready { worker: Worker::new(&snapshot), snapshot, _bench: bench }
    };
}

impl Ready {
    fn chain(&self, api: &str) -> &Chain {
        &self.snapshot.routes.iter().find(|route| *route.api == *api).unwrap().chain
    }
}

pub fn boundary(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(64) {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = HeaderValue::from_bytes(line.get(at + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), value) {
            headers.append(name, value);
        }
    }
    READY.with(|ready| {
        told(ready, &headers);
        // Lines of a repeated field are joined by a newline, which no value may have: an edit that is
        // refused, and too many of those are the end of the policy for a while.
        for name in ["x-a", "x-b"] {
            if let Some(value) = headers.get(name).cloned() {
                headers.insert(name, value);
            }
        }
        echoed(ready, &headers);
    });
}

/// What the guest read and wrote back is what the message had.
fn echoed(ready: &Ready, headers: &HeaderMap) {
    let mut subject = subject("/a/b?c=d", headers);
    let mut passed = 0;
    let ran = ready.worker.runtime.block_on(chain::request::run(
        ready.chain("echo"),
        &ready.worker.pools,
        &mut subject,
        &mut passed,
    ));
    let readable =
        |name: &str| headers.get_all(name).iter().all(|value| std::str::from_utf8(value.as_bytes()).is_ok());
    if let ControlFlow::Break(stop) = ran {
        match stop {
            Stop::NotUtf8 { .. } => {
                assert!(["x-a", "x-b", "cookie"].iter().any(|name| !readable(name)), "{headers:?}");
            }
            stop => panic!("{headers:?}: {stop:?}"),
        }
        assert_eq!(subject.headers, *headers, "stopped, and changed something");
        return;
    }
    for (place, name) in ["x-a", "x-b"].iter().enumerate() {
        let out = subject.headers.get(format!("x-out-{place}")).map(HeaderValue::as_bytes);
        match headers.get(*name) {
            Some(value) => assert_eq!(out, Some(value.as_bytes()), "{name}"),
            None => assert_eq!(out, Some(&b"(none)"[..]), "{name}"),
        }
    }
    assert_eq!(subject.headers["x-out-3"], "/a/b");
    assert_eq!(subject.headers["x-out-4"], "c=d");
    unchanged(headers, &subject.headers, |name| name.starts_with("x-out-"));
}

/// Whatever it was told to do, `x-a` is all that may have changed.
fn told(ready: &Ready, headers: &HeaderMap) {
    let mut subject = subject("/a/b?c=d", headers);
    let mut passed = 0;
    // These would only take time.
    let slow = |value: &HeaderValue| {
        ["spin", "grow", "keep", "bytes", "count", "trap", "overflow"]
            .iter()
            .any(|word| String::from_utf8_lossy(value.as_bytes()).contains(word))
    };
    if headers.get_all("x-do").iter().any(slow) {
        return;
    }
    let ran = ready.worker.runtime.block_on(chain::request::run(
        ready.chain("told"),
        &ready.worker.pools,
        &mut subject,
        &mut passed,
    ));
    unchanged(headers, &subject.headers, |name| name == "x-a" && ran.is_continue());
    assert_eq!((subject.method.as_str(), subject.target.as_str()), ("GET", "/a/b?c=d"));
    if let ControlFlow::Break(Stop::Reply { reply, .. }) = ran {
        // Judged when it is made a response, see `edit`.
        let _ = chain::edit::reply(reply);
    }
}

fn unchanged(before: &HeaderMap, after: &HeaderMap, but: impl Fn(&str) -> bool) {
    for name in before.keys().chain(after.keys()).filter(|name| !but(name.as_str())) {
        assert!(
            before.get_all(name).iter().eq(after.get_all(name).iter()),
            "{name} changed: {before:?} {after:?}"
        );
    }
}

pub fn body(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let api = match lines.next() {
        Some(b"stream") => "stream",
        _ => "buffer",
    };
    let chunks: Vec<Option<Bytes>> = lines
        .take(64)
        .map(|line| if line == b"!" { None } else { Some(Bytes::copy_from_slice(line)) })
        .collect();
    let broken = chunks.iter().position(Option::is_none);
    let whole: Vec<u8> = chunks.iter().map_while(|chunk| chunk.as_deref()).flatten().copied().collect();
    let frames = chunks.into_iter().map(|chunk| match chunk {
        Some(bytes) => Ok(Frame::data(bytes)),
        None => Err(BodyError::from("broken off")),
    });
    let body = Body::wrap(StreamBody::new(Frames(frames.collect::<Vec<_>>().into_iter())));
    READY.with(|ready| {
        let mut subject = subject("/a", &HeaderMap::new());
        let (pools, chain) = (&ready.worker.pools, ready.chain(api));
        let out = ready.worker.runtime.block_on(async {
            match chain::body::request(chain, pools, &mut subject, body).await {
                ControlFlow::Continue(body) => Ok(body.collect().await.map(|all| all.to_bytes())),
                ControlFlow::Break(stop) => Err(stop),
            }
        });
        match out {
            Ok(Ok(all)) => assert!(broken.is_none() && all == whole, "{api}: {all:?} of {whole:?}"),
            Ok(Err(_)) => assert!(broken.is_some(), "{api}: a whole body broke off"),
            Err(Stop::TooLarge { .. }) => {
                assert!(api == "buffer" && whole.len() > LIMIT, "{} bytes", whole.len())
            }
            Err(Stop::Broken) => assert!(broken.is_some(), "{api}: a whole body broke off"),
            Err(stop) => panic!("{api}: {stop:?}"),
        }
    });
}

/// An iterator that is a stream whose items are there at once.
struct Frames<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Frames<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}
