//! What header fields mean to a proxy: which end at this hop, which come once, which frame the
//! message, and how repeated lines are shown to policies.
//!
//! Called by `exchange` before any policy runs (so that nothing a client writes into `Connection`
//! can reach what the gateway or a policy sets later) and again on an upstream's response; by
//! `chain` for reading and for judging edits. Never looks at bodies.

use http::header::{
    self, CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use smallvec::SmallVec;
use std::borrow::Cow;

use super::query::NotUtf8;

/// Fields that end at this hop, whether `Connection` names them or not; `hop_bit` has them in the
/// same order.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    TE,
    UPGRADE,
    TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("http2-settings"),
];
const CONNECTION_BIT: u16 = 1 << 0;
const TE_BIT: u16 = 1 << 1;

/// Names that a request may carry once: two lines of them are read differently by different
/// servers.
pub const SINGLETONS: &[HeaderName] = &[
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::DATE,
    header::FROM,
    header::HOST,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::MAX_FORWARDS,
    header::ORIGIN,
    PROXY_AUTHORIZATION,
    header::RANGE,
    header::REFERER,
    header::SEC_WEBSOCKET_KEY,
    header::USER_AGENT,
    header::ACCESS_CONTROL_REQUEST_METHOD,
];

/// What was found while a request's fields were made fit for policies.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The protocol that the client wants to go over to; to be set again for the upstream.
    pub upgrade: Option<HeaderValue>,
    /// Fields that were dropped because of an underscore in their name.
    pub underscored: usize,
}

/// Makes a request's fields fit for policies and upstreams: fields that end here are removed
/// (RFC 9110, 7.6.1; `te: trailers` stays), so are names with an underscore, which CGI-like
/// upstreams cannot tell from their twins with a hyphen; crumbs of a cookie are joined. Fails with the name of a singleton that
/// is repeated; the fields are then as they were.
pub fn receive_request(headers: &mut HeaderMap) -> Result<Received, HeaderName> {
    // Fewer names than lines only if some name is repeated.
    if headers.len() != headers.keys_len() {
        if let Some(name) = repeated_singleton(headers) {
            return Err(name);
        }
        join_cookies(headers);
    }
    let mut received = Received::default();
    let (mut hop, mut underscored) = (0, false);
    for name in headers.keys() {
        let name = name.as_str();
        hop |= hop_bit(name);
        underscored |= name.as_bytes().contains(&b'_');
    }
    if hop != 0 {
        received.upgrade = upgrade_of(headers);
        remove_hop_by_hop(headers, hop);
    }
    if underscored {
        received.underscored = remove_underscored(headers);
    }
    Ok(received)
}

/// Removes from an upstream's response what ends at this hop; gives the protocol of a 101.
pub fn receive_response(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let hop = headers.keys().fold(0, |hop, name| hop | hop_bit(name.as_str()));
    if hop == 0 {
        return None;
    }
    let upgrade = upgrade_of(headers);
    remove_hop_by_hop(headers, hop);
    upgrade
}

/// The first singleton that came more than once.
pub fn repeated_singleton(headers: &HeaderMap) -> Option<HeaderName> {
    SINGLETONS.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()).cloned()
}

/// Crumbs of a cookie become one line (RFC 9113, 8.2.3): an HTTP/1 upstream may read only the first.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// What `Upgrade` asks for, if `Connection` has the word `upgrade` too (RFC 9110, 7.8). HTTP and
/// TLS are not to be had: the requests in such a tunnel would pass every policy by.
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let carries_http = |protocol: &[u8]| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        [&b"h2c"[..], b"h2", b"h3", b"http", b"tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    if protocols(protocol).any(carries_http) {
        return None;
    }
    connection_options(headers)
        .any(|option| option.eq_ignore_ascii_case(b"upgrade"))
        .then(|| protocol.clone())
}

