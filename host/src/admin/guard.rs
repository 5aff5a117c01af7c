//! Who may ask the admin listener: browsers on another site's behalf may not, nor anybody
//! without the token.
//!
//! Called by `route` before everything but the health checks. Never answers; says what is wrong.

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Request};
use std::sync::Arc;

/// The bearer token of the admin listener, kept as its hash.
#[derive(Clone)]
pub struct Token(Digest);

impl Token {
    /// None for an empty text: a secret that resolved to nothing must not let everybody in.
    pub fn new(token: &str) -> Option<Token> {
        (!token.is_empty()).then(|| Token(digest(&SHA256, token.as_bytes())))
    }

    /// In constant time; of hashes, so that not even the length shows.
    fn is(&self, offered: &[u8]) -> bool {
        verify_slices_are_equal(self.0.as_ref(), digest(&SHA256, offered).as_ref()).is_ok()
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token is set and the address is open to the network.
    Closed,
    /// `Host` is missing, repeated, or a name that the gateway does not have.
    Host,
    /// A browser asks on behalf of another site.
    CrossSite,
    /// The token is missing or wrong.
    Token,
}

#[derive(Debug)]
pub(super) struct Guard {
    token: Arc<ArcSwapOption<Token>>,
    loopback: bool,
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Guard {
    pub(super) fn new(token: Arc<ArcSwapOption<Token>>, loopback: bool) -> Guard {
        Guard { token, loopback }
    }

    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let token = self.token.load();
        if !self.loopback && token.is_none() {
            return Err(Refusal::Closed);
        }
        let host = host(request).ok_or(Refusal::Host)?;
        if self.loopback && !is_loopback_name(host.host()) {
            return Err(Refusal::Host);
        }
        self.check_site(request.headers(), &host)?;
        match &*token {
            Some(token) if !bearer(request.headers()).is_some_and(|offered| token.is(offered)) => {
                Err(Refusal::Token)
            }
            _ => Ok(()),
        }
    }

    /// Every browser of today sends `Sec-Fetch-Site`; older ones send `Origin` with a POST.
    fn check_site(&self, headers: &HeaderMap, host: &Authority) -> Result<(), Refusal> {
        for site in headers.get_all(SEC_FETCH_SITE) {
            if !matches!(site.as_bytes(), b"none" | b"same-origin") {
                return Err(Refusal::CrossSite);
            }
        }
        for origin in headers.get_all(ORIGIN) {
            let own = origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(
                |(scheme, authority)| {
                    matches!(scheme, "http" | "https") && authority.eq_ignore_ascii_case(host.as_str())
                },
            );
            if !own {
                return Err(Refusal::CrossSite);
            }
        }
        Ok(())
    }
}

/// The one `Host`, which must agree with the target where that has an authority (RFC 9112 3.2.2).
fn host<B>(request: &Request<B>) -> Option<Authority> {
    let mut lines = request.headers().get_all(HOST).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let host = Authority::try_from(line.as_bytes()).ok()?;
    let agrees = request.uri().authority().is_none_or(|authority| *authority == host);
    (agrees && !host.as_str().contains('@')).then_some(host)
}

/// Against DNS rebinding, where a foreign name points here. Any port will do: that of a tunnel is
/// not ours, and a page served from another port of this machine is caught as cross-site.
fn is_loopback_name(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host == "127.0.0.1" || host == "[::1]"
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (scheme, token) = line.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let request = headers
            .iter()
            .fold(Request::get("/config"), |request, (name, value)| request.header(*name, *value));
        guard.check(&request.body(()).unwrap())
    }

    fn open() -> Guard {
        Guard::new(Arc::default(), true)
    }

    fn secret(loopback: bool) -> Guard {
        Guard::new(Arc::new(Token::new("s3cret").map(Arc::new).into()), loopback)
    }

    #[test]
    fn only_names_of_this_machine_reach_a_loopback_address() {
        for host in ["localhost:9901", "LOCALHOST", "127.0.0.1:9901", "[::1]:9901", "127.0.0.1:8000"] {
            assert_eq!(check(&open(), &[("host", host)]), Ok(()), "{host}");
        }
        let foreign = [
            "evil.example:9901",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9901",
            "localhost@evil.example",
            "evil@localhost",
            "localhost:9901, evil.example",
            "",
            "127.0.0.2:9901",
        ];
        for host in foreign {
            assert_eq!(check(&open(), &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(check(&open(), &[]), Err(Refusal::Host));
        assert_eq!(check(&open(), &[("host", "localhost"), ("host", "localhost")]), Err(Refusal::Host));
        let request =
            Request::get("http://evil.example/config").header("host", "localhost").body(()).unwrap();
        assert_eq!(open().check(&request), Err(Refusal::Host));
    }

    #[test]
    fn browsers_ask_for_their_own_site_only() {
        let host = ("host", "localhost:9901");
        for site in ["none", "same-origin"] {
            assert_eq!(check(&open(), &[host, ("sec-fetch-site", site)]), Ok(()));
        }
        for site in ["cross-site", "same-site", "", "none, same-origin"] {
            assert_eq!(check(&open(), &[host, ("sec-fetch-site", site)]), Err(Refusal::CrossSite), "{site}");
        }
        for origin in ["http://localhost:9901", "https://LOCALHOST:9901"] {
            assert_eq!(check(&open(), &[host, ("origin", origin)]), Ok(()), "{origin}");
        }
        let foreign = [
            "null",
            "http://localhost:3000",
            "http://localhost",
            "http://evil.example",
            "localhost:9901",
            "",
        ];
        for origin in foreign {
            assert_eq!(check(&open(), &[host, ("origin", origin)]), Err(Refusal::CrossSite), "{origin}");
        }
        let twice = [host, ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")];
        assert_eq!(check(&open(), &twice), Err(Refusal::CrossSite));
    }

    #[test]
    fn the_token_is_asked_for_wherever_it_is_set() {
        for guard in [secret(true), secret(false)] {
            let host = ("host", "localhost:9901");
            for good in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret"] {
                assert_eq!(check(&guard, &[host, ("authorization", good)]), Ok(()), "{good}");
            }
            for bad in ["Bearer s3cre", "Bearer s3crett", "Bearer ", "Bearer", "s3cret", "Basic s3cret", ""] {
                assert_eq!(check(&guard, &[host, ("authorization", bad)]), Err(Refusal::Token), "{bad}");
            }
            assert_eq!(check(&guard, &[host]), Err(Refusal::Token));
            let twice = [host, ("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")];
            assert_eq!(check(&guard, &twice), Err(Refusal::Token));
        }
    }

    #[test]
    fn a_network_address_without_a_token_is_closed() {
        assert_eq!(
            check(&Guard::new(Arc::default(), false), &[("host", "10.0.0.1:9901")]),
            Err(Refusal::Closed)
        );
        let named = [("host", "gateway.example:9901"), ("authorization", "Bearer s3cret")];
        assert_eq!(check(&secret(false), &named), Ok(()));
    }

    #[test]
    fn a_token_is_never_empty_nor_shown() {
        assert!(Token::new("").is_none());
        assert_eq!(format!("{:?}", Token::new("s3cret").unwrap()), "Token(***)");
    }
}
