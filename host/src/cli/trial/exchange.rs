//! One case's request taken through its chain, hook by hook, with everything written down.
//!
//! Called by `stage`. In the order of the room `exchange`, with the same readers (`Values`), the
//! same judge (`edit`) and the same instances; what is left out is the network. Each hook gets a
//! fresh instance, as it may at any time in a gateway: state that a guest keeps for itself shows.

use super::capture::{Capture, Heard};
use super::case::{Answer, Case, Fetched, Lines};
use super::words;
use crate::chain::plan::Reads;
use crate::chain::request::memory;
use crate::chain::step::{BodyStep, Step as Link, StepPlan};
use crate::chain::subject::{End, ResponseHead};
use crate::chain::values::Values;
use crate::chain::{self, Chain, edit};
use crate::clock::Clock;
use crate::message::body::Body;
use crate::message::forwarded::{Client, ForwardedCache, Scheme};
use crate::message::headers::text;
use crate::message::id::RequestId;
use crate::message::path::{check_query, normalise};
use crate::message::peer::Peer;
use crate::message::problem::{Dialect, Problem};
use crate::plugin::bindings::witgate::policy::http_client::{FetchError, FetchResponse};
use crate::plugin::facts::FETCHES_MAX;
use crate::plugin::instance::HeaderCall;
use crate::plugin::plan::OnError;
use crate::plugin::{
    BodyVerdict, Direction, Edit, Facts, Failure, FetchJob, FetchPort, Instance, Reply, Verdict,
};
use crate::router::{Found, ListenerId};
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::reason::Reason;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The request's id, the same in every case.
const REQUEST_ID: &str = "trial";

pub struct Exchange<'a> {
    pub snapshot: &'a Snapshot,
    pub clock: &'a Clock,
    pub capture: &'a Capture,
    /// By `ListenerId`.
    pub listeners: &'a [String],
    pub fetches: &'a BTreeMap<String, Vec<Fetched>>,
}

/// One hook that was called.
pub struct Step {
    pub policy: String,
    pub hook: &'static str,
    pub reads: Value,
    pub verdict: Value,
    pub heard: Heard,
    /// Where and how a guest trapped.
    detail: Option<String>,
}

pub struct Played {
    pub operation: String,
    pub steps: Vec<Step>,
    /// What the upstream gets, without what the gateway adds itself; null if nothing.
    pub sent: Value,
    pub answer: Value,
}

impl Played {
    /// Each step for people, and the answer.
    pub fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.steps.iter().map(Step::words).collect();
        if !self.sent.is_null() {
            words.push(format!("sent {}", self.sent));
        }
        words.push(format!("answer {}", self.answer));
        words
    }
}

impl Step {
    fn words(&self) -> String {
        let mut text = format!("{} {}: {}", self.policy, self.hook, self.verdict);
        if self.reads.as_object().is_some_and(|reads| !reads.is_empty()) {
            text += &format!("\n  reads {}", self.reads);
        }
        for (what, lines) in [("calls", &self.heard.calls), ("log", &self.heard.log)] {
            for line in lines {
                text += &format!("\n  {what} {line}");
            }
        }
        if let Some(detail) = &self.detail {
            text += &format!("\n  {}", detail.replace('\n', "\n  "));
        }
        text
    }
}

