//! Who the client is behind proxies, and how upstreams are told: `X-Forwarded-For`, `-Proto`,
//! `-Host`, and `Forwarded` (RFC 7239), all from one list, so that they agree.
//!
//! `connection` keeps a `ForwardedCache` per connection; `exchange` asks it for the `Client` and
//! has it set the fields before policies run. Never believes a peer that the operator does not
//! trust, and by default none is trusted.
//!
//! From an untrusted peer: whatever it claims is dropped, together with the fields that make some
//! upstreams serve another path. From a trusted one: hops are read from the right, and the first
//! untrusted one is the client; what stands left of it, the client may have invented, so it is
//! not passed on. `Forwarded` counts only where no `X-Forwarded-For` came: most proxies set the
//! latter and let the former through as the client sent it.

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName, HeaderValue};
use ipnet::IpNet;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::headers::text;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Proxies in a row that are believed in; more than any real path has.
const HOPS_MAX: usize = 32;

/// The proxies whose word is taken.
#[derive(Clone, Debug, Default)]
pub struct Trusted(Box<[IpNet]>);

impl Trusted {
    /// Empty: nobody.
    pub fn new(networks: Vec<IpNet>) -> Trusted {
        Trusted(networks.into_iter().map(|network| network.trunc()).collect())
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// The protocol between the client and the first hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn parse(text: &str) -> Option<Scheme> {
        [Scheme::Http, Scheme::Https].into_iter().find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
    }
}

/// Who sent a request, as far as the gateway believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// IPv4 addresses never in their IPv6 mapping.
    pub ip: IpAddr,
    pub scheme: Scheme,
    /// The authority that the client asked for, as sent; none where it is no host at all.
    pub host: Option<HeaderValue>,
    /// The connection's own peer is a trusted proxy, so its request id may be believed too.
    pub peer_trusted: bool,
    /// Trusted hops between the client and the gateway, the nearest last.
    pub via: SmallVec<[IpAddr; 2]>,
}

/// What is the same for all requests of a connection, ready to be set.
#[derive(Debug)]
pub struct ForwardedCache {
    peer: IpAddr,
    scheme: Scheme,
    /// `x-forwarded-for` if the peer is the client.
    peer_value: HeaderValue,
    /// Of the last request; connections seldom change hosts.
    last: RefCell<Option<HostValues>>,
}

#[derive(Clone, Debug)]
struct HostValues {
    host: HeaderValue,
    /// `forwarded` if the peer is the client.
    forwarded: HeaderValue,
}

impl ForwardedCache {
    pub fn new(peer: IpAddr, scheme: Scheme) -> ForwardedCache {
        let peer = peer.to_canonical();
        ForwardedCache { peer, scheme, peer_value: value(&peer.to_string()), last: RefCell::new(None) }
    }

    /// The connection's peer.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Who sent a request that asks for `host` (the field `host`, or `:authority`).
    pub fn client(&self, headers: &HeaderMap, host: Option<&str>, trusted: &Trusted) -> Client {
        let host = host.and_then(|host| self.for_host(host, |values| values.host.clone()));
        let direct =
            Client { ip: self.peer, scheme: self.scheme, host, peer_trusted: false, via: SmallVec::new() };
        if !trusted.contains(self.peer) {
            return direct;
        }
        behind_proxies(Client { peer_trusted: true, ..direct }, headers, trusted)
    }

