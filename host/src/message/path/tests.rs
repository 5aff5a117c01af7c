//! The table of the module header, case by case, and random paths.

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
    if tokens.first() != Some(&Token::Literal('/')) {
        return None;
    }
    let segments = tokens[1..].split(|token| *token == Token::Literal('/'));
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
            let again = normalise(&normal);
            prop_assert_eq!(again.as_deref(), Ok(&*normal));
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
