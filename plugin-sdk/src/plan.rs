//! What a policy wants, collected during `configure` and told to the host when that succeeded.

use std::marker::PhantomData;
use std::time::Duration;

use crate::{BodyMode, Entry, Fallback, Request, Response, host};

/// What a policy reads, writes and wants. What is not said here never reaches it, and no other
/// edit is accepted from it.
///
/// Names to read, none of them case-sensitive: a header (`authorization`); `:method` `:scheme`
/// `:authority` `:path` `:query` `:status`; `client:ip` `client:cert-subject`
/// `client:cert-fingerprint` `tls:sni`; `request:id` `api:name` `operation:name` `consumer:name`
/// `product:name`; `param:NAME` `query:NAME` `cookie:NAME` `claim:NAME` `context:NAME`;
/// `request-header:NAME` in response hooks; `trailer:NAME`; `headers:*`, the right to call
/// [`Request::headers`]. In `on_log` also `time:start` `time:total-micros` `time:upstream-micros`
/// `bytes:in` `bytes:out` `answered:by` `answered:why` `:note`.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) request: Reads,
    pub(crate) response: Reads,
    pub(crate) log: Reads,
    writes: Vec<String>,
    request_body: Option<(BodyMode, u32)>,
    response_body: Option<(BodyMode, u32)>,
    on_error: Option<Fallback>,
    tick_millis: Option<u32>,
}

/// What one hook reads.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// The names whose values the hook is handed, in this order.
    pub(crate) names: Vec<String>,
    /// Apart from the names, because the host hands no value over for it.
    all_headers: bool,
}

/// The right to ask for all headers.
pub(crate) const ALL_HEADERS: &str = "headers:*";

/// The index of what has no value.
const NOWHERE: u32 = u32::MAX;

/// A value that the plan asked for, found in a hook without looking for its name.
/// Of a [`Request`] unless told otherwise.
pub struct Read<M = Request> {
    index: u32,
    message: PhantomData<fn() -> M>,
}

impl Plan {
    /// `on_request` receives this value.
    pub fn read(&mut self, name: impl Into<String>) -> Read {
        self.request.declare(name.into())
    }

    /// `on_response` receives this value.
    pub fn read_of_response(&mut self, name: impl Into<String>) -> Read<Response> {
        self.response.declare(name.into())
    }

    /// `on_log` receives this value of each exchange.
    pub fn read_of_log(&mut self, name: impl Into<String>) -> Read<Entry> {
        self.log.declare(name.into())
    }

    /// `on_request` receives these values, found there by name.
    pub fn read_request<N: Into<String>>(&mut self, names: impl IntoIterator<Item = N>) -> &mut Self {
        for name in names {
            self.read(name);
        }
        self
    }

    /// `on_response` receives these values, found there by name.
    pub fn read_response<N: Into<String>>(&mut self, names: impl IntoIterator<Item = N>) -> &mut Self {
        for name in names {
            self.read_of_response(name);
        }
        self
    }

    /// `on_log` receives these values, found there by name.
    pub fn read_log<N: Into<String>>(&mut self, names: impl IntoIterator<Item = N>) -> &mut Self {
        for name in names {
            self.read_of_log(name);
        }
        self
    }

    /// Edits may touch these: a header, `PREFIX*`, `:method` `:path` `:query` `:authority`
    /// `:status`, `upstream:name`, `consumer:name`, `context:NAME`.
    pub fn write<N: Into<String>>(&mut self, names: impl IntoIterator<Item = N>) -> &mut Self {
        for name in names {
            let name = name.into();
            if !self.writes.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                self.writes.push(name);
            }
        }
        self
    }

    /// `on_request_body` gets the whole body; the client of a longer one gets 413.
    pub fn buffer_request_body(&mut self, bytes_max: u32) -> &mut Self {
        self.request_body = Some((BodyMode::Buffer, bytes_max));
        self
    }

    /// `on_response_body` gets the whole body; a longer one becomes 502.
    pub fn buffer_response_body(&mut self, bytes_max: u32) -> &mut Self {
        self.response_body = Some((BodyMode::Buffer, bytes_max));
        self
    }

    /// A [`BodyFilter`](crate::BodyFilter) sees the request's body as it streams.
    pub fn stream_request_body(&mut self) -> &mut Self {
        self.request_body = Some((BodyMode::Stream, 0));
        self
    }

    /// A [`BodyFilter`](crate::BodyFilter) sees the response's body as it streams.
    pub fn stream_response_body(&mut self) -> &mut Self {
        self.response_body = Some((BodyMode::Stream, 0));
        self
    }

    /// What becomes of the exchange when a hook fails; the operator's `on_error` prevails.
    pub fn on_error(&mut self, fallback: Fallback) -> &mut Self {
        self.on_error = Some(fallback);
        self
    }

    /// `on_tick` runs this often.
    pub fn tick(&mut self, period: Duration) -> &mut Self {
        self.tick_millis = Some(millis(period));
        self
    }

    /// Tells the host. Each list is said in one call, so that its order is the order of the values.
    pub(crate) fn announce(&self) {
        if let Some(names) = self.request.announced() {
            host::plan::request_reads(&names);
        }
        if let Some(names) = self.response.announced() {
            host::plan::response_reads(&names);
        }
        if let Some(names) = self.log.announced() {
            host::plan::log_reads(&names);
        }
        if !self.writes.is_empty() {
            host::plan::writes(&self.writes);
        }
        if let Some((mode, bytes_max)) = self.request_body {
            host::plan::request_body(mode, bytes_max);
        }
        if let Some((mode, bytes_max)) = self.response_body {
            host::plan::response_body(mode, bytes_max);
        }
        if let Some(fallback) = self.on_error {
            host::plan::on_error(fallback);
        }
        if let Some(period) = self.tick_millis {
            host::plan::tick_millis(period);
        }
    }
}

