//! Bodies in a chain: collected for a hook, or filtered chunk by chunk.
//!
//! Called by `exchange` after the header hooks of the same direction and before anything is sent
//! on, so headers can still be edited. Never holds more than the smallest limit of the policies
//! that want the body.

use super::step::{BodyStep, Chain, Step, StepPlan};
use super::subject::Subject;
use super::turn::{finish, give_back, lease, lend, settle};
use super::{Stop, edit};
use crate::message::body::{Body, BodyError};
use crate::message::id::RequestId;
use crate::plugin::instance::{Filter, told};
use crate::plugin::{BodyVerdict, ChunkVerdict, Direction, Failure, Lease, Pool, Reply};
use crate::telemetry::metric::{Hook, Verdict as Outcome};
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::mpsc;

/// Frames between a filter and whoever sends the body on: enough that both can work.
const FILTERED_FRAMES: usize = 2;

/// Takes the request's body through the chain.
pub async fn request(
    chain: &Chain,
    pools: &[Rc<Pool>],
    subject: &mut Subject,
    body: Body,
) -> ControlFlow<Stop, Body> {
    if !chain.request_bodies {
        return ControlFlow::Continue(body);
    }
    let order = 0..chain.steps.len();
    // On the heap: most exchanges have no use for it, and all would carry its room.
    Box::pin(run(chain, pools, subject, body, Direction::Request, order.collect(), |plan| plan.request_body))
        .await
}

/// Takes the response's body back through the first `passed` steps.
pub async fn response(
    chain: &Chain,
    pools: &[Rc<Pool>],
    subject: &mut Subject,
    body: Body,
    passed: usize,
) -> ControlFlow<Stop, Body> {
    if !chain.response_bodies {
        return ControlFlow::Continue(body);
    }
    let order = (0..passed).rev();
    Box::pin(run(chain, pools, subject, body, Direction::Response, order.collect(), |plan| {
        plan.response_body
    }))
    .await
}

async fn run(
    chain: &Chain,
    pools: &[Rc<Pool>],
    subject: &mut Subject,
    mut body: Body,
    direction: Direction,
    order: Vec<usize>,
    of: fn(&StepPlan) -> BodyStep,
) -> ControlFlow<Stop, Body> {
    for index in order {
        let step = &chain.steps[index];
        if subject.memory.get(index).is_some_and(|memory| memory.skipped) {
            continue;
        }
        let pool = &pools[step.slot];
        match of(&step.plan) {
            BodyStep::Pass => {}
            BodyStep::Buffer(limit) => {
                let collected = match collect(body, limit).await {
                    Ok(collected) => collected,
                    Err(Uncollected::TooLarge) => return ControlFlow::Break(Stop::TooLarge { step: index }),
                    Err(Uncollected::Broken) => return ControlFlow::Break(Stop::Broken),
                };
                body = buffered(step, limit, pool, subject, index, direction, collected).await?;
            }
            BodyStep::Filter => body = filtered(pool, subject, index, direction, body).await?,
        }
    }
    ControlFlow::Continue(body)
}

enum Uncollected {
    TooLarge,
    Broken,
}

