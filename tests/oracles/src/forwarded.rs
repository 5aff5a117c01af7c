//! Who the client is: nobody is believed who is not trusted, and all that upstreams are told agrees.
//!
//! An input is lines: `t NETWORK` (trusted), `p ADDRESS` (the peer), `o HOST` (what was asked for),
//! `h NAME=VALUE` (a field).

use http::header::{FORWARDED, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use std::net::IpAddr;
use witgate::message::forwarded::{ForwardedCache, Scheme, Trusted, remove_claims};

pub const WORDS: &[&str] = &[
    "t 10.0.0.0/8\n",
    "t ::/0\n",
    "t 0.0.0.0/0\n",
    "p 10.0.0.1\n",
    "p ::ffff:10.0.0.1\n",
    "p 192.0.2.1\n",
    "o a.b:80\n",
    "o [::1]\n",
    "h ",
    "x-forwarded-for=",
    "x-forwarded-proto=",
    "x-forwarded-host=",
    "forwarded=",
    "x-real-ip=",
    "x-original-url=",
    "1.2.3.4",
    "10.1.1.1",
    "[2001:db8::1]:80",
    "2001:db8::1",
    ",",
    ", ",
    ";",
    "\n",
    "for=",
    "for=\"[::1]\"",
    "proto=https",
    "host=a",
    "by=_x",
    "\"",
    "\\",
    "=",
    "unknown",
    "_hidden",
    "1.2.3.4:80",
    "http",
    "https",
    "ftp",
    " ",
    "\t",
    "host=\"a:1\"",
    "\u{e4}",
    "999.1.1.1",
    "for=1.2.3.4;host=x, for=10.0.0.2",
];

pub fn run(input: &[u8]) {
    let mut networks: Vec<IpNet> = Vec::new();
    let mut peer: IpAddr = "10.0.0.1".parse().unwrap();
    let mut host = "asked.example".to_string();
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some((kind, rest)) = line.split_at_checked(2) else { continue };
        let text = String::from_utf8_lossy(rest);
        match kind {
            b"t " => networks.extend(text.parse::<IpNet>()),
            b"p " => peer = text.parse().unwrap_or(peer),
            b"o " => host = text.into_owned(),
            b"h " => {
                let at = rest.iter().position(|byte| *byte == b'=').unwrap_or(rest.len());
                let value = HeaderValue::from_bytes(rest.get(at + 1..).unwrap_or_default());
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&rest[..at]), value) {
                    headers.append(name, value);
                }
            }
            _ => {}
        }
    }
    let trusted = Trusted::new(networks.clone());
    let believed = networks.iter().any(|network| network.trunc().contains(&peer.to_canonical()));
    let cache = ForwardedCache::new(peer, Scheme::Http);
    let client = cache.client(&headers, Some(&host), &trusted);
    assert_eq!(client.peer_trusted, believed, "{peer} {networks:?}");
    if !believed {
        assert_eq!((client.ip, client.scheme, client.via.len()), (peer.to_canonical(), Scheme::Http, 0));
    }
    for hop in &client.via {
        assert!(trusted.contains(*hop), "{hop} is passed on, and not trusted");
    }
    let mut told = headers.clone();
    if !believed {
        remove_claims(&mut told);
    }
    cache.set(&mut told, &client);
    for name in ["x-forwarded-for", "x-forwarded-proto", "forwarded"] {
        assert_eq!(told.get_all(name).iter().count(), 1, "{name}");
    }
    assert!(told.get_all("x-forwarded-host").iter().count() <= 1);
    let list = told["x-forwarded-for"].to_str().unwrap();
    let hops: Vec<IpAddr> =
        list.split(", ").map(|hop| hop.parse().unwrap_or_else(|_| panic!("{list:?}"))).collect();
    assert_eq!(hops.first(), Some(&client.ip), "{list:?}");
    assert_eq!(hops[1..], client.via[..], "{list:?}");
    let forwarded = told[FORWARDED].to_str().unwrap();
    assert_eq!(forwarded.matches("for=").count(), hops.len(), "{forwarded:?} and {list:?}");
    assert_eq!(
        forwarded.matches("host=").count(),
        usize::from(told.contains_key("x-forwarded-host")),
        "{forwarded:?}"
    );
    if !believed {
        let mut claims = told.clone();
        for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"] {
            claims.remove(name);
        }
        let honest = claims.clone();
        remove_claims(&mut claims);
        assert_eq!(claims, honest, "a claim of an untrusted peer is passed on");
    }
    // The next gateway, which trusts this one and those before it, sees the same client.
    let ours: IpAddr = "198.51.100.9".parse().unwrap();
    let chain: Vec<IpNet> = client.via.iter().copied().chain([ours]).map(IpNet::from).collect();
    let all = Trusted::new(chain);
    if !all.contains(client.ip) {
        let next = ForwardedCache::new(ours, Scheme::Http).client(&told, Some("hop.example"), &all);
        assert_eq!((next.ip, next.scheme), (client.ip, client.scheme), "{told:?}");
        if let Some(host) = &client.host {
            assert_eq!(next.host.as_ref(), Some(host), "{told:?}");
        }
        let mut without = told.clone();
        without.remove("x-forwarded-for");
        let next = ForwardedCache::new(ours, Scheme::Http).client(&without, Some("hop.example"), &all);
        assert_eq!((next.ip, next.scheme), (client.ip, client.scheme), "{forwarded:?}");
    }
}