/// The protocols that an `Upgrade` lists.
pub fn protocols(upgrade: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    upgrade.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Removes the fields that end at this hop, of which those in `hop` are there, and those that
/// `Connection` names unless they are protected.
fn remove_hop_by_hop(headers: &mut HeaderMap, hop: u16) {
    if hop & CONNECTION_BIT != 0 {
        // At most a head full; mostly `close`, `keep-alive` or `upgrade`, which are no fields or
        // go anyway.
        let nominated: SmallVec<[HeaderName; 4]> = connection_options(headers)
            .filter(|option| !is_common_option(option))
            .filter_map(|option| HeaderName::from_bytes(option).ok())
            .filter(|name| !is_protected(name.as_str()))
            .collect();
        for name in nominated {
            headers.remove(name);
        }
    }
    let trailers =
        hop & TE_BIT != 0 && list_items(headers, &TE).any(|item| item.eq_ignore_ascii_case(b"trailers"));
    for (index, name) in HOP_BY_HOP.iter().enumerate() {
        if hop & 1 << index != 0 {
            headers.remove(name);
        }
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes fields whose name has an underscore, and says how many names there were.
pub fn remove_underscored(headers: &mut HeaderMap) -> usize {
    let underscored: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in &underscored {
        headers.remove(name);
    }
    underscored.len()
}

/// Whether a field frames the message or belongs to the connection, so that no policy may touch
/// it.
pub fn is_framing(name: &HeaderName) -> bool {
    hop_bit(name.as_str()) != 0 || matches!(name.as_str(), "content-length" | "host" | "trailer")
}

/// Whether a value begins or ends with white space, which HTTP/2 forbids (RFC 9113, 8.2.1) and
/// HTTP/1 takes away.
pub fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
}

/// All lines of a field as one text: borrowed if there is one; `cookie` crumbs joined with `; `
/// (RFC 9113, 8.2.3), others with a newline, which no value can contain.
pub fn joined<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<Cow<'h, str>>, NotUtf8> {
    let mut lines = headers.get_all(name).iter();
    let Some(first) = lines.next() else { return Ok(None) };
    let first = text(first)?;
    let Some(second) = lines.next() else { return Ok(Some(Cow::Borrowed(first))) };
    let separator = if *name == COOKIE { "; " } else { "\n" };
    let mut all = String::from(first);
    for line in std::iter::once(second).chain(lines) {
        all.push_str(separator);
        all.push_str(text(line)?);
    }
    Ok(Some(Cow::Owned(all)))
}

/// A value as text. `HeaderValue::to_str` would refuse all that is not ASCII.
pub fn text(value: &HeaderValue) -> Result<&str, NotUtf8> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| NotUtf8)
}

/// The items of a comma-separated field, over all its lines; empty ones left out (RFC 9110,
/// 5.6.1.2). Commas inside quotes split too: right for lists of tokens only.
fn list_items<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    list_items(headers, &CONNECTION)
}

fn is_common_option(option: &[u8]) -> bool {
    [&b"close"[..], b"keep-alive", b"upgrade", b"te"].iter().any(|common| option.eq_ignore_ascii_case(common))
}

/// The place of a lower-case name in `HOP_BY_HOP` as a bit; zero for any other.
fn hop_bit(name: &str) -> u16 {
    match name {
        "connection" => CONNECTION_BIT,
        "te" => TE_BIT,
        "upgrade" => 1 << 2,
        "transfer-encoding" => 1 << 3,
        "keep-alive" => 1 << 4,
        "proxy-connection" => 1 << 5,
        "proxy-authenticate" => 1 << 6,
        "proxy-authorization" => 1 << 7,
        "http2-settings" => 1 << 8,
        _ => 0,
    }
}