/// Reads a body to its end. Trailers are dropped: the hook could not see them.
async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Uncollected> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Uncollected::TooLarge);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Uncollected::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(Uncollected::TooLarge);
        }
        // One chunk is the common case and needs no copy.
        match (first.is_empty(), rest.is_empty()) {
            (true, true) => first = data,
            (false, _) => {
                rest.extend_from_slice(&first);
                rest.extend_from_slice(&data);
                first = Bytes::new();
            }
            (true, false) => rest.extend_from_slice(&data),
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

async fn buffered(
    step: &Step,
    limit: usize,
    pool: &Rc<Pool>,
    subject: &mut Subject,
    index: usize,
    direction: Direction,
    body: Bytes,
) -> ControlFlow<Stop, Body> {
    let mut started = Instant::now();
    let plan = &step.plan;
    let reads = match direction {
        Direction::Request => plan.request.as_ref(),
        Direction::Response => plan.response.as_ref(),
    };
    let verdict = match lease(pool, subject, index).await {
        Ok(mut leased) => {
            let all_headers = reads.is_some_and(|reads| reads.all_headers);
            let (note, mut facts) = lend(step, subject, index, all_headers);
            let verdict = leased.on_body(direction, &body, &note, &mut facts).await;
            give_back(subject, index, note, facts);
            finish(leased, verdict, subject, index)
        }
        Err(failure) => Err(failure),
    };
    let mut replaced = None;
    let judged = verdict.and_then(|verdict| {
        let (edits, bytes) = match verdict {
            BodyVerdict::Proceed => return Ok((Outcome::Proceed, None)),
            BodyVerdict::Respond(reply) => return Ok((Outcome::Respond, Some(reply))),
            BodyVerdict::Amend(edits) => (edits, None),
            BodyVerdict::Replace((bytes, edits)) => (edits, Some(bytes)),
        };
        let longest = limit.max(edit::REPLY_BYTES_MAX);
        if let Some(bytes) = bytes.as_ref().filter(|bytes| bytes.len() > longest) {
            let why = format!("a body of {} bytes; at most {longest} are allowed", bytes.len());
            return Err(Lease::blame(pool, Failure::Return(why)));
        }
        edit::amend(edits, &plan.writes, direction == Direction::Response, subject, index)
            .map_err(|why| Lease::blame(pool, Failure::Return(why)))?;
        replaced = bytes.map(Bytes::from);
        Ok((Outcome::Amend, None))
    });
    let hook = match direction {
        Direction::Request => Hook::RequestBody,
        Direction::Response => Hook::ResponseBody,
    };
    let reply: Option<Reply> = settle(judged, pool, subject, index, hook, &mut started)?;
    if let Some(reply) = reply {
        return ControlFlow::Break(Stop::Reply { step: index, reply });
    }
    // Collected, the body has a length of its own; the one that was announced may be another.
    subject.headers_in_hand_mut().remove(CONTENT_LENGTH);
    ControlFlow::Continue(Body::full(replaced.unwrap_or(body)))
}

async fn filtered(
    pool: &Rc<Pool>,
    subject: &mut Subject,
    index: usize,
    direction: Direction,
    body: Body,
) -> ControlFlow<Stop, Body> {
    let mut started = Instant::now();
    let opened = match lease(pool, subject, index).await {
        Ok(mut leased) => {
            let note = subject.memory.get(index).map(|memory| memory.note.clone()).unwrap_or_default();
            match leased.open_filter(direction, &note).await {
                Ok(filter) => Ok((leased, filter)),
                Err(failure) => leased.finish(Err(failure)),
            }
        }
        Err(failure) => Err(failure),
    };
    let judged = opened.map(|opened| (Outcome::Proceed, Some(opened)));
    let Some((leased, filter)) = settle(judged, pool, subject, index, Hook::Chunk, &mut started)? else {
        return ControlFlow::Continue(body);
    };
    subject.headers_in_hand_mut().remove(CONTENT_LENGTH);
    let (send, receive) = mpsc::channel(FILTERED_FRAMES);
    // The filter works in a task of its own, because a guest may suspend and a body is polled.
    // When the reader goes away its next send fails, and the instance is given back.
    tokio::task::spawn_local(pump(pool.clone(), leased, filter, body, send, subject.id));
    ControlFlow::Continue(Body::wrap(Filtered(receive)))
}

type Sender = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

async fn pump(
    pool: Rc<Pool>,
    mut leased: Lease,
    filter: Filter,
    body: Body,
    send: Sender,
    request: RequestId,
) {
    let flowed = flow(&pool, &mut leased, filter, body, &send, request).await;
    // Whoever reads has all there is, whatever becomes of the filter.
    drop(send);
    // After any other failure the instance is dead, and its filter with it.
    let ended = match flowed {
        Ok(()) | Err(Failure::Error(_)) => {
            let closed = leased.close_filter(filter).await;
            closed.inspect_err(|failure| tell(&pool, request, failure)).and(flowed)
        }
        Err(_) => flowed,
    };
    let _ = leased.finish(ended);
}

/// Takes a body through its filter, up to its end or until nobody wants it any more.
async fn flow(
    pool: &Pool,
    leased: &mut Lease,
    filter: Filter,
    mut body: Body,
    send: &Sender,
    request: RequestId,
) -> Result<(), Failure> {
    loop {
        let (data, trailers, ended) = match body.frame().await {
            None => (Bytes::new(), None, true),
            Some(Err(error)) => {
                let _ = send.send(Err(error)).await;
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                // An HTTP/2 frame may be empty without being the last.
                Ok(data) if data.is_empty() && !body.is_end_stream() => continue,
                Ok(data) => (data, None, false),
                Err(frame) => (Bytes::new(), Some(frame), true),
            },
        };
        let last = ended || body.is_end_stream();
        let started = Instant::now();
        let verdict = leased.filter_chunk(filter, &data, last).await;
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let metrics = &pool.policy().metrics;
        let passed = match verdict {
            Ok(ChunkVerdict::Proceed) => {
                metrics.call(Hook::Chunk, Outcome::Proceed, nanos);
                data
            }
            Ok(ChunkVerdict::Replace(bytes)) => {
                metrics.call(Hook::Chunk, Outcome::Amend, nanos);
                bytes.into()
            }
            Ok(ChunkVerdict::Abort(why)) => {
                metrics.call(Hook::Chunk, Outcome::Respond, nanos);
                let policy = pool.policy().label();
                let why = told(&why);
                tracing::info!(target: "policy", %policy, request = %request, "broke a body off: {why}");
                let _ = send.send(Err("broken off by a policy".into())).await;
                return Ok(());
            }
            // Some of the body may be gone already, so neither `skip` nor an answer is possible.
            Err(failure) => {
                metrics.call(Hook::Chunk, Outcome::Error, nanos);
                tell(pool, request, &failure);
                let _ = send.send(Err("a policy failed".into())).await;
                return Err(failure);
            }
        };
        if !passed.is_empty() && send.send(Ok(Frame::data(passed))).await.is_err() {
            return Ok(());
        }
        if last {
            if let Some(trailers) = trailers {
                let _ = send.send(Ok(trailers)).await;
            }
            return Ok(());
        }
    }
}

fn tell(pool: &Pool, request: RequestId, failure: &Failure) {
    let (policy, hook) = (pool.policy().label(), Hook::Chunk.label());
    tracing::warn!(target: "policy", %policy, hook, request = %request, "{failure}");
}

struct Filtered(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>);

impl http_body::Body for Filtered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}
