//! Looks values up in queries and cookies, and takes a parameter out of a query.
//!
//! Called for `query:NAME` and `cookie:NAME` of policies and to keep credentials from upstreams.
//! Names are compared decoded, so `%6bey=` is `key=`. Never changes the order or spelling of what
//! it leaves.

use http::HeaderMap;
use http::header::COOKIE;
use std::borrow::Cow;

use super::path::escape_value;

/// A value that was asked for is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUtf8;

/// The decoded value of a parameter (`application/x-www-form-urlencoded`); empty if it has no `=`. All of
/// them, a line each, where it comes more than once: nobody knows which one the upstream takes.
pub fn query_value<'q>(query: &'q str, name: &str) -> Result<Option<Cow<'q, str>>, NotUtf8> {
    lines(pairs(query).filter(|(pair_name, _)| is_name(pair_name, name)).map(|(_, value)| decode(value)))
}

/// The query without any occurrence of a parameter; borrowed if there is none.
pub fn without_parameter<'q>(query: &'q str, name: &str) -> Cow<'q, str> {
    if !pairs(query).any(|(pair_name, _)| is_name(pair_name, name)) {
        return Cow::Borrowed(query);
    }
    let mut rest = String::with_capacity(query.len());
    for pair in query.split('&') {
        if !is_name(pair.split('=').next().unwrap_or_default(), name) {
            if !rest.is_empty() {
                rest.push('&');
            }
            rest.push_str(pair);
        }
    }
    Cow::Owned(rest)
}

/// The value of a cookie, as it stands, over all lines of `cookie` (RFC 6265, 5.4); all of them, as above.
pub fn cookie_value<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<Cow<'h, str>>, NotUtf8> {
    let crumbs =
        headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let values = crumbs.filter_map(|crumb| {
        let crumb = crumb.trim_ascii();
        let equals = crumb.iter().position(|byte| *byte == b'=')?;
        (crumb[..equals].trim_ascii_end() == name.as_bytes()).then(|| crumb[equals + 1..].trim_ascii_start())
    });
    lines(values.map(|value| std::str::from_utf8(value).map(Cow::Borrowed).map_err(|_| NotUtf8)))
}

fn lines<'a>(
    mut values: impl Iterator<Item = Result<Cow<'a, str>, NotUtf8>>,
) -> Result<Option<Cow<'a, str>>, NotUtf8> {
    let Some(first) = values.next().transpose()? else { return Ok(None) };
    let Some(second) = values.next() else { return Ok(Some(first)) };
    let mut all = first.into_owned();
    for value in std::iter::once(second).chain(values) {
        all.push('\n');
        all.push_str(&value?);
    }
    Ok(Some(Cow::Owned(all)))
}

/// Names and values, both encoded.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether an encoded name means `name`; without allocating.
fn is_name(encoded: &str, name: &str) -> bool {
    let encoded = encoded.as_bytes();
    let mut at = 0;
    for &wanted in name.as_bytes() {
        match next_byte(encoded, at) {
            Some((byte, next)) if byte == wanted => at = next,
            _ => return false,
        }
    }
    at == encoded.len()
}

fn decode(encoded: &str) -> Result<Cow<'_, str>, NotUtf8> {
    if !encoded.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Ok(Cow::Borrowed(encoded));
    }
    let bytes = encoded.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some((byte, next)) = next_byte(bytes, at) {
        decoded.push(byte);
        at = next;
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| NotUtf8)
}

/// The byte at a place of an encoded text, and where the next one begins. A `%` without two
/// digits stands for itself, as in browsers.
fn next_byte(encoded: &[u8], at: usize) -> Option<(u8, usize)> {
    match *encoded.get(at)? {
        b'+' => Some((b' ', at + 1)),
        b'%' => match encoded.get(at + 1..at + 3) {
            Some(&[high, low]) => escape_value(high, low).map(|byte| (byte, at + 3)).or(Some((b'%', at + 1))),
            _ => Some((b'%', at + 1)),
        },
        byte => Some((byte, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn check(query: &str, name: &str, expected: Option<&str>) {
        assert_eq!(query_value(query, name).expect("UTF-8").as_deref(), expected, "{query}");
    }

    #[test]
    fn values_are_decoded() {
        check("a=1&b=2", "b", Some("2"));
        check("a=1&b=3&a=2", "a", Some("1\n2"));
        check("a", "a", Some(""));
        check("a=b=c", "a", Some("b=c"));
        check("q=a+b%20c%2Bd", "q", Some("a b c+d"));
        check("%6bey=K", "key", Some("K"));
        check("a+b=1", "a b", Some("1"));
        check("q=100%&r=%4", "q", Some("100%"));
        check("q=100%&r=%4", "r", Some("%4"));
        check("aa=1", "a", None);
        check("A=1", "a", None);
        check("", "a", None);
        assert_eq!(query_value("a=%ff", "a"), Err(NotUtf8));
        assert_eq!(query_value("a=1&a=%ff", "a"), Err(NotUtf8));
    }

    #[test]
    fn a_parameter_is_taken_out_wherever_it_stands() {
        for (query, expected) in [
            ("key=K&a=1", "a=1"),
            ("a=1&key=K", "a=1"),
            ("a=1&key=K&b=%2f&key=L", "a=1&b=%2f"),
            ("%6Bey=K&a", "a"),
            ("key", ""),
            ("keys=1&a", "keys=1&a"),
        ] {
            assert_eq!(without_parameter(query, "key"), expected);
        }
        assert!(matches!(without_parameter("a=1&&b", "key"), Cow::Borrowed("a=1&&b")));
    }

    #[test]
    fn cookies_over_several_lines() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; session=abc=; b"));
        headers.append(COOKIE, HeaderValue::from_static("session=evil"));
        assert_eq!(cookie_value(&headers, "session"), Ok(Some("abc=\nevil".into())));
        assert_eq!(cookie_value(&headers, "b"), Ok(None));
        assert_eq!(cookie_value(&headers, "ession"), Ok(None));
        headers.append(COOKIE, HeaderValue::from_bytes(b"raw=\xff").expect("opaque"));
        assert_eq!(cookie_value(&headers, "raw"), Err(NotUtf8));
    }

    proptest! {
        #[test]
        fn what_was_removed_cannot_be_found(query in "[a-c%6+=&]{0,30}", name in "[a-c]{1,2}") {
            let rest = without_parameter(&query, &name);
            prop_assert_eq!(query_value(&rest, &name), Ok(None));
            let again = without_parameter(&rest, &name);
            prop_assert_eq!(&rest, &again);
        }

        #[test]
        fn never_panics(query in any::<String>(), name in any::<String>()) {
            let _ = query_value(&query, &name);
            let _ = without_parameter(&query, &name);
        }
    }
}
