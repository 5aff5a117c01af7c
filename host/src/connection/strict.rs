//! What hyper lets through though RFC 9110, 9112 or 9113 says it is malformed.
//!
//! `serve` asks before every request; pure functions over the parsed head. What hyper refuses
//! itself (a second, different `Content-Length`; a last transfer coding other than `chunked`;
//! `Transfer-Encoding` in HTTP/1.0; white space before a colon; …) is pinned by the table of raw
//! bytes in `tests`. Never repairs a request: a gateway that guesses, and an upstream that guesses
//! otherwise, make request smuggling.

use super::authority::Authority;
use crate::message::headers::is_padded;
use crate::telemetry::reason::Reason;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, StatusCode, Version};

/// Why a request is refused before anybody routes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// RFC 9112 section 3.2: none of the four forms, or one that the method may not use.
    Target,
    /// RFC 9110 section 4.2: neither `http` nor `https`, of which alone a gateway knows what they mean.
    Scheme,
    /// RFC 9112 section 3.2: a target has no fragment.
    Fragment,
    /// RFC 9112 section 3.2: HTTP/1.1 needs a `Host`, HTTP/2 it or `:authority`.
    HostMissing,
    /// RFC 9112 section 3.2.
    HostRepeated,
    /// RFC 9110 section 4.2: no `host [ ":" port ]`.
    HostInvalid,
    /// RFC 9110 section 4.2.4, RFC 9113 section 8.3.1: the target's host has user information.
    UserInformation,
    /// RFC 9112 section 3.2, RFC 9113 section 8.3.1: `Host` is not the target's authority.
    HostDisagrees,
    /// RFC 9110 section 8.6: several, or not a number.
    ContentLength,
    /// RFC 9112 section 6.1: both say where the body ends.
    LengthAndEncoding,
    /// RFC 9112 section 6.1: repeated, or in a version without it.
    TransferEncoding,
    /// RFC 9112 section 6.1: a coding other than `chunked`.
    TransferCoding,
    /// RFC 9113 section 8.2.2: a field that has no place in HTTP/2.
    ConnectionField,
    /// RFC 9113 section 8.2.1: white space around a value, which HTTP/1 would take off.
    FieldValue,
    /// RFC 9110 section 15.6.2: the gateway makes no tunnels by `CONNECT`.
    Connect,
    /// More fields than the listener allows.
    FieldCount,
    /// RFC 9110 section 15.5.20: the connection's certificate is for other hosts.
    Misdirected,
}

impl Fault {
    pub const fn status(self) -> StatusCode {
        match self {
            Fault::TransferCoding | Fault::Connect => StatusCode::NOT_IMPLEMENTED,
            _ => self.reason().status(),
        }
    }

    pub const fn reason(self) -> Reason {
        match self {
            Fault::FieldCount => Reason::HeadersTooLarge,
            Fault::Misdirected => Reason::Misdirected,
            _ => Reason::MalformedRequest,
        }
    }

    /// Whether RFC 9113 calls such a request malformed (section 8.1.1): then it is no request to answer,
    /// but an error of its stream. What HTTP alone forbids, or this gateway does not do, is answered.
    pub(super) const fn is_malformed_http2(self) -> bool {
        match self {
            // Section 8.3.1: a pseudo-header field with a value that its method may not have; 8.5: CONNECT.
            Fault::Target | Fault::UserInformation | Fault::HostDisagrees => true,
            // Sections 8.2.1, 8.2.2.
            Fault::FieldValue | Fault::ConnectionField => true,
            _ => false,
        }
    }

    /// For the client, who sent it.
    pub const fn detail(self) -> &'static str {
        match self {
            Fault::Target => "the request target has no form that the method allows",
            Fault::Scheme => "the scheme of the request target is neither http nor https",
            Fault::Fragment => "the request target has a fragment",
            Fault::HostMissing => "no host is named",
            Fault::HostRepeated => "Host comes more than once",
            Fault::HostInvalid => "the host is not valid",
            Fault::UserInformation => "the request target has user information",
            Fault::HostDisagrees => "Host is not the host of the request target",
            Fault::ContentLength => "Content-Length is not one number",
            Fault::LengthAndEncoding => "Content-Length and Transfer-Encoding come together",
            Fault::TransferEncoding => "Transfer-Encoding comes more than once, or in a version without it",
            Fault::TransferCoding => "only the transfer coding chunked is understood",
            Fault::ConnectionField => "a field that belongs to HTTP/1 connections",
            Fault::FieldValue => "a field's value begins or ends with white space",
            Fault::Connect => "CONNECT is not supported",
            Fault::FieldCount => "too many header fields",
            Fault::Misdirected => "this connection does not serve that host",
        }
    }
}

