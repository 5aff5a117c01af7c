//! Whom the gateway believes, and what upstreams are told.

use super::*;
use proptest::prelude::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, text) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(text).expect("a value"));
    }
    headers
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn trusted(networks: &[&str]) -> Trusted {
    Trusted::new(networks.iter().map(|network| network.parse().expect("a network")).collect())
}

/// Sends `lines` from `peer`, asking for `a.example:8080` in clear.
fn pass(peer: &str, proxies: &Trusted, lines: &[(&'static str, &str)]) -> (Client, HeaderMap) {
    let cache = ForwardedCache::new(ip(peer), Scheme::Http);
    let mut headers = headers(lines);
    let client = cache.client(&headers, Some("a.example:8080"), proxies);
    if !client.peer_trusted {
        remove_claims(&mut headers);
    }
    cache.set(&mut headers, &client);
    (client, headers)
}

#[test]
fn nobody_is_trusted_by_default() {
    let claims = [
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-uri", "/public"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x-original-url", "/public"),
        ("accept", "*/*"),
    ];
    let (client, set) = pass("::ffff:198.51.100.7", &Trusted::default(), &claims);
    assert_eq!((client.ip, client.scheme, client.peer_trusted), (ip("198.51.100.7"), Scheme::Http, false));
    assert_eq!(
        set,
        headers(&[
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "a.example:8080"),
            ("forwarded", "for=198.51.100.7;host=\"a.example:8080\";proto=http"),
            ("accept", "*/*"),
        ])
    );
}

#[test]
fn the_rightmost_untrusted_hop_is_the_client() {
    let proxies = trusted(&["10.0.0.0/8", "fd00::/8"]);
    let (client, set) = pass(
        "10.0.0.1",
        &proxies,
        &[
            ("x-forwarded-for", "6.6.6.6, 203.0.113.9"),
            ("x-forwarded-for", "[fd00::2]:443,10.9.9.9:80"),
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "b.example"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=1.1.1.1"),
        ],
    );
    assert_eq!((client.ip, client.scheme), (ip("203.0.113.9"), Scheme::Https));
    assert_eq!(client.via.as_slice(), [ip("fd00::2"), ip("10.9.9.9"), ip("10.0.0.1")]);
    assert_eq!(set["x-forwarded-for"], "203.0.113.9, fd00::2, 10.9.9.9, 10.0.0.1");
    assert_eq!(set["x-forwarded-host"], "b.example");
    assert_eq!(set["x-forwarded-port"], "443");
    assert_eq!(
        set["forwarded"],
        "for=203.0.113.9;host=b.example;proto=https, for=\"[fd00::2]\", for=10.9.9.9, for=10.0.0.1"
    );
}

#[test]
fn forwarded_is_read_where_it_is_alone() {
    let proxies = trusted(&["10.0.0.0/8"]);
    let (client, _) = pass(
        "10.0.0.1",
        &proxies,
        &[(
            "forwarded",
            "for=6.6.6.6;proto=http, For=\"[2001:db8::1]:4711\";Proto=HTTPS;host=\"b.example\", for=10.0.0.2;proto=http",
        )],
    );
    assert_eq!((client.ip, client.scheme), (ip("2001:db8::1"), Scheme::Https));
    assert_eq!(client.host, Some(HeaderValue::from_static("b.example")));
    assert_eq!(client.via.as_slice(), [ip("10.0.0.2"), ip("10.0.0.1")]);
}

#[test]
fn what_cannot_be_read_ends_the_walk() {
    let proxies = trusted(&["10.0.0.0/8"]);
    for (name, text) in [
        ("x-forwarded-for", "1.1.1.1, unknown, 10.0.0.2"),
        ("x-forwarded-for", "1.1.1.1, , 10.0.0.2"),
        ("forwarded", "for=1.1.1.1, for=_hidden, for=10.0.0.2"),
        ("forwarded", "for=1.1.1.1, for=\"1.1.1.1\\\", for=10.0.0.2\", for=10.0.0.2"),
    ] {
        let (client, _) = pass("10.0.0.1", &proxies, &[(name, text)]);
        assert_eq!(client.ip, ip("10.0.0.2"), "{text}");
    }
    for text in ["", "unknown", ",", "for=\"1.1.1.1", "for"] {
        let (client, _) = pass("10.0.0.1", &proxies, &[("forwarded", text)]);
        assert_eq!((client.ip, client.via.len()), (ip("10.0.0.1"), 0), "{text}");
    }
}