/// What `Connection` may name in vain: without these a message means something else to the
/// upstream than to the gateway, or a trusted proxy's word about the client is lost.
fn is_protected(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("content-")
        || name.starts_with("sec-")
        || matches!(
            name,
            "forwarded"
                | "x-real-ip"
                | "x-request-id"
                | "via"
                | "host"
                | "te"
                | "authorization"
                | "cookie"
                | "set-cookie"
                | "origin"
                | "date"
                | "expect"
                | "range"
                | "trailer"
                | "cache-control"
                | "www-authenticate"
                | "traceparent"
                | "tracestate"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn check(lines: &[(&'static str, &'static str)], left: &[(&'static str, &'static str)]) -> Received {
        let mut found = headers(lines);
        let received = receive_request(&mut found).expect("no singleton is repeated");
        assert_eq!(found, headers(left));
        received
    }

    #[test]
    fn fields_of_this_hop_end_here() {
        let received = check(
            &[
                ("host", "a"),
                ("connection", "keep-alive, X-Private"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("transfer-encoding", "chunked"),
                ("te", "gzip, trailers"),
                ("te", "deflate;q=0.5"),
                ("proxy-authorization", "Basic x"),
                ("proxy-connection", "close"),
                ("trailer", "grpc-status"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAA"),
                ("accept", "*/*"),
            ],
            &[("host", "a"), ("te", "trailers"), ("trailer", "grpc-status"), ("accept", "*/*")],
        );
        assert_eq!(received, Received::default());
        check(&[("te", "gzip")], &[]);
        check(&[("connection", "te"), ("te", "trailers")], &[("te", "trailers")]);
    }

    #[test]
    fn bits_and_names_are_in_the_same_order() {
        for (index, name) in HOP_BY_HOP.iter().enumerate() {
            assert_eq!(hop_bit(name.as_str()), 1 << index, "{name}");
        }
    }

    #[test]
    fn connection_cannot_strip_what_is_protected() {
        check(
            &[
                ("connection", "close, X-Forwarded-For, Authorization,,Host,Content-Length, x-user, \"bad"),
                ("x-forwarded-for", "1.2.3.4"),
                ("authorization", "Bearer x"),
                ("host", "a"),
                ("content-length", "5"),
                ("x-user", "root"),
            ],
            &[
                ("x-forwarded-for", "1.2.3.4"),
                ("authorization", "Bearer x"),
                ("host", "a"),
                ("content-length", "5"),
            ],
        );
    }

    #[test]
    fn crumbs_of_a_cookie_are_joined() {
        check(
            &[("cookie", "a=1"), ("accept", "x"), ("cookie", "b=2; c=3"), ("accept", "y")],
            &[("accept", "x"), ("accept", "y"), ("cookie", "a=1; b=2; c=3")],
        );
        check(&[("cookie", "a=1")], &[("cookie", "a=1")]);
    }

    #[test]
    fn an_upgrade_needs_both_fields() {
        let received =
            check(&[("connection", "keep-alive"), ("connection", "Upgrade"), ("upgrade", "websocket")], &[]);
        assert_eq!(received.upgrade, Some(HeaderValue::from_static("websocket")));
        assert_eq!(check(&[("upgrade", "websocket")], &[]).upgrade, None);
        assert_eq!(check(&[("connection", "upgrade")], &[]).upgrade, None);
        for http in ["h2c", "H2C", "websocket, h2c", "TLS/1.0, HTTP/2.0", "http/1.1"] {
            assert_eq!(check(&[("connection", "upgrade"), ("upgrade", http)], &[]).upgrade, None, "{http}");
        }
        let mut response = headers(&[("connection", "upgrade"), ("upgrade", "websocket"), ("server", "x")]);
        assert_eq!(receive_response(&mut response), Some(HeaderValue::from_static("websocket")));
        assert_eq!(response, headers(&[("server", "x")]));
        assert_eq!(receive_response(&mut response), None);
    }

    #[test]
    fn repeated_singletons_are_named() {
        for name in SINGLETONS {
            let mut found = HeaderMap::new();
            found.append(name, HeaderValue::from_static("a"));
            assert_eq!(repeated_singleton(&found), None);
            found.append(name, HeaderValue::from_static("a"));
            assert_eq!(receive_request(&mut found).as_ref(), Err(name));
            assert_eq!(found.len(), 2);
        }
        check(&[("accept", "a"), ("accept", "b")], &[("accept", "a"), ("accept", "b")]);
    }

    #[test]
    fn underscored_twins_are_dropped() {
        let received = check(
            &[("x_user", "root"), ("x_user", "admin"), ("x-user", "bob"), ("x-a_b", "1")],
            &[("x-user", "bob")],
        );
        assert_eq!(received.underscored, 2);
    }

    #[test]
    fn lines_are_joined() {
        let found = headers(&[
            ("x-role", "user"),
            ("x-role", "admin"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("accept", "*/*"),
        ]);
        let joined = |name| joined(&found, &HeaderName::from_static(name)).expect("UTF-8");
        assert_eq!(joined("x-role").as_deref(), Some("user\nadmin"));
        assert_eq!(joined("cookie").as_deref(), Some("a=1; b=2"));
        assert!(matches!(joined("accept"), Some(Cow::Borrowed("*/*"))));
        assert_eq!(joined("x-none"), None);
    }

    #[test]
    fn values_must_be_utf8_to_be_read() {
        let mut found = HeaderMap::new();
        found.append("x-a", HeaderValue::from_bytes("ü".as_bytes()).expect("opaque"));
        let name = HeaderName::from_static("x-a");
        assert_eq!(joined(&found, &name), Ok(Some(Cow::Borrowed("ü"))));
        found.append("x-a", HeaderValue::from_bytes(b"\xff").expect("opaque"));
        assert_eq!(joined(&found, &name), Err(NotUtf8));
    }

    #[test]
    fn framing_is_not_for_policies() {
        for name in ["content-length", "transfer-encoding", "connection", "te", "upgrade", "host", "trailer"]
        {
            assert!(is_framing(&HeaderName::from_static(name)), "{name}");
        }
        assert!(!is_framing(&header::CONTENT_TYPE));
    }

    proptest! {
        #[test]
        fn nothing_of_this_hop_is_left(options in "[a-z,\\- ]{0,40}") {
            let mut found = headers(&[("host", "a"), ("te", "x"), ("upgrade", "y"), ("keep-alive", "z")]);
            found.append(CONNECTION, HeaderValue::from_str(&options).expect("visible ASCII"));
            receive_request(&mut found).expect("no singleton is repeated");
            prop_assert_eq!(found, headers(&[("host", "a")]));
        }
    }
}
