//! Percent-encoding, queries and cookies: what policies do to addresses.

/// Appends `value` as one path segment or query value: everything but RFC 3986's unreserved
/// characters is encoded, `/` and `%` too. Segments of dots stay: see [`is_dots`].
pub fn encode_into(out: &mut String, value: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push('%');
            out.push(HEX[usize::from(byte >> 4)] as char);
            out.push(HEX[usize::from(byte & 15)] as char);
        }
    }
}

/// Whether a path segment means "here" or "one up" to whoever normalises the path.
pub fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// The query without a parameter of this name, written in whatever way; none if it has none.
pub fn query_without(query: &str, name: &str) -> Option<String> {
    without(query, '&', |pair| same_name(name_of(pair), name))
}

/// A `cookie` field without a cookie of this name; none if it has none.
pub fn cookie_without(cookie: &str, name: &str) -> Option<String> {
    without(cookie, ';', |crumb| crumb.split_once('=').is_some_and(|(written, _)| written.trim() == name))
}

/// The values of a parameter, as they stand, under its name in whatever spelling.
pub fn query_values<'q>(query: &'q str, name: &str) -> impl Iterator<Item = &'q str> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(move |(written, _)| same_name(written, name)).map(|(_, value)| value)
}

/// The values of a cookie, without white space around them.
pub fn cookie_values<'c>(cookie: &'c str, name: &str) -> impl Iterator<Item = &'c str> {
    let crumbs = cookie.split(';').filter_map(|crumb| crumb.split_once('='));
    crumbs.filter(move |(written, _)| written.trim() == name).map(|(_, value)| value.trim())
}

/// In one pass, and never longer than the text was, whoever wrote it: of the rest nothing is spelled
/// anew, and what is empty goes too.
fn without(text: &str, cut: char, unwanted: impl Fn(&str) -> bool) -> Option<String> {
    let mut kept = String::new();
    let mut found = false;
    for part in text.split(cut) {
        if unwanted(part) {
            found = true;
        } else if kept.is_empty() {
            kept.push_str(part.trim_start());
        } else if !part.trim_start().is_empty() {
            kept.push(cut);
            kept.push_str(part);
        }
    }
    kept.truncate(kept.trim_end().len());
    found.then_some(kept)
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(written, _)| written)
}

/// Compares a parameter's name as written, percent-encoded or not, with a plain one. Case does
/// not count, because it does not count where a plan reads `query:NAME`.
fn same_name(written: &str, name: &str) -> bool {
    let mut left = written.as_bytes();
    let mut right = name.bytes();
    while let Some((&byte, rest)) = left.split_first() {
        let (byte, rest) = match (byte, rest) {
            (b'%', [high, low, rest @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, rest),
                _ => (byte, &left[1..]),
            },
            (b'+', _) => (b' ', rest),
            _ => (byte, rest),
        };
        if !right.next().is_some_and(|expected| expected.eq_ignore_ascii_case(&byte)) {
            return false;
        }
        left = rest;
    }
    right.next().is_none()
}

fn digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoding_leaves_nothing_that_structures_a_uri() {
        let mut out = String::from("/x/");
        encode_into(&mut out, "a b/../%2f?c=d&é~");
        assert_eq!(out, "/x/a%20b%2F..%2F%252f%3Fc%3Dd%26%C3%A9~");
    }

    #[test]
    fn a_parameter_goes_in_every_spelling() {
        let check = |query: &str, expected: Option<&str>| {
            assert_eq!(query_without(query, "subscription-key").as_deref(), expected, "{query}");
        };
        check("a=1&b=2", None);
        check("", None);
        check("subscription-key=k", Some(""));
        check("a=1&subscription-key=k&b=2&subscription-key=l", Some("a=1&b=2"));
        check("subscription%2Dkey=k&a=%2", Some("a=%2"));
        check("Subscription-KEY&x", Some("x"));
        check("subscription-key2=k&%=1&subscription-ke=1", None);
    }

    #[test]
    fn a_cookie_goes() {
        assert_eq!(cookie_without("a=1; token=x.y; b=2", "token").as_deref(), Some("a=1; b=2"));
        assert_eq!(cookie_without("token=x", "token").as_deref(), Some(""));
        assert_eq!(cookie_without("a=token; tokens=1", "token"), None);
        assert_eq!(
            cookie_without(" a=1 ;token=x;;b=2;c ; token=y ;", "token").as_deref(),
            Some("a=1 ;b=2;c")
        );
    }

    #[test]
    fn all_values_of_a_name() {
        assert_eq!(query_values("T%6f=1&to=&x=2&to&TO=%20", "to").collect::<Vec<_>>(), ["1", "", "", "%20"]);
        assert_eq!(cookie_values("to=1; x=2; to ; to = 3 ;TO=4", "to").collect::<Vec<_>>(), ["1", "3"]);
    }

    #[test]
    fn what_is_left_is_never_longer() {
        let many = ["", " ", "a", "a=1", " a=1", "a=1 "].map(|crumb| format!("{crumb};").repeat(50_000));
        for crumbs in many {
            let cookie = format!("{crumbs}token=x;{crumbs}");
            let rest = cookie_without(&cookie, "token").expect("it is there");
            assert!(rest.len() < 2 * crumbs.len() && !rest.contains("token"), "{:?}", &cookie[..10]);
            assert!(rest.capacity() <= 2 * cookie.len());
        }
        assert_eq!(cookie_without(&format!("{}token=x", ";".repeat(100_000)), "token").as_deref(), Some(""));
        assert_eq!(query_without("&&x=1&y&&token=z", "token").as_deref(), Some("x=1&y"));
    }
}
