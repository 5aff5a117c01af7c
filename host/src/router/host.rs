//! Which of the configured hosts a request asks for: exact names first, then the longest `*.`
//! suffix, then what serves any host.
//!
//! Called by `table` when it is built and on each request; `canonical` also by whoever compares
//! a host with a certificate's names. Never resolves a name.

use foldhash::fast::RandomState;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::Ipv6Addr;

/// RFC 1035 allows 253 characters and a trailing dot.
const NAME_BYTES_MAX: usize = 254;

/// The host of an authority in its one form: no port, no trailing dot, lower case, IPv6 addresses
/// in brackets and compressed. Borrowed if it has that form. None if it is no host.
pub fn canonical(authority: &str) -> Option<Cow<'_, str>> {
    if authority.starts_with('[') {
        return canonical_v6(authority);
    }
    let name = match authority.bytes().position(|byte| byte == b':') {
        Some(colon) => {
            port(&authority[colon + 1..])?;
            &authority[..colon]
        }
        None => authority,
    };
    // `example.com.` is the same name, written absolutely.
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.starts_with('.') {
        return None;
    }
    let (mut upper, mut before) = (false, 0);
    for &byte in name.as_bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            b'A'..=b'Z' => upper = true,
            b'.' if before != b'.' => {}
            _ => return None,
        }
        before = byte;
    }
    if before == b'.' {
        return None;
    }
    Some(if upper { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) })
}

fn canonical_v6(authority: &str) -> Option<Cow<'_, str>> {
    let close = authority.find(']')?;
    match &authority[close + 1..] {
        "" => {}
        rest => port(rest.strip_prefix(':')?)?,
    }
    let address: Ipv6Addr = authority[1..close].parse().ok()?;
    let canonical = format!("[{address}]");
    let bracketed = &authority[..=close];
    Some(if canonical == bracketed { Cow::Borrowed(bracketed) } else { Cow::Owned(canonical) })
}

/// Digits or nothing (RFC 3986, 3.2.3).
fn port(text: &str) -> Option<()> {
    (text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(())
}

/// What a configured host stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Pattern {
    Any,
    /// `*.example.com`, without the `*.`: each name with at least one label more.
    Below(Box<str>),
    Exact(Box<str>),
}

impl Pattern {
    /// None if it is neither a host nor `*.` and a host. `*` alone is any host.
    pub(super) fn parse(text: &str) -> Option<Pattern> {
        let whole = |text| canonical(text).filter(|_| !has_port(text)).map(|name| Box::from(&*name));
        match text.strip_prefix("*.") {
            _ if text == "*" => Some(Pattern::Any),
            Some(parent) if !parent.starts_with('[') => whole(parent).map(Pattern::Below),
            Some(_) => None,
            None => whole(text).map(Pattern::Exact),
        }
    }
}

fn has_port(text: &str) -> bool {
    text.rsplit(']').next().unwrap_or_default().contains(':')
}

/// Finds the values of the patterns that fit a host, the most specific first.
#[derive(Debug)]
pub(super) struct Hosts<T> {
    exact: HashMap<Box<str>, T, RandomState>,
    below: HashMap<Box<str>, T, RandomState>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Hosts<T> {
        Hosts { exact: HashMap::default(), below: HashMap::default(), any: None }
    }
}

impl<T> Hosts<T> {
    /// The value of a pattern, made if there is none.
    pub(super) fn entry(&mut self, pattern: &Pattern, make: impl FnOnce() -> T) -> &mut T {
        match pattern {
            Pattern::Any => self.any.get_or_insert_with(make),
            Pattern::Below(parent) => self.below.entry(parent.clone()).or_insert_with(make),
            Pattern::Exact(name) => self.exact.entry(name.clone()).or_insert_with(make),
        }
    }

    /// The first thing that `look` finds in the values that fit. Nothing fits a host that cannot be read, lest it pass
    /// by what is kept for a host that an upstream reads in it.
    pub(super) fn find<'t, R>(
        &'t self,
        authority: Option<&str>,
        mut look: impl FnMut(&'t T) -> Option<R>,
    ) -> Option<R> {
        let named = authority.filter(|authority| !authority.is_empty());
        if let Some(authority) = named.filter(|_| !(self.exact.is_empty() && self.below.is_empty())) {
            let name = canonical(authority)?;
            if let Some(found) = self.exact.get(&*name).and_then(&mut look) {
                return Some(found);
            }
            if !self.below.is_empty() {
                // A name has at most 127 labels.
                let mut rest = &*name;
                while let Some((_, parent)) = rest.split_once('.') {
                    if let Some(found) = self.below.get(parent).and_then(&mut look) {
                        return Some(found);
                    }
                    rest = parent;
                }
            }
        }
        self.any.as_ref().and_then(look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_each_host() {
        for (authority, expected) in [
            ("example.com", Some("example.com")),
            ("Example.COM:8443", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("example.com.:443", Some("example.com")),
            ("example.com:", Some("example.com")),
            ("127.0.0.1:80", Some("127.0.0.1")),
            ("[::1]:80", Some("[::1]")),
            ("[0:0::0:1]", Some("[::1]")),
            ("[2001:DB8::1]", Some("[2001:db8::1]")),
            ("a_b", Some("a_b")),
            ("", None),
            (".", None),
            ("..", None),
            (":80", None),
            ("a..b", None),
            ("example.com..", None),
            (".example.com", None),
            ("a b", None),
            ("a,b", None),
            ("user@a", None),
            ("a:b", None),
            ("a:80:80", None),
            ("a:123456", None),
            ("::1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[x]", None),
            ("ü", None),
            ("*", None),
        ] {
            assert_eq!(canonical(authority).as_deref(), expected, "{authority}");
        }
        assert!(matches!(canonical("example.com:80"), Some(Cow::Borrowed(_))));
        assert!(matches!(canonical("[::1]:80"), Some(Cow::Borrowed(_))));
        assert_eq!(canonical(&"a".repeat(300)), None);
    }

    #[test]
    fn patterns() {
        assert_eq!(Pattern::parse("*"), Some(Pattern::Any));
        assert_eq!(Pattern::parse("*.Example.com"), Some(Pattern::Below("example.com".into())));
        assert_eq!(Pattern::parse("Example.com."), Some(Pattern::Exact("example.com".into())));
        assert_eq!(Pattern::parse("[::1]"), Some(Pattern::Exact("[::1]".into())));
        for bad in ["", "*.", "a.*", "*a", "*.*.a", "a:80", "*.[::1]", "http://a", "[::1]:80"] {
            assert_eq!(Pattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_most_specific_host_wins() {
        let mut hosts = Hosts::default();
        for pattern in ["*", "*.b.c", "*.c", "a.b.c"] {
            hosts.entry(&Pattern::parse(pattern).expect("a pattern"), || pattern);
        }
        let check = |authority, expected: &[&str]| {
            let mut order = Vec::new();
            hosts.find(authority, |value| {
                order.push(*value);
                None::<()>
            });
            assert_eq!(order, expected, "{authority:?}");
            assert_eq!(hosts.find(authority, |value| Some(*value)), expected.first().copied());
        };
        check(Some("A.b.c:80"), &["a.b.c", "*.b.c", "*.c", "*"]);
        check(Some("x.y.b.c."), &["*.b.c", "*.c", "*"]);
        check(Some("b.c"), &["*.c", "*"]);
        check(Some("c"), &["*"]);
        check(Some("bad host"), &[]);
        check(None, &["*"]);
    }
}