impl Exchange<'_> {
    /// # Errors
    /// What is wrong with the case itself.
    pub async fn play(&self, case: &Case) -> Result<Played, String> {
        let asked = &case.request;
        let method: Method =
            asked.method.parse().map_err(|_| format!("request.method: {:?} is none", asked.method))?;
        let mut headers = fields(&asked.headers).map_err(|why| format!("request.headers: {why}"))?;
        let dialect = Dialect::of(&headers);
        let given: PathAndQuery =
            asked.path.parse().map_err(|_| format!("request.path: {:?} is none", asked.path))?;
        let ip: IpAddr =
            asked.client.parse().map_err(|_| format!("request.client: {:?} is no address", asked.client))?;
        let scheme = match &*asked.scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(format!("request.scheme: {other:?} is neither `http` nor `https`")),
        };
        let listener = match &asked.listener {
            None => 0,
            Some(name) => self
                .listeners
                .iter()
                .position(|known| known == name)
                .ok_or_else(|| format!("request.listener: none is named {name:?}"))?,
        };
        let answered = |reason: Reason, allow: Option<HeaderValue>| async move {
            let mut response = Problem::new(reason).request_id(REQUEST_ID).into_response(dialect);
            if let Some(allow) = allow {
                response.headers_mut().insert(ALLOW, allow);
            }
            let answer = shown(response).await;
            Ok(Played { operation: "none".into(), steps: vec![], sent: Value::Null, answer })
        };
        let Ok(target) = target(&given) else { return answered(Reason::PathRefused, None).await };
        headers.entry(HOST).or_insert(HeaderValue::from_static("trial.test"));
        let authority = headers.get(HOST).cloned();
        let host = authority.as_ref().and_then(|host| host.to_str().ok());
        let listener_id = ListenerId(u16::try_from(listener).unwrap_or(u16::MAX));
        let (matched, preflight) = match self.snapshot.router.find(listener_id, host, &method, target.path())
        {
            Found::Route(matched) => (matched, None),
            Found::Preflight { matched, allow } => (matched, Some(allow)),
            Found::MethodNotAllowed { allow, .. } => {
                return answered(Reason::MethodNotAllowed, Some(allow)).await;
            }
            Found::NotFound { .. } => return answered(Reason::NoRoute, None).await,
        };
        let route = &self.snapshot.routes[matched.route.0 as usize];
        let forwarded = ForwardedCache::new(ip, scheme);
        let client = Client {
            ip,
            scheme,
            host: authority.clone(),
            peer_trusted: false,
            via: smallvec::SmallVec::new(),
        };
        let peer = Peer {
            address: SocketAddr::new(ip, 49_152),
            listener: self.listeners.get(listener).map_or("", String::as_str).into(),
            forwarded,
            tls: None,
        };
        let id = RequestId::accept(REQUEST_ID).ok_or("no request id")?;
        let (port, jobs) = mpsc::unbounded_channel();
        tokio::task::spawn_local(answer_fetches(jobs, self.fetches.clone()));
        let facts = Box::new(Facts {
            api: route.api.clone(),
            directory: self.snapshot.directory.clone(),
            identity: None,
            retry_after: None,
            claims: None,
            headers: HeaderMap::new(),
            fetches_left: FETCHES_MAX,
            port: FetchPort(port),
        });
        let subject = chain::Subject {
            method,
            routed: target.clone(),
            target,
            authority,
            headers,
            response: None,
            client,
            peer: Rc::new(peer),
            id,
            dialect,
            api: route.api.clone(),
            operation: route.operation.clone(),
            parameters: route.parameters.clone(),
            params: matched.params,
            prefix_end: matched.prefix_end,
            identity: None,
            claims: None,
            facts: Some(facts),
            context: Vec::new(),
            upstream: None,
            memory: memory(&route.chain),
            end: None,
        };
        let held = route.chain.steps.iter().map(|_| None).collect();
        let mut walk = Walk {
            exchange: self,
            route,
            subject,
            steps: Vec::new(),
            held,
            sent: Value::Null,
            answered: (Arc::from("gateway"), ""),
        };
        let answer = walk.tell(case, preflight).await?;
        walk.log(&answer).await;
        let operation = match &route.operation {
            Some(operation) => format!("{}/{operation}", route.api),
            None => route.api.to_string(),
        };
        Ok(Played { operation, steps: walk.steps, sent: walk.sent, answer })
    }
}

/// A request on its way.
struct Walk<'a> {
    exchange: &'a Exchange<'a>,
    route: &'a Route,
    subject: chain::Subject,
    steps: Vec<Step>,
    /// Instances of policies with `isolation: request`.
    held: Vec<Option<Instance>>,
    sent: Value,
    /// Who answered and why, as `on-log` reads it.
    answered: (Arc<str>, &'static str),
}

