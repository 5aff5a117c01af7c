//! The one path normalisation (RFC 3986, 6.2.2): what comes out is what the router matches, what
//! policies read and what upstreams get, so nothing means one thing here and another there.
//!
//! Called by `exchange` on each request and on a policy's edit of `:path`, by `router` on
//! prefixes and templates. Never decodes twice, never guesses: what could be read in two ways is
//! refused.
//!
//! | in | out |
//! | --- | --- |
//! | escapes of unreserved characters (`%41`, `%7e`, `%2e`) | decoded, once |
//! | other escapes (`%c3%bc`) | kept, hexadecimal digits in upper case |
//! | `"` `<` `>` `[` `]` `^` `` ` `` `{` `\|` `}`, space, bytes beyond ASCII | escaped |
//! | `.` and `..` segments, also spelled `%2e` | resolved; refused above the root |
//! | empty segments (`//`) | collapsed, before `..` is resolved |
//! | `%2f`, `%5c`, `\` | refused: a separator to some, not to others |
//! | control characters and their escapes (`%00`, `%7f`) | refused |
//! | `%25` before two digits that spell `.` `/` `\` `%` `;` or a control character | refused |
//! | `%` without two hexadecimal digits | refused |
//! | escapes that are not UTF-8 (`%c0%ae`, `%ff`) | refused: overlong forms hide dots and slashes |
//! | `..;x` and `.;x`, also spelled `%3b`; a segment that begins with `;` | refused |
//! | `?` and `#` | refused; the caller has cut the query off |
//! | a trailing slash | kept |
//!
//! Other path parameters (`/a;x=1`) pass; the router compares the segment's name before the `;`.

use std::borrow::Cow;

/// Why a path or query is refused; all of them are 400 to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathFault {
    NotAbsolute,
    InvalidEscape,
    EncodedSeparator,
    Backslash,
    ControlCharacter,
    DoubleEncoding,
    NotUtf8,
    AboveRoot,
    AmbiguousParameters,
    Delimiter,
}

impl PathFault {
    /// For a problem's detail and the log.
    pub const fn text(self) -> &'static str {
        match self {
            PathFault::NotAbsolute => "the path does not begin with a slash",
            PathFault::InvalidEscape => "the path has a `%` without two hexadecimal digits",
            PathFault::EncodedSeparator => "the path has an encoded slash or backslash",
            PathFault::Backslash => "the path has a backslash",
            PathFault::ControlCharacter => "the path or query has a control character",
            PathFault::DoubleEncoding => "the path is encoded twice",
            PathFault::NotUtf8 => "the path's escapes are not UTF-8",
            PathFault::AboveRoot => "the path climbs above the root",
            PathFault::AmbiguousParameters => "the path has parameters on a dot or empty segment",
            PathFault::Delimiter => "the path or query has a character that ends it",
        }
    }
}

/// The normal form of an absolute path without its query; borrowed if `raw` has it already.
pub fn normalise(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    if !raw.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    if surely_normal(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    let spelled = spell(raw.as_bytes())?;
    check_escapes(spelled.as_bytes())?;
    let resolved = resolve(&spelled)?;
    Ok(if resolved == raw { Cow::Borrowed(raw) } else { Cow::Owned(resolved) })
}

/// A query passes verbatim, but for what no query may contain.
pub fn check_query(query: &str) -> Result<(), PathFault> {
    for &byte in query.as_bytes() {
        if byte <= b' ' || byte == 0x7f {
            return Err(PathFault::ControlCharacter);
        }
        if byte == b'#' {
            return Err(PathFault::Delimiter);
        }
    }
    Ok(())
}

/// What to do with a byte that stands for itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `pchar` of RFC 3986 without the escapes: stays.
    Plain,
    Slash,
    Percent,
    Escape,
    Control,
    Backslash,
    Delimiter,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Escape; 256];
    let mut byte = 0;
    while byte < 256 {
        let plain = b"-._~!$&'()*+,;=:@";
        let mut at = 0;
        while at < plain.len() {
            if plain[at] as usize == byte {
                classes[byte] = Class::Plain;
            }
            at += 1;
        }
        if (byte as u8).is_ascii_alphanumeric() {
            classes[byte] = Class::Plain;
        }
        if byte < 0x20 || byte == 0x7f {
            classes[byte] = Class::Control;
        }
        byte += 1;
    }
    classes[b'/' as usize] = Class::Slash;
    classes[b'%' as usize] = Class::Percent;
    classes[b'\\' as usize] = Class::Backslash;
    classes[b'?' as usize] = Class::Delimiter;
    classes[b'#' as usize] = Class::Delimiter;
    classes
};

