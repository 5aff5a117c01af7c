//! The host that a request is for, and whether this TLS connection may serve it.
//!
//! Called by `strict` and `serve`. Pure; allocates nothing.

use crate::message::peer::PeerTls;
use http::header::HOST;
use http::request::Parts;
use http::uri::Scheme;
use std::net::Ipv6Addr;

/// RFC 1035 allows 253 characters and a trailing dot.
const HOST_BYTES_MAX: usize = 254;

/// `host [ ":" port ]` of RFC 9110 section 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// Without a trailing dot; with brackets for IPv6.
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `None` for what no host can look like: user information, spaces, sub-delimiters and `~` (legal in
    /// a `reg-name`, but no DNS name has them, and a comma hides a joined list), empty labels, a name longer
    /// than DNS has them, a port that is no port or has more digits than any. What the router could not read
    /// would pass by the host that an upstream reads in it. Empty text is valid: the client names no host
    /// (RFC 9110 section 7.2).
    pub(super) fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let text = std::str::from_utf8(text).ok()?;
        let (host, rest) = if let Some(inside) = text.strip_prefix('[') {
            let end = inside.find(']')?;
            inside[..end].parse::<Ipv6Addr>().ok()?;
            text.split_at(end + 2)
        } else {
            let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            if !host
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_'))
                || host.starts_with('.')
                || host.contains("..")
                || host.len() > HOST_BYTES_MAX
            {
                return None;
            }
            (host, rest)
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            Some("") => None,
            // `u16` also parses a sign.
            Some(port) if port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            _ => return None,
        };
        if host.is_empty() && !text.is_empty() {
            return None;
        }
        Some(Authority { host: host.strip_suffix('.').unwrap_or(host), port })
    }

    /// Whether both mean the same, where a missing port is `scheme`'s.
    pub(super) fn same(self, other: Authority<'_>, scheme: Option<&Scheme>) -> bool {
        let default = if scheme == Some(&Scheme::HTTPS) { 443 } else { 80 };
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

/// The host that `strict::check` found valid: the target's, else that of `Host`.
fn host_of(request: &Parts) -> &str {
    let text = match request.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => request.headers.get(HOST).map_or(&[][..], |value| value.as_bytes()),
    };
    Authority::parse(text).map_or("", |authority| authority.host)
}

/// Whether the request is for a host that the certificate of its connection was not chosen for
/// (RFC 9110 section 15.5.20). Clients may reuse a connection for any host its certificate names
/// (RFC 9113 section 9.1.1), so a wildcard covers all its hosts; the default certificate, and a
/// connection without a server name, serve any.
pub fn misdirected(tls: &PeerTls, request: &Parts) -> bool {
    let (Some(name), Some(patterns)) = (&tls.server_name, &tls.certificate_hosts) else { return false };
    let host = host_of(request);
    !host.eq_ignore_ascii_case(name) && !patterns.iter().any(|pattern| covers(pattern, host))
}

/// Whether a pattern (lower case) covers a host: `*.` stands for exactly one label.
fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.find('.').is_some_and(|dot| dot > 0 && host[dot..].eq_ignore_ascii_case(suffix)),
        None => host.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn hosts_and_ports() {
        let parse = |text: &str| {
            Authority::parse(text.as_bytes())
                .map(|authority| format!("{}|{:?}", authority.host, authority.port))
        };
        for (text, expected) in [
            ("a", "a|None"),
            ("a.example.", "a.example|None"),
            ("A:80", "A|Some(80)"),
            ("a:", "a|None"),
            ("127.0.0.1:65535", "127.0.0.1|Some(65535)"),
            ("[::1]:8080", "[::1]|Some(8080)"),
            ("", "|None"),
        ] {
            assert_eq!(parse(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "u@a", "a b", "a,b", "a/b", ":80", "a:+80", "a:65536", "a:8x", "[::1", "[a]", "[::1]x", "a:1:2",
            "ä", "a\0", "a:000080", "~.a", "a..b", ".a", "a..", "..",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(Authority::parse(b"\xff"), None);
    }

    #[test]
    fn a_default_port_may_be_left_out() {
        let same = |a: &str, b: &str, scheme: &Scheme| {
            Authority::parse(a.as_bytes())
                .unwrap()
                .same(Authority::parse(b.as_bytes()).unwrap(), Some(scheme))
        };
        assert!(same("A.", "a:80", &Scheme::HTTP));
        assert!(same("a:443", "a", &Scheme::HTTPS));
        assert!(!same("a:443", "a", &Scheme::HTTP));
        assert!(!same("a", "b", &Scheme::HTTP));
    }

    #[test]
    fn a_certificate_serves_what_it_was_chosen_for() {
        let tls = |name: Option<&str>, hosts: Option<&[&str]>| PeerTls {
            server_name: name.map(Into::into),
            certificate_hosts: hosts
                .map(|hosts| hosts.iter().map(|host| (*host).into()).collect::<Arc<[_]>>()),
            client_certificate: None,
        };
        let wild = tls(Some("a.test"), Some(&["*.test", "plain.example"]));
        let check = |tls: &PeerTls, host: &str| {
            let (parts, ()) = Request::get("/").header("host", host).body(()).unwrap().into_parts();
            misdirected(tls, &parts)
        };
        for host in ["a.test", "B.TEST", "b.test.:8443", "plain.example"] {
            assert!(!check(&wild, host), "{host}");
        }
        for host in ["test", "x.a.test", ".test", "other.example", "b.test.evil", ""] {
            assert!(check(&wild, host), "{host}");
        }
        assert!(!check(&tls(Some("a.test"), None), "other.example"));
        assert!(!check(&tls(None, Some(&["a.test"])), "other.example"));
        let (parts, ()) =
            Request::get("https://other.example/").header("host", "a.test").body(()).unwrap().into_parts();
        assert!(misdirected(&wild, &parts));
    }

    proptest! {
        #[test]
        fn whatever_parses_is_plain(text in any::<Vec<u8>>()) {
            if let Some(authority) = Authority::parse(&text) {
                prop_assert!(authority.host.bytes().all(|byte| byte.is_ascii_graphic() && !b",@/#?%\\".contains(&byte)));
            }
        }
    }
}