#[test]
fn all_hops_trusted_and_too_many() {
    let proxies = trusted(&["10.0.0.0/8"]);
    let (client, _) = pass("10.0.0.1", &proxies, &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")]);
    assert_eq!(client.ip, ip("10.0.0.3"));
    let long = vec!["10.0.0.2"; 1000].join(",");
    let (client, _) = pass("10.0.0.1", &proxies, &[("x-forwarded-for", &long)]);
    assert_eq!(client.via.len(), HOPS_MAX);
    let long = vec!["for=10.0.0.2"; 1000].join(",");
    let (client, _) = pass("10.0.0.1", &proxies, &[("forwarded", &long)]);
    assert_eq!(client.via.len(), HOPS_MAX);
}

#[test]
fn hosts_that_are_none_are_not_told() {
    let cache = ForwardedCache::new(ip("2001:db8::1"), Scheme::Https);
    for host in [None, Some(""), Some("a\"b"), Some("a,b"), Some("user@a"), Some("a/b")] {
        let mut headers = headers(&[("x-forwarded-host", "evil")]);
        let client = cache.client(&headers, host, &Trusted::default());
        remove_claims(&mut headers);
        cache.set(&mut headers, &client);
        assert_eq!(headers.get("x-forwarded-host"), None);
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";proto=https");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
    }
}

#[test]
fn a_connection_may_change_hosts() {
    let cache = ForwardedCache::new(ip("192.0.2.1"), Scheme::Https);
    for host in ["a", "b", "b", "a"] {
        let mut headers = HeaderMap::new();
        let client = cache.client(&headers, Some(host), &Trusted::default());
        cache.set(&mut headers, &client);
        assert_eq!(headers["x-forwarded-host"], host);
        assert_eq!(headers["forwarded"], format!("for=192.0.2.1;host={host};proto=https"));
    }
}

proptest! {
    /// What we emit, a gateway behind us reads as the same client, from either field.
    #[test]
    fn both_fields_agree(client: [u8; 16], v6: bool, hops in 0u8..5, https: bool) {
        let ip_of = |bytes: [u8; 16]| if v6 {
            IpAddr::V6(bytes.into()).to_canonical()
        } else {
            IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
        };
        let scheme = if https { Scheme::Https } else { Scheme::Http };
        let cache = ForwardedCache::new(ip("10.0.0.1"), scheme);
        let sent = Client {
            ip: ip_of(client),
            scheme,
            host: Some(HeaderValue::from_static("[::1]:80")),
            peer_trusted: true,
            via: (0..hops).map(|hop| IpAddr::from([10, 0, 0, hop])).collect(),
        };
        let mut both = HeaderMap::new();
        cache.set(&mut both, &sent);
        let proxies = trusted(&["10.0.0.0/8"]);
        let mut one = both.clone();
        one.remove("forwarded");
        let mut other = both;
        other.remove("x-forwarded-for");
        let (one, other) = (cache.client(&one, None, &proxies), cache.client(&other, None, &proxies));
        prop_assert_eq!(one.ip, sent.ip);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn never_panics(for_text in "[ -~]{0,60}", forwarded in "[ -~]{0,80}", host in any::<String>()) {
        let proxies = trusted(&["0.0.0.0/0"]);
        let cache = ForwardedCache::new(ip("10.0.0.1"), Scheme::Http);
        for lines in [[("x-forwarded-for", for_text.as_str())], [("forwarded", forwarded.as_str())]] {
            let mut headers = headers(&lines);
            let client = cache.client(&headers, Some(&host), &proxies);
            cache.set(&mut headers, &client);
            prop_assert!(headers.contains_key("forwarded"));
        }
    }
}
