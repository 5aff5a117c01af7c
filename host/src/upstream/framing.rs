//! What goes between a message and its connection: framing fields and the address.
//!
//! Called by `send` alone. What a client or a policy put into these fields is corrected here, not
//! refused: that was `exchange`'s to do. What an upstream puts there is refused. Never touches
//! any other field.

use super::body::{Upload, UploadBody};
use super::pool::{Host, Local, Pool};
use super::send::Failure;
use super::settings::{HostField, Protocol};
use crate::message::body::Body;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use http_body::Body as _;
use std::rc::Rc;
use std::time::Duration;

impl Pool {
    /// Makes the framing fields say what the body is, and watches a body that streams.
    pub(super) fn frame(
        &self,
        request: Request<Body>,
        timeout: Duration,
    ) -> (Request<Body>, Option<Rc<Upload>>) {
        let (mut parts, body) = request.into_parts();
        let body = if body.is_end_stream() { Body::Empty } else { body };
        let length = match &body {
            Body::Empty => Some(0),
            Body::Full(bytes) => Some(bytes.len()),
            Body::Incoming(_) | Body::Dyn(_) => None,
        };
        if let Some(length) = length {
            // A length that is not the body's would make the next request on the connection part of
            // this one, or the other way round.
            if let Some(stated) = parts.headers.get_mut(CONTENT_LENGTH)
                && stated.to_str().ok().and_then(|stated| stated.parse().ok()) != Some(length)
            {
                *stated = HeaderValue::from(length);
            }
            return (Request::from_parts(parts, body), None);
        }
        // hyper drops a GET's body unless a field announces it.
        if self.upstream.settings.protocol == Protocol::Http1
            && body.size_hint().exact().is_none()
            && !parts.headers.contains_key(CONTENT_LENGTH)
        {
            parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let upload = Upload::new(timeout, self.clock.clone());
        let body = Body::wrap(UploadBody { body, upload: upload.clone() });
        (Request::from_parts(parts, body), Some(upload))
    }

    pub(super) fn address_http1(&self, local: &Local, request: &mut Request<Body>) {
        *request.version_mut() = Version::HTTP_11;
        if request.uri().authority().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
        let host = match self.upstream.settings.host {
            HostField::Preserve if request.headers().contains_key(HOST) => None,
            HostField::Preserve | HostField::Endpoint => local.host.as_ref(),
            HostField::Fixed(_) => self.fixed_host.as_ref(),
        };
        if let Some(host) = host {
            request.headers_mut().insert(HOST, host.field.clone());
        }
    }

    pub(super) fn address_http2(
        &self,
        local: &Local,
        request: &mut Request<Body>,
    ) -> Result<(), http::Error> {
        let stated = request.headers_mut().remove(HOST);
        let fallback = || local.host.as_ref().map(|host| host.authority.clone());
        let authority = match self.upstream.settings.host {
            HostField::Preserve => request
                .uri()
                .authority()
                .cloned()
                .or_else(|| Authority::try_from(stated?.as_bytes()).ok())
                .or_else(fallback),
            HostField::Endpoint => fallback(),
            HostField::Fixed(_) => self.fixed_host.as_ref().map(|host: &Host| host.authority.clone()),
        };
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(if local.shared.dialer.is_tls() { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = authority;
        parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(parts)?;
        *request.version_mut() = Version::HTTP_2;
        Ok(())
    }
}

/// RFC 9112, section 6.3: two framings at once are the mark of a response that somebody split.
/// What is not plainly chunked cannot be handed on, as the coding is not undone here.
pub(super) fn check_framing(headers: &HeaderMap) -> Result<(), Failure> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let has_length = lengths.next().is_some();
    let what = if lengths.next().is_some() {
        "more than one Content-Length"
    } else if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        if has_length {
            "both Content-Length and Transfer-Encoding"
        } else if !coding.as_bytes().eq_ignore_ascii_case(b"chunked")
            || headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_some()
        {
            "a transfer coding other than chunked"
        } else {
            return Ok(());
        }
    } else {
        return Ok(());
    };
    Err(Failure::Protocol(what.into()))
}
