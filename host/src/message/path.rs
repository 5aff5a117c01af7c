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

/// A segment of a normal path as a server reads it: every escape decoded. Borrowed if it has none.
pub fn decode_segment(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let bytes = segment.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1..at + 3)) {
            (b'%', Some(&[high, low])) if let Some(byte) = escape_value(high, low) => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    // Normal paths are UTF-8 throughout; another keeps its escapes.
    String::from_utf8(decoded).map_or(Cow::Borrowed(segment), Cow::Owned)
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
mod tests;