/// Checks a head that hyper has parsed.
///
/// # Errors
/// The first fault found.
pub fn check(request: &Parts) -> Result<(), Fault> {
    match request.version {
        Version::HTTP_2 => {
            check_fields_of_http2(&request.headers)?;
            check_length(&request.headers)?;
        }
        _ => check_framing(request)?,
    }
    check_target(request)?;
    check_host(request)
}

fn check_target(request: &Parts) -> Result<(), Fault> {
    let uri = &request.uri;
    if request.method == Method::CONNECT {
        // hyper takes `CONNECT /` too; only `host:port` is a target at all.
        let authority_form = uri.scheme().is_none() && uri.path_and_query().is_none();
        return Err(if authority_form && uri.port_u16().is_some() { Fault::Connect } else { Fault::Target });
    }
    match (uri.scheme(), uri.authority()) {
        // `http::Uri` takes `GET admin` and `GET host:80` for authorities.
        (None, Some(_)) => return Err(Fault::Target),
        (Some(scheme), _) if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS => {
            return Err(Fault::Scheme);
        }
        _ => {}
    }
    match uri.path() {
        "*" if request.method == Method::OPTIONS && uri.query().is_none() => Ok(()),
        path if path.starts_with('/') => Ok(()),
        _ => Err(Fault::Target),
    }
}

fn check_host(request: &Parts) -> Result<(), Fault> {
    let mut lines = request.headers.get_all(HOST).iter();
    let field = lines.next();
    if lines.next().is_some() {
        return Err(Fault::HostRepeated);
    }
    let field = match field {
        Some(value) => Some(Authority::parse(value.as_bytes()).ok_or(Fault::HostInvalid)?),
        None => None,
    };
    let Some(target) = request.uri.authority() else {
        // HTTP/1.0 had no `Host`.
        let needed = request.version != Version::HTTP_10;
        return if field.is_none() && needed { Err(Fault::HostMissing) } else { Ok(()) };
    };
    let Some(target) = Authority::parse(target.as_str().as_bytes()) else {
        let user = target.as_str().contains('@');
        return Err(if user { Fault::UserInformation } else { Fault::HostInvalid });
    };
    match field {
        Some(field) if !target.same(field, request.uri.scheme()) => Err(Fault::HostDisagrees),
        None if request.version == Version::HTTP_11 => Err(Fault::HostMissing),
        _ => Ok(()),
    }
}

fn check_framing(request: &Parts) -> Result<(), Fault> {
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return check_length(&request.headers) };
    if codings.next().is_some() || request.version != Version::HTTP_11 {
        return Err(Fault::TransferEncoding);
    }
    if request.headers.contains_key(CONTENT_LENGTH) {
        return Err(Fault::LengthAndEncoding);
    }
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Fault::TransferCoding);
    }
    Ok(())
}

fn check_length(headers: &HeaderMap) -> Result<(), Fault> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let digits = length.as_bytes();
    // 19 digits fit into 64 bits.
    let number = !digits.is_empty() && digits.len() <= 19 && digits.iter().all(u8::is_ascii_digit);
    if number && lengths.next().is_none() { Ok(()) } else { Err(Fault::ContentLength) }
}

