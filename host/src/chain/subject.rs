//! One exchange as its policies see it: the message in hand and what is known about it.
//!
//! Owned by `exchange`, read by `values`, changed by `edit`. Everything a hook may read or write
//! is here, and nothing else. Never holds a body.

use crate::consumer::Identity;
use crate::message::forwarded::Client;
use crate::message::id::RequestId;
use crate::message::peer::Peer;
use crate::message::problem::Dialect;
use crate::plugin::{Facts, Lease};
use crate::router::Params;
use crate::token::Claims;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Chains longer than this put their notes on the heap.
pub const STEPS_INLINE: usize = 8;

pub struct Subject {
    pub method: Method,
    /// Normalised; the same for router, policies and upstream.
    pub target: PathAndQuery,
    /// What the client asked for, or what a policy put in its place.
    pub authority: Option<HeaderValue>,
    pub headers: HeaderMap,
    /// Set once there is one.
    pub response: Option<ResponseHead>,
    pub client: Client,
    /// The text of `client.ip`, if a policy asked for it.
    pub peer: Rc<Peer>,
    pub id: RequestId,
    pub api: Arc<str>,
    pub operation: Option<Arc<str>>,
    /// Who calls, once a policy found out.
    pub identity: Option<Identity>,
    /// Of the token that a policy verified last.
    pub claims: Option<Arc<Claims>>,
    /// How the gateway's own problems are told to this client.
    pub dialect: Dialect,
    /// Names of the path template's parameters.
    pub parameters: Arc<[Box<str>]>,
    /// Their values, as ranges of `routed`.
    pub params: Params,
    /// How much of `routed` the API's prefix covers, in bytes.
    pub prefix_end: usize,
    /// The path that the router matched, which edits do not change.
    pub routed: PathAndQuery,
    /// Lent to guests whose imports need it, and taken back after each call.
    pub facts: Option<Box<Facts>>,
    pub context: Vec<(Box<str>, String)>,
    /// The upstream that a policy chose instead of the route's.
    pub upstream: Option<String>,
    pub memory: SmallVec<[Memory; STEPS_INLINE]>,
    /// What is known when the exchange is over; before, nothing.
    pub end: Option<End>,
}

/// What the exchange keeps for one step of its chain.
#[derive(Default)]
pub struct Memory {
    pub note: Vec<u8>,
    /// It failed and is skipped for the rest of the exchange.
    pub skipped: bool,
    /// The instance that serves this exchange alone (`isolation: request`).
    pub held: Option<Lease>,
}

#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// How an exchange ended, for `on-log`.
#[derive(Clone, Debug)]
pub struct End {
    /// Since the Unix epoch.
    pub start: Duration,
    pub total: Duration,
    pub upstream: Option<Duration>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub answered_by: Arc<str>,
    pub answered_why: &'static str,
    pub trailers: HeaderMap,
}

impl Subject {
    pub fn path(&self) -> &str {
        self.target.path()
    }

    pub fn consumer(&self) -> Option<&Arc<str>> {
        self.identity.as_ref().map(|identity| &identity.consumer)
    }

    pub fn product(&self) -> Option<&Arc<str>> {
        self.identity.as_ref()?.product.as_ref()
    }

    /// The headers of the message in hand.
    pub fn headers_in_hand(&self) -> &HeaderMap {
        match &self.response {
            Some(response) => &response.headers,
            None => &self.headers,
        }
    }

    /// The same, to be changed.
    pub fn headers_in_hand_mut(&mut self) -> &mut HeaderMap {
        match &mut self.response {
            Some(response) => &mut response.headers,
            None => &mut self.headers,
        }
    }

    /// The value of a parameter of the path template.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let index = self.parameters.iter().position(|known| **known == *name)?;
        self.params.get(self.routed.path(), index)
    }

    /// Takes over what a guest found out by its imports while it had `facts`.
    pub fn take_back(&mut self, mut facts: Box<Facts>) {
        if let Some(identity) = facts.identity.take() {
            self.identity = Some(identity);
        }
        if let Some(claims) = facts.claims.take() {
            self.claims = Some(claims);
        }
        self.facts = Some(facts);
    }

    /// What a policy put under a name for later ones.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.context.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.as_str())
    }
}