impl Reads {
    fn declare<M>(&mut self, name: String) -> Read<M> {
        let index = if name.eq_ignore_ascii_case(ALL_HEADERS) {
            self.all_headers = true;
            NOWHERE
        } else {
            let known = self.names.iter().position(|known| known.eq_ignore_ascii_case(&name));
            known.map_or_else(
                || {
                    self.names.push(name);
                    self.names.len() as u32 - 1
                },
                |index| index as u32,
            )
        };
        Read { index, message: PhantomData }
    }

    /// What the host is told, if anything is read.
    fn announced(&self) -> Option<Vec<String>> {
        let all_headers = self.all_headers.then(|| ALL_HEADERS.to_string());
        let names: Vec<String> = self.names.iter().cloned().chain(all_headers).collect();
        (!names.is_empty()).then_some(names)
    }
}

impl<M> Read<M> {
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }
}

impl<M> Clone for Read<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Read<M> {}

impl<M> std::fmt::Debug for Read<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Read({})", self.index)
    }
}

/// Whether `name` is one that a plan can read in any hook: a header's name, or one of the names
/// with a colon that [`Plan`] lists. For policies whose configuration holds such names.
pub fn is_name(name: &str) -> bool {
    const WHOLE: [&str; 15] = [
        ":method",
        ":scheme",
        ":authority",
        ":path",
        ":query",
        ":status",
        "client:ip",
        "client:cert-subject",
        "client:cert-fingerprint",
        "tls:sni",
        "request:id",
        "api:name",
        "operation:name",
        "consumer:name",
        "product:name",
    ];
    const FAMILIES: [&str; 7] = ["param", "query", "cookie", "claim", "context", "request-header", "trailer"];
    match name.split_once(':') {
        None => is_header(name),
        Some((family, rest)) => {
            WHOLE.iter().any(|whole| whole.eq_ignore_ascii_case(name))
                || !rest.is_empty() && FAMILIES.iter().any(|known| known.eq_ignore_ascii_case(family))
        }
    }
}

/// Whether `name` is a token (RFC 9110 5.6.2), as header names are.
pub fn is_header(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whole milliseconds, rounded up, as far as 32 bits reach (49 days).
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_once() {
        let mut plan = Plan::default();
        let first = plan.read("Authorization");
        plan.read_request(["client:ip", "authorization"]);
        assert_eq!(first.index(), plan.read("authorization").index());
        assert_eq!(plan.request.names, ["Authorization", "client:ip"]);
    }

    #[test]
    fn the_right_to_all_headers_is_no_value() {
        let mut plan = Plan::default();
        plan.read_request(["Headers:*", "accept"]);
        assert_eq!(plan.read("accept").index(), 0);
        assert_eq!(plan.request.names, ["accept"]);
        assert_eq!(plan.request.announced(), Some(vec!["accept".into(), "headers:*".into()]));
        assert_eq!(plan.response.announced(), None);
    }

    #[test]
    fn names() {
        for good in ["authorization", "client:ip", ":query", "param:id", "claim:https://x/y", "Query:a"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "client:port", "param:", "with space", ":note", "headers:*", "naïve"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn milliseconds_round_up_and_saturate() {
        assert_eq!(millis(Duration::from_micros(1)), 1);
        assert_eq!(millis(Duration::from_secs(2)), 2000);
        assert_eq!(millis(Duration::MAX), u32::MAX);
    }
}