    /// Sets what upstreams are told about the client. What an untrusted peer claimed was removed when its
    /// request came in (`remove_claims`); other claims that are there now, a policy has set.
    pub fn set(&self, headers: &mut HeaderMap, client: &Client) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(client.scheme.as_str()));
        let cached = match &client.host {
            Some(host) if client.is_direct(self) => {
                text(host).ok().and_then(|host| self.for_host(host, |values| values.forwarded.clone()))
            }
            _ => None,
        };
        match cached {
            Some(forwarded) => {
                headers.insert(X_FORWARDED_FOR, self.peer_value.clone());
                headers.insert(FORWARDED, forwarded);
            }
            None => {
                headers.insert(X_FORWARDED_FOR, client.forwarded_for());
                headers.insert(FORWARDED, client.forwarded());
            }
        }
        match &client.host {
            Some(host) => drop(headers.insert(X_FORWARDED_HOST, host.clone())),
            None => drop(headers.remove(X_FORWARDED_HOST)),
        }
    }

    /// Reads the values for a host, made anew unless it is the last one. None if it is no host.
    fn for_host(&self, host: &str, read: impl FnOnce(&HostValues) -> HeaderValue) -> Option<HeaderValue> {
        let mut last = self.last.borrow_mut();
        if let Some(values) = &*last
            && values.host.as_bytes() == host.as_bytes()
        {
            return Some(read(values));
        }
        if !is_host(host) {
            return None;
        }
        let host = value(host);
        let client = Client {
            ip: self.peer,
            scheme: self.scheme,
            host: Some(host.clone()),
            peer_trusted: false,
            via: SmallVec::new(),
        };
        Some(read(last.insert(HostValues { host, forwarded: client.forwarded() })))
    }
}

impl Client {
    fn is_direct(&self, cache: &ForwardedCache) -> bool {
        self.via.is_empty() && self.ip == cache.peer && self.scheme == cache.scheme
    }

    fn forwarded_for(&self) -> HeaderValue {
        let mut list = String::with_capacity(16 * (1 + self.via.len()));
        // Writing into a string never fails.
        let _ = write!(list, "{}", self.ip);
        for hop in &self.via {
            let _ = write!(list, ", {hop}");
        }
        value(&list)
    }

    /// The element of the client has all parts, those of the proxies their addresses only.
    fn forwarded(&self) -> HeaderValue {
        let mut list = String::with_capacity(64);
        push_node(&mut list, self.ip);
        if let Some(host) = self.host.as_ref().and_then(|host| text(host).ok()) {
            // Of the characters of a host, these are not of a token.
            let quote = if host.contains([':', '[', ']']) { "\"" } else { "" };
            let _ = write!(list, ";host={quote}{host}{quote}");
        }
        let _ = write!(list, ";proto={}", self.scheme.as_str());
        for hop in &self.via {
            list.push_str(", ");
            push_node(&mut list, *hop);
        }
        value(&list)
    }
}

/// Removes what only a trusted proxy may say, and the fields by which some frameworks let a
/// client name another path than the one that policies saw.
pub fn remove_claims(headers: &mut HeaderMap) {
    let claims: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

pub(super) fn is_claim(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => {
            name.starts_with("x-forwarded")
                || matches!(
                    name,
                    "x-real-ip"
                        | "x-client-ip"
                        | "x-cluster-client-ip"
                        | "x-original-url"
                        | "x-original-uri"
                        | "x-original-host"
                        | "x-rewrite-url"
                        | "x-host"
                )
        }
        Some(b'f') => matches!(name, "forwarded" | "front-end-https"),
        Some(b't') => name == "true-client-ip",
        _ => false,
    }
}

/// Reads a trusted peer's account of where a request came from.
fn behind_proxies(direct: Client, headers: &HeaderMap, trusted: &Trusted) -> Client {
    let mut client = direct;
    if headers.contains_key(X_FORWARDED_FOR) {
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        let items = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        client.walk(items.map(|item| address(std::str::from_utf8(item).ok()?.trim())), trusted);
        // The nearest proxy's word, should several have added theirs.
        let last = |name| headers.get_all(name).into_iter().next_back().and_then(|line| text(line).ok());
        let last_item = |name| last(name).and_then(|line| line.rsplit(',').next()).map(str::trim);
        client.scheme = last_item(X_FORWARDED_PROTO).and_then(Scheme::parse).unwrap_or(client.scheme);
        let host = last_item(X_FORWARDED_HOST).filter(|host| is_host(host));
        client.host = host.map(value).or(client.host);
    } else {
        let elements = forwarded_elements(headers);
        let walked = client.walk(elements.iter().rev().map(|element| element.node), trusted);
        // The element that named the client is also the one that tells what it asked for.
        if let Some(at) = elements.len().checked_sub(walked)
            && walked > 0
            && let Some(element) = elements.get(at)
        {
            client.scheme = element.scheme.unwrap_or(client.scheme);
            client.host = element.host.map(value).or(client.host);
        }
    }
    client
}