fn check_fields_of_http2(headers: &HeaderMap) -> Result<(), Fault> {
    let te_valid = headers.get_all(TE).iter().all(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let foreign = headers.contains_key(CONNECTION)
        || headers.contains_key(TRANSFER_ENCODING)
        || headers.contains_key(UPGRADE)
        || headers.contains_key("keep-alive")
        || headers.contains_key("proxy-connection");
    if !te_valid || foreign {
        return Err(Fault::ConnectionField);
    }
    if headers.values().any(is_padded) { Err(Fault::FieldValue) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn parts(version: Version, method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().version(version).method(method).uri(target);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn http1(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<(), Fault> {
        check(&parts(Version::HTTP_11, method, target, fields))
    }

    fn http2(method: &str, target: &str, fields: &[(&str, &str)]) -> Result<(), Fault> {
        check(&parts(Version::HTTP_2, method, target, fields))
    }

    #[test]
    fn targets() {
        let host = &[("host", "a")][..];
        for (method, target) in
            [("GET", "/"), ("GET", "/x?y"), ("OPTIONS", "*"), ("GET", "http://a/x"), ("GET", "http://a:80")]
        {
            assert_eq!(http1(method, target, host), Ok(()), "{method} {target}");
        }
        for (method, target) in [
            ("GET", "admin"),
            ("GET", "*"),
            ("GET", "host:80"),
            ("CONNECT", "/"),
            ("CONNECT", "*"),
            ("CONNECT", "a"),
        ] {
            assert_eq!(http1(method, target, host), Err(Fault::Target), "{method} {target}");
        }
        assert_eq!(http1("GET", "ftp://a/", host), Err(Fault::Scheme));
        assert_eq!(http1("CONNECT", "a:443", host), Err(Fault::Connect));
        assert_eq!(http2("CONNECT", "a:443", &[]), Err(Fault::Connect));
        assert_eq!(Fault::Connect.status(), 501);
    }

    #[test]
    fn hosts() {
        assert_eq!(http1("GET", "/", &[]), Err(Fault::HostMissing));
        assert_eq!(http1("GET", "http://a/", &[]), Err(Fault::HostMissing));
        assert_eq!(check(&parts(Version::HTTP_10, "GET", "/", &[])), Ok(()));
        assert_eq!(http1("GET", "/", &[("host", "a"), ("host", "a")]), Err(Fault::HostRepeated));
        assert_eq!(http1("GET", "/", &[("host", "u@a")]), Err(Fault::HostInvalid));
        assert_eq!(http1("GET", "/", &[("host", "a, b")]), Err(Fault::HostInvalid));
        assert_eq!(http1("GET", "http://u@a/", &[("host", "a")]), Err(Fault::UserInformation));
        assert_eq!(http1("GET", "http://a,b/", &[("host", "a")]), Err(Fault::HostInvalid));
        assert_eq!(http1("GET", "http://a/", &[("host", "b")]), Err(Fault::HostDisagrees));
        assert_eq!(http1("GET", "http://a/", &[("host", "")]), Err(Fault::HostDisagrees));
        assert_eq!(http1("GET", "http://A:80/", &[("host", "a.")]), Ok(()));
        assert_eq!(http2("GET", "https://a/", &[]), Ok(()));
        assert_eq!(http2("GET", "https://a/", &[("host", "a:443")]), Ok(()));
        assert_eq!(http2("GET", "https://a/", &[("host", "b")]), Err(Fault::HostDisagrees));
        assert_eq!(http2("GET", "/", &[]), Err(Fault::HostMissing));
        assert_eq!(http2("GET", "/", &[("host", "a")]), Ok(()));
    }

    #[test]
    fn framing() {
        let check = |fields: &[(&str, &str)]| {
            let mut all = vec![("host", "a")];
            all.extend(fields);
            http1("POST", "/", &all)
        };
        assert_eq!(check(&[("content-length", "5")]), Ok(()));
        assert_eq!(check(&[("transfer-encoding", "Chunked")]), Ok(()));
        for value in ["+5", "5, 5", "", "0x5", "5 5", "-1", "99999999999999999999"] {
            assert_eq!(check(&[("content-length", value)]), Err(Fault::ContentLength), "{value}");
        }
        assert_eq!(check(&[("content-length", "5"), ("content-length", "5")]), Err(Fault::ContentLength));
        let both = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(check(&both), Err(Fault::LengthAndEncoding));
        let twice = [("transfer-encoding", "identity"), ("transfer-encoding", "chunked")];
        assert_eq!(check(&twice), Err(Fault::TransferEncoding));
        for value in ["gzip, chunked", "chunked, chunked", "x", "chunked;q=1", "\"chunked\"", ""] {
            assert_eq!(check(&[("transfer-encoding", value)]), Err(Fault::TransferCoding), "{value}");
        }
        let old = parts(Version::HTTP_10, "POST", "/", &[("transfer-encoding", "chunked")]);
        assert_eq!(super::check(&old), Err(Fault::TransferEncoding));
    }

    #[test]
    fn fields_of_http1_have_no_place_in_http2() {
        let check = |name, value| http2("GET", "https://a/", &[(name, value)]);
        assert_eq!(check("te", "trailers"), Ok(()));
        for (name, value) in [
            ("te", "gzip"),
            ("te", "trailers, gzip"),
            ("connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("keep-alive", "1"),
            ("proxy-connection", "x"),
        ] {
            assert_eq!(check(name, value), Err(Fault::ConnectionField), "{name}: {value}");
        }
        assert_eq!(check("content-length", "5, 5"), Err(Fault::ContentLength));
    }

    #[test]
    fn white_space_around_values_has_no_place_in_http2() {
        for value in [" a", "a ", "\ta", "a\t", " "] {
            let spaced = http2("GET", "https://a/", &[("x-a", value)]);
            assert_eq!(spaced, Err(Fault::FieldValue), "{value:?}");
        }
        assert_eq!(http2("GET", "https://a/", &[("x-a", ""), ("x-b", "a b\tc")]), Ok(()));
    }

    proptest! {
        #[test]
        fn an_accepted_length_is_a_number(value in "[ -~]{0,24}") {
            if http1("POST", "/", &[("host", "a"), ("content-length", &value)]).is_ok() {
                prop_assert!(value.parse::<u64>().is_ok() && !value.starts_with('+'));
            }
        }
    }
}