type Chunks = Vec<Bytes>;

/// What ends the way early.
enum Stop {
    Reply(Reply),
    /// The policy whose hook was called last failed.
    Failed(Reason),
    Gateway(Reason),
}

impl Walk<'_> {
    async fn tell(&mut self, case: &Case, preflight: Option<HeaderValue>) -> Result<Value, String> {
        let chain = self.route.chain.clone();
        let body: Chunks = case.request.body.chunks().into_iter().map(Bytes::from).collect();
        let mut passed = 0;
        let forth = self.forth(&chain, body, &mut passed).await;
        let mut body = match forth {
            Ok(_) if preflight.is_some() => {
                let body = self.problem(Reason::MethodNotAllowed).await;
                if let (Some(head), Some(allow)) = (&mut self.subject.response, preflight) {
                    head.headers.insert(ALLOW, allow);
                }
                body
            }
            Ok(body) => self.send(case, body).await?,
            Err(stop) => self.stopped(stop).await,
        };
        for index in (0..passed).rev() {
            if self.is_skipped(index) {
                continue;
            }
            let step = &chain.steps[index];
            if let Some(reads) = &step.plan.response
                && let Err(stop) = self.header_hook(step, index, reads, Direction::Response).await
            {
                body = self.stopped(stop).await;
            }
        }
        for index in (0..passed).rev() {
            match self.body_hook(&chain, index, Direction::Response, body).await {
                Ok(kept) => body = kept,
                Err(stop) => {
                    body = self.stopped(stop).await;
                    break;
                }
            }
        }
        let head = self.subject.response.as_ref();
        let status = head.map_or(0, |head| head.status.as_u16());
        let headers = head.map_or(Value::Null, |head| words::headers(&head.headers));
        Ok(json!({ "status": status, "headers": headers, "body": words::text(&body.concat()) }))
    }

    async fn forth(&mut self, chain: &Chain, body: Chunks, passed: &mut usize) -> Result<Chunks, Stop> {
        for (index, step) in chain.steps.iter().enumerate() {
            if let Some(reads) = &step.plan.request {
                self.header_hook(step, index, reads, Direction::Request).await?;
            }
            *passed = index + 1;
        }
        let mut body = body;
        for index in 0..chain.steps.len() {
            body = self.body_hook(chain, index, Direction::Request, body).await?;
        }
        Ok(body)
    }

    /// To the upstream of the case and back to its response's head.
    async fn send(&mut self, case: &Case, body: Chunks) -> Result<Chunks, String> {
        let name = match &self.subject.upstream {
            Some(name) => Some(name.clone()),
            None => self.route.upstream.map(|index| self.exchange.snapshot.upstreams[index].name().into()),
        };
        let Some(name) = name else { return Ok(self.problem(Reason::NothingAnswers).await) };
        let subject = &self.subject;
        let matched = (subject.target.path() == subject.routed.path()).then_some(subject.prefix_end);
        let path = self.route.rewrite.path(subject.target.path(), matched);
        let path = path.unwrap_or_else(|| subject.target.path().to_string());
        let path = match subject.target.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let mut headers = subject.headers.clone();
        headers.remove(HOST);
        self.sent = json!({
            "upstream": name, "method": subject.method.as_str(), "path": path,
            "headers": words::headers(&headers), "body": words::text(&body.concat()),
        });
        let Answer { status, headers, body } = &case.upstream;
        let status =
            StatusCode::from_u16(*status).map_err(|_| format!("upstream.status: {status} is none"))?;
        let headers = fields(headers).map_err(|why| format!("upstream.headers: {why}"))?;
        self.subject.response = Some(ResponseHead { status, headers });
        self.answered = ("upstream".into(), Reason::Proxied.label());
        Ok(body.chunks().into_iter().map(Bytes::from).collect())
    }

    async fn header_hook(
        &mut self,
        step: &Link,
        index: usize,
        reads: &Reads,
        direction: Direction,
    ) -> Result<(), Stop> {
        let plan = &step.policy.plan;
        let (hook, names, unread) = match direction {
            Direction::Request => ("on-request", &plan.request_reads, Reason::HeaderNotUtf8),
            Direction::Response => ("on-response", &plan.response_reads, Reason::UpstreamProtocol),
        };
        let mut instance = match self.instance(step, index).await {
            Ok(instance) => instance,
            Err(failure) => return self.failed(step, index, hook, json!({}), failure),
        };
        let note = self.take_note(index);
        let legible =
            !reads.all_headers || self.subject.headers_in_hand().values().all(|value| text(value).is_ok());
        let mut facts = self.lend(step, reads.all_headers);
        let values = Values::read(&reads.list, &self.subject, &note).ok().map(Values::into_owned);
        let Some(values) = values.filter(|_| legible) else {
            self.give_back(index, note, facts);
            return Err(Stop::Gateway(unread));
        };
        let borrowed: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
        let shown = named(names, &borrowed);
        let call = match direction {
            Direction::Request => HeaderCall::Request(&borrowed),
            Direction::Response => HeaderCall::Response(&borrowed, &note),
        };
        // As a chain calls it: straight where it cannot suspend.
        let result = match instance.is_prompt() {
            true => instance.now(call, &mut facts),
            false => instance.later(call, &mut facts).await,
        };
        self.give_back(index, note, facts);
        self.keep(step, index, instance);
        let verdict = match result {
            Ok(verdict) => verdict,
            Err(failure) => return self.failed(step, index, hook, shown, failure),
        };
        let told = words::verdict(&verdict);
        match verdict {
            Verdict::Proceed => self.told(step, hook, shown, told),
            Verdict::Amend(edits) => match self.apply(edits, step, index, direction) {
                Ok(()) => self.told(step, hook, shown, told),
                Err(why) => return self.failed(step, index, hook, shown, Failure::Return(why)),
            },
            Verdict::Respond(reply) => {
                self.told(step, hook, shown, told);
                return Err(Stop::Reply(reply));
            }
        }
        Ok(())
    }

    async fn body_hook(
        &mut self,
        chain: &Chain,
        index: usize,
        direction: Direction,
        body: Chunks,
    ) -> Result<Chunks, Stop> {
        let step = &chain.steps[index];
        let of = |plan: &StepPlan| match direction {
            Direction::Request => (plan.request_body, plan.request.as_ref().is_some_and(|r| r.all_headers)),
            Direction::Response => {
                (plan.response_body, plan.response.as_ref().is_some_and(|r| r.all_headers))
            }
        };
        match of(&step.plan) {
            (BodyStep::Pass, _) => Ok(body),
            _ if self.is_skipped(index) => Ok(body),
            (BodyStep::Buffer(limit), all) => self.whole(step, index, direction, body, limit, all).await,
            (BodyStep::Filter, _) => self.filtered(step, index, direction, body).await,
        }
    }

    async fn whole(
        &mut self,
        step: &Link,
        index: usize,
        direction: Direction,
        body: Chunks,
        limit: usize,
        all_headers: bool,
    ) -> Result<Chunks, Stop> {
        let (hook, too_large) = match direction {
            Direction::Request => ("on-request-body", Reason::BodyTooLarge),
            Direction::Response => ("on-response-body", Reason::UpstreamBodyTooLarge),
        };
        let body = body.concat();
        if body.len() > limit {
            return Err(Stop::Gateway(too_large));
        }
        let reads = json!({ "body": words::text(&body) });
        let mut instance = match self.instance(step, index).await {
            Ok(instance) => instance,
            Err(failure) => {
                return self.failed(step, index, hook, reads, failure).map(|()| vec![body.into()]);
            }
        };
        let note = self.take_note(index);
        let mut facts = self.lend(step, all_headers);
        let result = instance.on_body(direction, &body, &note, &mut facts).await;
        self.give_back(index, note, facts);
        self.keep(step, index, instance);
        let verdict = match result {
            Ok(verdict) => verdict,
            Err(failure) => {
                return self.failed(step, index, hook, reads, failure).map(|()| vec![body.into()]);
            }
        };
        let told = words::body_verdict(&verdict);
        let (edits, bytes) = match verdict {
            BodyVerdict::Proceed => (Vec::new(), body),
            BodyVerdict::Amend(edits) => (edits, body),
            BodyVerdict::Replace((bytes, edits)) => (edits, bytes),
            BodyVerdict::Respond(reply) => {
                self.told(step, hook, reads, told);
                return Err(Stop::Reply(reply));
            }
        };
        let longest = limit.max(edit::REPLY_BYTES_MAX);
        let applied = match bytes.len() > longest {
            true => Err(format!("a body of {} bytes; at most {longest} are allowed", bytes.len())),
            false => self.apply(edits, step, index, direction),
        };
        match applied {
            Ok(()) => self.told(step, hook, reads, told),
            Err(why) => {
                return self
                    .failed(step, index, hook, reads, Failure::Return(why))
                    .map(|()| vec![bytes.into()]);
            }
        }
        self.subject.headers_in_hand_mut().remove(CONTENT_LENGTH);
        Ok(vec![bytes.into()])
    }

    async fn filtered(
        &mut self,
        step: &Link,
        index: usize,
        direction: Direction,
        body: Chunks,
    ) -> Result<Chunks, Stop> {
        let hook = match direction {
            Direction::Request => "request-chunks",
            Direction::Response => "response-chunks",
        };
        let note = self.subject.memory.get(index).map(|memory| memory.note.clone()).unwrap_or_default();
        let opened = match self.instance(step, index).await {
            Ok(mut instance) => instance.open_filter(direction, &note).await.map(|filter| (instance, filter)),
            Err(failure) => Err(failure),
        };
        let (mut instance, filter) = match opened {
            Ok(opened) => opened,
            Err(failure) => return self.failed(step, index, hook, json!({}), failure).map(|()| body),
        };
        self.subject.headers_in_hand_mut().remove(CONTENT_LENGTH);
        let chunks = if body.is_empty() { vec![Bytes::new()] } else { body };
        let last = chunks.len() - 1;
        let (mut passed, mut verdicts) = (Vec::new(), Vec::new());
        for (at, chunk) in chunks.into_iter().enumerate() {
            let verdict = match instance.filter_chunk(filter, &chunk, at == last).await {
                Ok(verdict) => verdict,
                Err(failure) => {
                    verdicts.push(words::failure(&failure));
                    self.told(step, hook, json!({}), verdicts.into());
                    return Ok(passed);
                }
            };
            verdicts.push(words::chunk_verdict(&verdict));
            match verdict {
                crate::plugin::ChunkVerdict::Proceed => passed.push(chunk),
                crate::plugin::ChunkVerdict::Replace(bytes) => passed.push(bytes.into()),
                crate::plugin::ChunkVerdict::Abort(_) => break,
            }
        }
        self.told(step, hook, json!({}), verdicts.into());
        Ok(passed)
    }

    /// The end of the exchange, told to those that log, and the tick that may follow.
    async fn log(&mut self, answer: &Value) {
        let chain = self.route.chain.clone();
        let answered = answer["body"].as_str().map_or(0, str::len);
        self.subject.end = Some(End {
            start: self.exchange.clock.unix(),
            total: Duration::ZERO,
            upstream: (!self.sent.is_null()).then_some(Duration::ZERO),
            bytes_in: self.sent["body"].as_str().map_or(0, str::len) as u64,
            bytes_out: answered as u64,
            answered_by: self.answered.0.clone(),
            answered_why: self.answered.1,
            trailers: HeaderMap::new(),
        });
        for (index, step) in chain.steps.iter().enumerate() {
            if let Some(reads) = &step.plan.log {
                let note = self.take_note(index);
                let Ok(values) = Values::read(&reads.list, &self.subject, &note) else { continue };
                let shown = named(&step.policy.plan.log_reads, &values.borrowed());
                let entry = values.into_owned();
                let mut facts = self.lend(step, false);
                let result = match self.instance(step, index).await {
                    Ok(mut instance) => instance.on_log(&[entry], &mut facts).await,
                    Err(failure) => Err(failure),
                };
                self.give_back(index, note, facts);
                self.ended(step, "on-log", shown, result);
            }
            if step.policy.plugin.exports().on_tick && step.policy.plan.tick.is_some() {
                let mut facts = self.lend(step, false);
                let result = match self.instance(step, index).await {
                    Ok(mut instance) => instance.on_tick(&mut facts).await,
                    Err(failure) => Err(failure),
                };
                self.give_back(index, Vec::new(), facts);
                self.ended(step, "on-tick", json!({}), result);
            }
        }
    }

    fn ended(&mut self, step: &Link, hook: &'static str, reads: Value, result: Result<(), Failure>) {
        let verdict = match &result {
            Ok(()) => "ok".into(),
            Err(failure) => words::failure(failure),
        };
        self.told(step, hook, reads, verdict);
    }

    fn apply(
        &mut self,
        edits: Vec<Edit>,
        step: &Link,
        index: usize,
        direction: Direction,
    ) -> Result<(), String> {
        edit::amend(edits, &step.plan.writes, direction == Direction::Response, &mut self.subject, index)
    }

    async fn instance(&mut self, step: &Link, index: usize) -> Result<Instance, Failure> {
        let instance = match self.held.get_mut(index).and_then(Option::take) {
            Some(held) => held,
            None => step.policy.instance().await?,
        };
        // What it did to be configured was told already.
        drop(self.exchange.capture.take());
        Ok(instance)
    }

    fn keep(&mut self, step: &Link, index: usize, instance: Instance) {
        if step.policy.settings.fresh {
            self.held[index] = Some(instance);
        }
    }

    fn lend(&mut self, step: &Link, all_headers: bool) -> Option<Box<Facts>> {
        let mut facts = self.subject.facts.take().filter(|_| step.policy.wants_facts())?;
        facts.headers.clear();
        if all_headers {
            facts.headers.clone_from(self.subject.headers_in_hand());
        }
        Some(facts)
    }

    fn give_back(&mut self, index: usize, note: Vec<u8>, facts: Option<Box<Facts>>) {
        self.subject.memory[index].note = note;
        if let Some(facts) = facts {
            self.subject.take_back(facts);
        }
    }

    fn take_note(&mut self, index: usize) -> Vec<u8> {
        std::mem::take(&mut self.subject.memory[index].note)
    }

    fn is_skipped(&self, index: usize) -> bool {
        self.subject.memory[index].skipped
    }

    fn told(&mut self, step: &Link, hook: &'static str, reads: Value, verdict: Value) {
        let heard = self.exchange.capture.take();
        let policy = step.policy.label().to_string();
        self.steps.push(Step { policy, hook, reads, verdict, heard, detail: None });
    }

    fn failed(
        &mut self,
        step: &Link,
        index: usize,
        hook: &'static str,
        reads: Value,
        failure: Failure,
    ) -> Result<(), Stop> {
        self.told(step, hook, reads, words::failure(&failure));
        if let (Some(told), Failure::Trap(text)) = (self.steps.last_mut(), &failure) {
            told.detail = Some(text.clone());
        }
        match step.policy.on_error {
            OnError::Deny => Err(Stop::Failed(failure.reason())),
            OnError::Skip => {
                self.subject.memory[index].skipped = true;
                Ok(())
            }
        }
    }

    async fn stopped(&mut self, stop: Stop) -> Chunks {
        let (reason, response) = match stop {
            Stop::Gateway(reason) => return self.problem(reason).await,
            Stop::Failed(reason) => (reason, None),
            Stop::Reply(reply) => match edit::reply(reply) {
                Ok(response) => (Reason::Answered, Some(response)),
                Err(why) => (Failure::Return(why).reason(), None),
            },
        };
        let chunks = match response {
            Some(response) => self.answer(response).await,
            None => self.problem(reason).await,
        };
        let policy = self.steps.last().map_or("", |step| step.policy.as_str());
        self.answered = (format!("policy {policy}").into(), reason.label());
        chunks
    }

    async fn problem(&mut self, reason: Reason) -> Chunks {
        let problem = Problem::new(reason).request_id(REQUEST_ID);
        self.answered = ("gateway".into(), reason.label());
        self.answer(problem.into_response(self.subject.dialect)).await
    }

    async fn answer(&mut self, response: Response<Body>) -> Chunks {
        let (parts, body) = response.into_parts();
        self.subject.response = Some(ResponseHead { status: parts.status, headers: parts.headers });
        vec![collected(body).await]
    }
}