impl Client {
    /// Goes from hop to hop, nearest first, as long as they can be read and are trusted; says
    /// how many hops it went.
    fn walk(&mut self, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &Trusted) -> usize {
        let mut walked = 0;
        for hop in hops.take(HOPS_MAX) {
            let Some(hop) = hop else { break };
            walked += 1;
            self.via.push(self.ip);
            self.ip = hop;
            if !trusted.contains(hop) {
                break;
            }
        }
        self.via.reverse();
        walked
    }
}

/// One hop of `Forwarded`.
#[derive(Clone, Copy, Default)]
struct Element<'h> {
    /// None also for `unknown` and obfuscated names.
    node: Option<IpAddr>,
    scheme: Option<Scheme>,
    host: Option<&'h str>,
}

/// The last hops of all lines, the nearest last. What cannot be read is an element that says
/// nothing, at which the walk ends.
fn forwarded_elements(headers: &HeaderMap) -> SmallVec<[Element<'_>; 4]> {
    let mut elements: SmallVec<[Element<'_>; 4]> = SmallVec::new();
    for line in headers.get_all(FORWARDED) {
        for item in split_unquoted(text(line).unwrap_or(","), b',') {
            if elements.len() == HOPS_MAX {
                elements.remove(0);
            }
            elements.push(element(item));
        }
    }
    elements
}

fn element(item: &str) -> Element<'_> {
    let mut element = Element::default();
    for pair in split_unquoted(item, b';') {
        let Some((name, value)) = pair.trim().split_once('=') else { continue };
        let value = match value.strip_prefix('"') {
            // Escapes have no place in an address, a scheme or a host.
            Some(quoted) => quoted.strip_suffix('"').filter(|text| !text.contains(['"', '\\'])),
            None => Some(value),
        };
        let Some(value) = value else { continue };
        if name.eq_ignore_ascii_case("for") {
            element.node = address(value);
        } else if name.eq_ignore_ascii_case("proto") {
            element.scheme = Scheme::parse(value);
        } else if name.eq_ignore_ascii_case("host") {
            element.host = Some(value).filter(|host| is_host(host));
        }
    }
    element
}

/// Splits at a separator that does not stand in a quoted string.
fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        if escaped {
            escaped = false;
        } else if quoted && c == '\\' {
            escaped = true;
        } else if c == '"' {
            quoted = !quoted;
        } else {
            return !quoted && c == char::from(separator);
        }
        false
    })
}

/// An address with or without brackets and port.
fn address(text: &str) -> Option<IpAddr> {
    let address = if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else if let Ok(socket) = text.parse::<SocketAddr>() {
        socket.ip()
    } else {
        IpAddr::V6(text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?)
    };
    Some(address.to_canonical())
}

/// `for=` and the address as RFC 7239, section 6, wants it.
fn push_node(list: &mut String, address: IpAddr) {
    let _ = match address {
        IpAddr::V4(address) => write!(list, "for={address}"),
        IpAddr::V6(address) => write!(list, "for=\"[{address}]\""),
    };
}

/// Whether a text is fit for `host=` and `x-forwarded-host`: the characters of names, addresses
/// and ports, which need no escape anywhere. A DNS name has at most 253 characters.
fn is_host(text: &str) -> bool {
    (1..=262).contains(&text.len())
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']')
        })
}

/// A value out of characters that are checked already.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