/// One pass, no allocation. False also for some that are normal, and for all that are refused.
fn surely_normal(path: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += match CLASSES[byte as usize] {
            Class::Plain => 1,
            Class::Slash if surely_normal_segment(&path[at + 1..]) => 1,
            Class::Percent if surely_normal_escape(&path[at..]) => 3,
            _ => return false,
        };
    }
    true
}

/// Whether the segment at the start of `rest` is neither empty, nor dots, nor parameters only.
fn surely_normal_segment(rest: &[u8]) -> bool {
    match rest {
        [b'/' | b';', ..] | [b'%', b'3', b'B', ..] => false,
        [b'.', rest @ ..] => {
            let rest = rest.strip_prefix(b".").unwrap_or(rest);
            !matches!(rest, [] | [b'/' | b';' | b'%', ..])
        }
        _ => true,
    }
}

fn surely_normal_escape(path: &[u8]) -> bool {
    match path {
        [b'%', high @ (b'0'..=b'9' | b'A'..=b'F'), low @ (b'0'..=b'9' | b'A'..=b'F'), rest @ ..] => {
            match escape_value(*high, *low) {
                Some(b'%') => double_encoded(rest).is_none(),
                Some(b'/' | b'\\' | 0..0x20 | 0x7f..) | None => false,
                Some(byte) => !unreserved(byte),
            }
        }
        _ => false,
    }
}

/// Spells every character in its one way.
fn spell(raw: &[u8]) -> Result<String, PathFault> {
    let mut spelled = String::with_capacity(raw.len() + 16);
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        match CLASSES[byte as usize] {
            Class::Plain | Class::Slash => spelled.push(byte as char),
            Class::Escape => push_escape(&mut spelled, byte),
            Class::Control => return Err(PathFault::ControlCharacter),
            Class::Backslash => return Err(PathFault::Backslash),
            Class::Delimiter => return Err(PathFault::Delimiter),
            Class::Percent => {
                let digits = (raw.get(at), raw.get(at + 1));
                let (Some(&high), Some(&low)) = digits else { return Err(PathFault::InvalidEscape) };
                at += 2;
                match escape_value(high, low).ok_or(PathFault::InvalidEscape)? {
                    b'/' | b'\\' => return Err(PathFault::EncodedSeparator),
                    0..0x20 | 0x7f => return Err(PathFault::ControlCharacter),
                    byte if unreserved(byte) => spelled.push(byte as char),
                    byte => push_escape(&mut spelled, byte),
                }
            }
        }
    }
    Ok(spelled)
}

/// Looks at the escapes of a spelled path: no second layer of encoding, and UTF-8 throughout.
/// Only afterwards, because `%25%32%66` shows what it is only when its digits are decoded.
fn check_escapes(spelled: &[u8]) -> Result<(), PathFault> {
    let mut run = Vec::new();
    let mut at = 0;
    while let Some(&byte) = spelled.get(at) {
        let escaped = match spelled.get(at + 1..at + 3) {
            Some(&[high, low]) if byte == b'%' => escape_value(high, low),
            _ => None,
        };
        at += if escaped.is_some() { 3 } else { 1 };
        match escaped {
            Some(byte @ 0x80..) => {
                run.push(byte);
                continue;
            }
            Some(b'%') => {
                if let Some(0..0x20 | 0x7f | b'.' | b'/' | b'\\' | b'%' | b';') =
                    double_encoded(&spelled[at..])
                {
                    return Err(PathFault::DoubleEncoding);
                }
            }
            _ => {}
        }
        if !run.is_empty() && std::str::from_utf8(&run).is_err() {
            return Err(PathFault::NotUtf8);
        }
        run.clear();
    }
    if std::str::from_utf8(&run).is_err() { Err(PathFault::NotUtf8) } else { Ok(()) }
}

/// What the two bytes after a `%25` would be if somebody decoded again.
fn double_encoded(after: &[u8]) -> Option<u8> {
    match after {
        [high, low, ..] => escape_value(*high, *low),
        _ => None,
    }
}

/// Resolves dot segments and collapses empty ones.
fn resolve(spelled: &str) -> Result<String, PathFault> {
    let mut resolved = String::with_capacity(spelled.len());
    let mut segments = spelled.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." => {}
            ".." => {
                let cut = resolved.rfind('/').ok_or(PathFault::AboveRoot)?;
                resolved.truncate(cut);
            }
            _ => {
                let name = segment.split(';').next().unwrap_or_default();
                let name = name.split("%3B").next().unwrap_or_default();
                if matches!(name, "" | "." | "..") {
                    return Err(PathFault::AmbiguousParameters);
                }
                resolved.push('/');
                resolved.push_str(segment);
                continue;
            }
        }
        if last {
            resolved.push('/');
        }
    }
    if resolved.is_empty() {
        resolved.push('/');
    }
    Ok(resolved)
}

