//! Calls to upstreams, by name, through the gateway's pools, balancing, TLS, retries and breakers.
//!
//! They suspend the policy, not the gateway. A policy that never calls one does not import the
//! interface, and its hooks are called the cheaper way.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::host::http_client;
use crate::plan::millis;

pub use crate::bindings::imports::witgate::policy::http_client::{FetchError, FetchRequest, FetchResponse};

/// A call that is being put together.
#[derive(Clone, Debug)]
#[must_use = "a fetch does nothing until it is sent"]
pub struct Fetch(FetchRequest);

impl Fetch {
    /// `path`: with the query, if any.
    pub fn new(method: impl Into<String>, upstream: impl Into<String>, path: impl Into<String>) -> Self {
        Fetch(FetchRequest {
            upstream: upstream.into(),
            method: method.into(),
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_millis: 0,
        })
    }

    pub fn get(upstream: impl Into<String>, path: impl Into<String>) -> Self {
        Fetch::new("GET", upstream, path)
    }

    /// Another path than it was made with.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.path = path.into();
        self
    }

    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.0.body = bytes.into();
        self
    }

    /// Without it the upstream's own.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout_millis = millis(timeout).max(1);
        self
    }

    pub fn send(self) -> Result<FetchResponse, FetchError> {
        http_client::fetch(&self.0)
    }
}

/// All at once, answers in order.
pub fn fetch_all(fetches: Vec<Fetch>) -> Vec<Result<FetchResponse, FetchError>> {
    let requests: Vec<FetchRequest> = fetches.into_iter().map(|fetch| fetch.0).collect();
    http_client::fetch_all(&requests)
}

impl FetchResponse {
    /// 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first line of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter();
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body).map_err(|error| error.to_string())
    }
}