/// Reads by their names, in the plan's order, as JSON keeps no other.
fn named(names: &[String], values: &[Option<&str>]) -> Value {
    let names = names.iter().filter(|name| *name != "headers:*");
    names.cloned().zip(values.iter().map(|value| json!(value))).collect::<Map<_, _>>().into()
}

async fn shown(response: Response<Body>) -> Value {
    let (parts, body) = response.into_parts();
    let body = collected(body).await;
    json!({
        "status": parts.status.as_u16(), "headers": words::headers(&parts.headers), "body": words::text(&body),
    })
}

async fn collected(body: Body) -> Bytes {
    // The gateway's own answers and those of policies are whole.
    body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}

/// The one normal form of the request's path, with its query; see `exchange::intake`.
fn target(given: &PathAndQuery) -> Result<PathAndQuery, ()> {
    if given.query().is_some_and(|query| check_query(query).is_err()) {
        return Err(());
    }
    let path = normalise(given.path()).map_err(|_| ())?;
    let whole = match given.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    whole.parse().map_err(|_| ())
}

fn fields(written: &BTreeMap<String, Lines>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, lines) in written {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no name"))?;
        for line in lines.iter() {
            let value = HeaderValue::from_str(line).map_err(|_| format!("{line:?} is no value"))?;
            headers.append(parsed.clone(), value);
        }
    }
    Ok(headers)
}

