//! A copy of a request, in case it must be sent once more.
//!
//! `send` records a request before hyper consumes it, where a second try is allowed at all. The
//! copy is bytes in one buffer that the pool uses again and again, which costs a fraction of cloning
//! a `HeaderMap`: no allocation, no reference counts. Never holds a body that streams.

use crate::message::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

/// Buffers larger than this are not kept for the next request.
const KEPT_BYTES_MAX: usize = 16 * 1024;

#[derive(Default)]
pub(super) struct Replay {
    head: Option<(Method, Uri)>,
    body: Option<Bytes>,
    /// Each field as name length, value length, name, value.
    fields: Vec<u8>,
}

impl Replay {
    /// Whether a request with this body can be sent twice, byte for byte.
    pub(super) fn is_possible(body: &Body) -> bool {
        matches!(body, Body::Empty | Body::Full(_))
    }

    /// Copies `request` unless it is already here. Leaves this empty where the body streams.
    pub(super) fn record(&mut self, request: &Request<Body>) {
        if self.head.is_some() {
            return;
        }
        self.body = match request.body() {
            Body::Empty => None,
            Body::Full(bytes) => Some(bytes.clone()),
            Body::Incoming(_) | Body::Dyn(_) => return,
        };
        self.fields.clear();
        for (name, value) in request.headers() {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            // The connection's head limit lies far below what 32 bits hold.
            let (Ok(name_bytes), Ok(value_bytes)) = (u32::try_from(name.len()), u32::try_from(value.len()))
            else {
                return;
            };
            self.fields.extend_from_slice(&name_bytes.to_le_bytes());
            self.fields.extend_from_slice(&value_bytes.to_le_bytes());
            self.fields.extend_from_slice(name);
            self.fields.extend_from_slice(value);
        }
        self.head = Some((request.method().clone(), request.uri().clone()));
    }

    /// The request as it was recorded; `None` where none was.
    pub(super) fn restore(&self) -> Option<Request<Body>> {
        let (method, uri) = self.head.clone()?;
        let mut request = Request::new(self.body.clone().map_or(Body::Empty, Body::Full));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let mut fields = &self.fields[..];
        while !fields.is_empty() {
            let name_bytes = take_length(&mut fields)?;
            let value_bytes = take_length(&mut fields)?;
            let (name, rest) = fields.split_at_checked(name_bytes)?;
            let (value, rest) = rest.split_at_checked(value_bytes)?;
            fields = rest;
            request
                .headers_mut()
                .append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
        }
        Some(request)
    }

    /// Forgets the request, keeps the buffer unless it grew large.
    pub(super) fn clear(&mut self) {
        (self.head, self.body) = (None, None);
        self.fields.clear();
        if self.fields.capacity() > KEPT_BYTES_MAX {
            self.fields = Vec::new();
        }
    }
}

fn take_length(fields: &mut &[u8]) -> Option<usize> {
    let (length, rest) = fields.split_first_chunk::<4>()?;
    *fields = rest;
    usize::try_from(u32::from_le_bytes(*length)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(one: &Request<Body>, other: &Request<Body>) {
        assert_eq!(one.method(), other.method());
        assert_eq!(one.uri(), other.uri());
        assert_eq!(one.headers(), other.headers());
        match (one.body(), other.body()) {
            (Body::Empty, Body::Empty) => {}
            (Body::Full(one), Body::Full(other)) => assert_eq!(one, other),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn restores_what_it_recorded(
            fields in proptest::collection::vec(("[a-z][a-z0-9_-]{0,20}", proptest::collection::vec(32_u8..127, 0..40)), 0..30),
            body in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..200)),
        ) {
            let mut request = Request::new(body.map_or(Body::Empty, Body::full));
            *request.method_mut() = Method::PUT;
            *request.uri_mut() = Uri::from_static("/a/b?c=d");
            for (name, value) in fields {
                let (name, value) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value));
                if let (Ok(name), Ok(value)) = (name, value) {
                    request.headers_mut().append(name, value);
                }
            }
            let mut replay = Replay::default();
            replay.record(&request);
            same(&request, &replay.restore().expect("recorded"));
            replay.clear();
            prop_assert!(replay.restore().is_none());
        }
    }

    #[test]
    fn a_streaming_body_is_not_recorded() {
        let mut replay = Replay::default();
        let body = http_body_util::BodyExt::map_err(http_body_util::Empty::new(), |never| match never {});
        let request = Request::new(Body::wrap(body));
        assert!(!Replay::is_possible(request.body()));
        replay.record(&request);
        assert!(replay.restore().is_none());
    }
}