/// RFC 3986, 2.3.
fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The byte that two hexadecimal digits spell.
pub(super) fn escape_value(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Appends `%XX`.
pub(super) fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(DIGITS[usize::from(byte >> 4)] as char);
    text.push(DIGITS[usize::from(byte & 15)] as char);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(raw: &str, expected: Result<&str, PathFault>) {
        let found = normalise(raw);
        assert_eq!(found.as_deref().map_err(|fault| *fault), expected, "{raw}");
        if expected == Ok(raw) {
            assert!(matches!(found, Ok(Cow::Borrowed(_))), "{raw} should be borrowed");
        }
    }

    #[test]
    fn what_is_normal_stays() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c/~d",
            "/.well-known/jwks.json",
            "/..a/.b",
            "/a%20b",
            "/a;x=1/b",
            "/100%25",
            "/%C3%BC",
            "/...",
            "/a:b@c",
            "/%2541",
            "/.%20",
        ] {
            check(path, Ok(path));
        }
    }

    #[test]
    fn one_spelling_for_each_character() {
        check("/%41%7e", Ok("/A~"));
        check("/%c3%bc", Ok("/%C3%BC"));
        check("/ü", Ok("/%C3%BC"));
        check("/a|b[c]{d}^\"<>`", Ok("/a%7Cb%5Bc%5D%7Bd%7D%5E%22%3C%3E%60"));
        check("/a%2bb+c", Ok("/a%2Bb+c"));
    }

    #[test]
    fn dots_and_empty_segments() {
        check("/public/../admin", Ok("/admin"));
        check("/public/%2e%2e/admin", Ok("/admin"));
        check("/public/.%2E/admin", Ok("/admin"));
        check("//admin", Ok("/admin"));
        check("/a///b//", Ok("/a/b/"));
        check("/a//../b", Ok("/b"));
        check("/a/./b/.", Ok("/a/b/"));
        check("/a/b/..", Ok("/a/"));
        check("/a/..", Ok("/"));
        check("/..", Err(PathFault::AboveRoot));
        check("/a/../../b", Err(PathFault::AboveRoot));
        check("//..", Err(PathFault::AboveRoot));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        check("", Err(PathFault::NotAbsolute));
        check("*", Err(PathFault::NotAbsolute));
        check("admin", Err(PathFault::NotAbsolute));
        check("/public%2f..%2fadmin", Err(PathFault::EncodedSeparator));
        check("/a%5Cb", Err(PathFault::EncodedSeparator));
        check("/a\\..\\b", Err(PathFault::Backslash));
        check("/a%00", Err(PathFault::ControlCharacter));
        check("/a%7f", Err(PathFault::ControlCharacter));
        check("/a\r\nb", Err(PathFault::ControlCharacter));
        check("/a%", Err(PathFault::InvalidEscape));
        check("/a%2", Err(PathFault::InvalidEscape));
        check("/a%zz", Err(PathFault::InvalidEscape));
        check("/a%+1", Err(PathFault::InvalidEscape));
        check("/a%252fb", Err(PathFault::DoubleEncoding));
        check("/%252e%252e/b", Err(PathFault::DoubleEncoding));
        check("/a%255Cb", Err(PathFault::DoubleEncoding));
        check("/a%25%32%66b", Err(PathFault::DoubleEncoding));
        check("/a%25252fb", Err(PathFault::DoubleEncoding));
        check("/a%2500", Err(PathFault::DoubleEncoding));
        check("/%c0%ae%c0%ae/admin", Err(PathFault::NotUtf8));
        check("/%ff", Err(PathFault::NotUtf8));
        check("/%c3", Err(PathFault::NotUtf8));
        check("/%c3a%bc", Err(PathFault::NotUtf8));
        check("/a;x/..;/b", Err(PathFault::AmbiguousParameters));
        check("/a/..;y=1", Err(PathFault::AmbiguousParameters));
        check("/a/%2e%2e;/b", Err(PathFault::AmbiguousParameters));
        check("/a/..%3b/b", Err(PathFault::AmbiguousParameters));
        check("/a/.;/b", Err(PathFault::AmbiguousParameters));
        check("/a/;x/b", Err(PathFault::AmbiguousParameters));
        check("/a/%3Bx/b", Err(PathFault::AmbiguousParameters));
        check("/public#/../admin", Err(PathFault::Delimiter));
        check("/public?x", Err(PathFault::Delimiter));
    }

    #[test]
    fn queries() {
        assert_eq!(check_query("a=1&b=%2f..%2f&c=ü"), Ok(()));
        assert_eq!(check_query("a=\0"), Err(PathFault::ControlCharacter));
        assert_eq!(check_query("a b"), Err(PathFault::ControlCharacter));
        assert_eq!(check_query("a#b"), Err(PathFault::Delimiter));
    }

    /// The table of the module's head, step by step, without regard to speed.
    fn oracle(raw: &str) -> Option<String> {
        #[derive(Clone, PartialEq)]
        enum Token {
            Literal(char),
            Escape(u8),
        }
        let mut tokens = Vec::new();
        let mut chars = raw.chars();
        while let Some(c) = chars.next() {
            if c == '%' {
                let digits: String = chars.by_ref().take(2).collect();
                if digits.len() != 2 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
                    return None;
                }
                let byte = u8::from_str_radix(&digits, 16).ok()?;
                if byte < 0x20 || byte == 0x7f || byte == b'/' || byte == b'\\' {
                    return None;
                }
                let c = byte as char;
                tokens.push(if c.is_ascii_alphanumeric() || "-._~".contains(c) {
                    Token::Literal(c)
                } else {
                    Token::Escape(byte)
                });
            } else if c.is_ascii_control() || "\\?#".contains(c) {
                return None;
            } else if c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/".contains(c) {
                tokens.push(Token::Literal(c));
            } else {
                tokens.extend(c.to_string().bytes().map(Token::Escape));
            }
        }
        for window in tokens.windows(3) {
            if let [Token::Escape(b'%'), Token::Literal(high), Token::Literal(low)] = window
                && let Ok(byte) = u8::from_str_radix(&format!("{high}{low}"), 16)
                && high.is_ascii_hexdigit()
                && (byte < 0x20 || byte == 0x7f || "./\\%;".contains(byte as char))
            {
                return None;
            }
        }
        let runs = tokens.split(|token| !matches!(token, Token::Escape(0x80..)));
        for run in runs {
            let bytes = run.iter().map(|token| if let Token::Escape(byte) = token { *byte } else { 0 });
            String::from_utf8(bytes.collect()).ok()?;
        }
        let mut segments = tokens.split(|token| *token == Token::Literal('/'));
        if !segments.next()?.is_empty() {
            return None;
        }
        let mut kept: Vec<String> = Vec::new();
        let mut directory = false;
        for segment in segments {
            let is_semicolon = |token: &Token| matches!(token, Token::Literal(';') | Token::Escape(b';'));
            let text: String = segment
                .iter()
                .map(|token| match token {
                    Token::Literal(c) => c.to_string(),
                    Token::Escape(byte) => format!("%{byte:02X}"),
                })
                .collect();
            directory = matches!(text.as_str(), "" | "." | "..");
            match text.as_str() {
                "" | "." => {}
                ".." => drop(kept.pop()?),
                _ => {
                    if let Some(at) = segment.iter().position(is_semicolon)
                        && segment[..at].iter().all(|token| *token == Token::Literal('.'))
                        && at <= 2
                    {
                        return None;
                    }
                    kept.push(text);
                }
            }
        }
        let slash = if directory && !kept.is_empty() { "/" } else { "" };
        Some(format!("/{}{slash}", kept.join("/")))
    }

    fn tricky_path() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => Just("/".to_owned()),
            4 => "[a-c]{1,2}",
            2 => Just(".".to_owned()),
            2 => Just("..".to_owned()),
            1 => Just("%2e".to_owned()),
            1 => Just("%2E".to_owned()),
            1 => Just(";".to_owned()),
            1 => Just("%3b".to_owned()),
            1 => Just("%25".to_owned()),
            1 => Just("%C3%BC".to_owned()),
            1 => Just("ü".to_owned()),
            1 => "%[0-9a-fA-F]{2}",
            1 => "[ -~]",
            1 => Just("%".to_owned()),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn equals_the_oracle(raw in prop_oneof![9 => tricky_path(), 1 => "\\PC{0,20}"]) {
            prop_assert_eq!(normalise(&raw).ok().map(Cow::into_owned), oracle(&raw));
        }

        #[test]
        fn is_idempotent_and_unambiguous(raw in tricky_path()) {
            if let Ok(normal) = normalise(&raw) {
                prop_assert_eq!(normalise(&normal).as_deref(), Ok(&*normal));
                prop_assert!(normal.is_ascii() && normal.starts_with('/'));
                let lower = normal.to_ascii_lowercase();
                for never in ["//", "/./", "/../", "%2f", "%5c", "\\", "%00", "%2e", "..;", "/;", "%252f", "#"] {
                    prop_assert!(!lower.contains(never) || (never == "..;" && !lower.contains("/..;")),
                        "{} in {}", never, normal);
                }
                prop_assert!(!normal.ends_with("/..") && !normal.ends_with("/."));
            }
        }

        #[test]
        fn never_panics(raw in any::<String>()) {
            let _ = normalise(&raw);
            let _ = check_query(&raw);
        }
    }
}