/// Answers what guests fetch: in order, the last answer again and again.
async fn answer_fetches(
    mut jobs: mpsc::UnboundedReceiver<FetchJob>,
    fetches: BTreeMap<String, Vec<Fetched>>,
) {
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(job) = jobs.recv().await {
        let count = asked.entry(job.request.upstream.clone()).or_default();
        let answers = fetches.get(&job.request.upstream).map_or(&[][..], Vec::as_slice);
        let answer = answers.get(*count).or(answers.last());
        *count += 1;
        let _ =
            job.reply.send(answer.map_or(Err(FetchError::Connect), |answer| fetched(answer, job.bytes_max)));
    }
}

fn fetched(answer: &Fetched, bytes_max: usize) -> Result<FetchResponse, FetchError> {
    let answer = match answer {
        Fetched::Answer(answer) => answer,
        Fetched::Error { error } => {
            return Err(match error.as_str() {
                "timeout" => FetchError::Timeout,
                "protocol" => FetchError::Protocol,
                "too-large" => FetchError::TooLarge,
                "no-healthy-endpoint" => FetchError::NoHealthyEndpoint,
                _ => FetchError::Connect,
            });
        }
    };
    let body = answer.body.chunks().concat();
    if body.len() > bytes_max {
        return Err(FetchError::TooLarge);
    }
    let lines = |(name, lines): (&String, &Lines)| {
        lines.iter().map(|line| (name.to_ascii_lowercase(), line.clone())).collect::<Vec<_>>()
    };
    Ok(FetchResponse {
        status: answer.status,
        headers: answer.headers.iter().flat_map(lines).collect(),
        body,
    })
}
