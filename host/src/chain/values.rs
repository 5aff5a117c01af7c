//! Reads what a plan asks for out of the exchange, borrowed where it can be.
//!
//! Called before each hook. A value that is not UTF-8 is an error, never a guess.

use super::plan::Read;
use super::subject::Subject;
use crate::message::headers::{joined, text};
use crate::message::path::decode_segment;
use crate::message::query::{NotUtf8, cookie_value, query_value};
use http::header::HOST;
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Reads longer than this go to the heap.
const INLINE: usize = 8;

/// Values in the plan's order, borrowed from the exchange unless they had to be put together.
pub struct Values<'a>(SmallVec<[Option<Cow<'a, str>>; INLINE]>);

/// The same as a hook takes them.
pub type Borrowed<'a> = SmallVec<[Option<&'a str>; INLINE]>;

impl<'a> Values<'a> {
    /// # Errors
    /// If a value that is asked for is not UTF-8.
    pub fn read(reads: &[Read], subject: &'a Subject, note: &'a [u8]) -> Result<Values<'a>, NotUtf8> {
        let mut values = SmallVec::with_capacity(reads.len());
        for read in reads {
            values.push(value(read, subject, note)?);
        }
        Ok(Values(values))
    }

    pub fn borrowed(&self) -> Borrowed<'_> {
        self.0.iter().map(Option::as_deref).collect()
    }

    pub fn into_owned(self) -> Vec<Option<String>> {
        self.0.into_iter().map(|value| value.map(Cow::into_owned)).collect()
    }
}

fn value<'a>(read: &Read, subject: &'a Subject, note: &'a [u8]) -> Result<Option<Cow<'a, str>>, NotUtf8> {
    let borrowed = |text: &'a str| Some(Cow::Borrowed(text));
    let tls = subject.peer.tls.as_ref();
    let end = subject.end.as_ref();
    Ok(match read {
        Read::Header(name) => match &subject.response {
            Some(response) => header(&response.headers, name)?,
            None => request_header(subject, name)?,
        },
        Read::RequestHeader(name) => request_header(subject, name)?,
        Read::Trailer(name) => end.map(|end| header(&end.trailers, name)).transpose()?.flatten(),
        Read::Method => borrowed(subject.method.as_str()),
        Read::Scheme => borrowed(subject.client.scheme.as_str()),
        Read::Authority => match &subject.authority {
            Some(authority) => borrowed(text(authority)?),
            None => None,
        },
        Read::Path => borrowed(subject.target.path()),
        Read::Query => subject.target.query().map(Cow::Borrowed),
        Read::Status => subject.response.as_ref().and_then(|response| borrowed_status(response.status)),
        Read::ClientIp => Some(Cow::Owned(subject.client.ip.to_string())),
        Read::CertificateSubject => {
            tls.and_then(|tls| tls.client_certificate.as_ref()).map(|cert| Cow::Borrowed(&*cert.subject))
        }
        Read::CertificateFingerprint => {
            tls.and_then(|tls| tls.client_certificate.as_ref()).map(|cert| Cow::Borrowed(&*cert.fingerprint))
        }
        Read::ServerName => tls.and_then(|tls| tls.server_name.as_deref()).map(Cow::Borrowed),
        Read::RequestId => borrowed(subject.id.as_str()),
        Read::Api => borrowed(&subject.api),
        Read::Operation => subject.operation.as_deref().map(Cow::Borrowed),
        Read::Consumer => subject.consumer().map(|name| Cow::Borrowed(&**name)),
        Read::Product => subject.product().map(|name| Cow::Borrowed(&**name)),
        Read::Parameter(name) => subject.parameter(name).map(decode_segment),
        Read::QueryValue(name) => match subject.target.query() {
            Some(query) => query_value(query, name)?,
            None => None,
        },
        Read::Cookie(name) => cookie_value(&subject.headers, name)?,
        Read::Claim(name) => subject.claims.as_ref().and_then(|claims| claims.text(name)),
        Read::Context(name) => subject.context(name).map(Cow::Borrowed),
        Read::TimeStart => end.map(|end| Cow::Owned(rfc3339(end.start))),
        Read::TimeTotal => end.map(|end| Cow::Owned(end.total.as_micros().to_string())),
        Read::TimeUpstream => {
            end.and_then(|end| end.upstream).map(|time| Cow::Owned(time.as_micros().to_string()))
        }
        Read::BytesIn => end.map(|end| Cow::Owned(end.bytes_in.to_string())),
        Read::BytesOut => end.map(|end| Cow::Owned(end.bytes_out.to_string())),
        Read::AnsweredBy => end.map(|end| Cow::Borrowed(&*end.answered_by)),
        Read::AnsweredWhy => end.map(|end| Cow::Borrowed(end.answered_why)),
        Read::Note => Some(String::from_utf8_lossy(note)),
    })
}

/// `host` is the authority, however the client's version of HTTP names it.
fn request_header<'a>(subject: &'a Subject, name: &HeaderName) -> Result<Option<Cow<'a, str>>, NotUtf8> {
    match &subject.authority {
        Some(authority) if *name == HOST => Ok(Some(Cow::Borrowed(text(authority)?))),
        _ => header(&subject.headers, name),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, NotUtf8> {
    joined(headers, name)
}

fn borrowed_status(status: http::StatusCode) -> Option<Cow<'static, str>> {
    // `StatusCode::as_str` borrows from the code itself; the common ones need no allocation.
    Some(match status.as_u16() {
        200 => Cow::Borrowed("200"),
        201 => Cow::Borrowed("201"),
        204 => Cow::Borrowed("204"),
        304 => Cow::Borrowed("304"),
        404 => Cow::Borrowed("404"),
        _ => Cow::Owned(status.as_str().to_string()),
    })
}

fn rfc3339(since_epoch: std::time::Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(since_epoch.subsec_nanos()).unwrap_or(0);
    jiff::Timestamp::new(seconds, nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}
