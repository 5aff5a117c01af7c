//! What a policy is: one trait, whose hooks all have defaults.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Body, BodyVerdict, ChunkVerdict, Direction, Entry, Plan, Request, Response, Verdict};

/// A policy. [`policy!`](crate::policy!) exports it, with the hooks that are named there: a hook
/// that is not exported is never called and costs nothing.
///
/// An `Err` of a hook is the policy's own failure: it is logged and counted, and the exchange gets
/// the operator's `on_error` (503, unless told to skip). To refuse a request is to answer with a
/// [`Reply`](crate::Reply). A panic costs the instance; its text is logged.
pub trait Policy: Sized + 'static {
    /// The configuration. Its schema is shown by editors and checked before
    /// [`configure`](Policy::configure): derive `Deserialize` and `JsonSchema`, write doc comments,
    /// and put `#[serde(deny_unknown_fields)]` so that a misspelt key is refused.
    type Config: DeserializeOwned + JsonSchema;

    /// Runs once in each fresh instance, before any hook: says in `plan` what the policy reads and
    /// writes, and makes its handles (limiters, verifiers, buckets, metrics). An `Err` refuses the
    /// whole new configuration of the gateway; what runs stays.
    fn configure(config: Self::Config, plan: &mut Plan) -> Result<Self, String>;

    /// The request's headers have arrived.
    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let _ = request;
        Ok(Verdict::Proceed)
    }

    /// The response's headers have arrived.
    fn on_response(&self, response: &Response) -> Result<Verdict, String> {
        let _ = response;
        Ok(Verdict::Proceed)
    }

    /// The request's body has been collected ([`Plan::buffer_request_body`]).
    fn on_request_body(&self, body: Body) -> Result<BodyVerdict, String> {
        let _ = body;
        Ok(BodyVerdict::Proceed)
    }

    /// The response's body has been collected ([`Plan::buffer_response_body`]).
    fn on_response_body(&self, body: Body) -> Result<BodyVerdict, String> {
        let _ = body;
        Ok(BodyVerdict::Proceed)
    }

    /// Exchanges have finished: a batch of them, off the request's path.
    fn on_log(&self, entries: &[Entry]) -> Result<(), String> {
        let _ = entries;
        Ok(())
    }

    /// Every [`Plan::tick`], in one instance of the policy per gateway.
    fn on_tick(&self) -> Result<(), String> {
        Ok(())
    }

    /// A body starts to stream ([`Plan::stream_request_body`], [`Plan::stream_response_body`]).
    fn body_filter(&self, direction: Direction, note: Vec<u8>) -> Box<dyn BodyFilter> {
        let _ = (direction, note);
        Box::new(PassOn)
    }
}

/// Sees one body, chunk by chunk. It keeps its instance until it is dropped.
pub trait BodyFilter {
    /// `last`: no more will come; `data` may be empty then.
    fn chunk(&mut self, data: &[u8], last: bool) -> Result<ChunkVerdict, String>;
}

/// The filter that passes everything on.
pub struct PassOn;

impl BodyFilter for PassOn {
    fn chunk(&mut self, _data: &[u8], _last: bool) -> Result<ChunkVerdict, String> {
        Ok(ChunkVerdict::Proceed)
    }
}

/// The configuration of a policy that has none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
