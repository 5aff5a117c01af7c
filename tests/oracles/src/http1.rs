//! A strict reader of HTTP/1.1 requests, written from RFC 9112 alone: what it takes, every server
//! reads the same way.
//!
//! `exchange` reads with it what a client sends and what the upstream got. What it does not take is
//! either `Incomplete` or left to the gateway (`Doubtful`).

/// A request that can be read in one way only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// With the bytes that it takes.
    Whole(Message, usize),
    /// More bytes could make it whole.
    Incomplete,
    /// Not plain, for this reason.
    Doubtful(&'static str),
}

/// Far below what the gateway takes by default.
const HEAD_BYTES_MAX: usize = 8 << 10;
const FIELDS_MAX: usize = 50;

pub fn read(bytes: &[u8]) -> Reading {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        let plain = bytes.len() < HEAD_BYTES_MAX && begins_plainly(bytes);
        return if plain { Reading::Incomplete } else { Reading::Doubtful("no end of the head") };
    };
    match head(&bytes[..end]) {
        Ok(message) => body(message, bytes, end + 4),
        Err(why) => Reading::Doubtful(why),
    }
}

/// An unfinished head is left alone only if all its lines so far are.
fn begins_plainly(bytes: &[u8]) -> bool {
    let Some(last) = find_last(bytes, b"\r\n") else {
        return bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    };
    head(&bytes[..last]).is_ok_and(|_| bytes[last + 2..].iter().all(|byte| matches!(byte, b' '..=b'~')))
        || bytes.is_empty()
}

fn head(head: &[u8]) -> Result<Message, &'static str> {
    if head.len() > HEAD_BYTES_MAX {
        return Err("a long head");
    }
    // Bytes beyond ASCII may stand in values (RFC 9110, 5.5), whatever they mean.
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1"), None) =
        (first.next(), first.next(), first.next(), first.next())
    else {
        return Err("the request line");
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err("the method");
    }
    if !target.starts_with('/')
        || !target.bytes().all(|byte| matches!(byte, b'!'..=b'~'))
        || target.contains('#')
    {
        return Err("the target");
    }
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err("a field's name");
        }
        if !value.chars().all(|c| matches!(c, ' '..='~' | '\t' | '\u{80}'..)) {
            return Err("a field's value");
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_string()));
    }
    if fields.len() > FIELDS_MAX {
        return Err("many fields");
    }
    Ok(Message { method: method.into(), target: target.into(), fields, body: Vec::new() })
}

/// RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Message {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }
}

fn body(mut message: Message, bytes: &[u8], start: usize) -> Reading {
    match (&message.all("content-length")[..], &message.all("transfer-encoding")[..]) {
        ([], []) => Reading::Whole(message, start),
        ([length], []) => {
            let digits =
                !length.is_empty() && length.len() < 10 && length.bytes().all(|byte| byte.is_ascii_digit());
            let Some(length) = digits.then(|| length.parse::<usize>().ok()).flatten() else {
                return Reading::Doubtful("the length");
            };
            match bytes.get(start..start + length) {
                Some(body) => {
                    message.body = body.to_vec();
                    Reading::Whole(message, start + length)
                }
                None => Reading::Incomplete,
            }
        }
        ([], ["chunked"]) => chunks(message, bytes, start),
        _ => Reading::Doubtful("the framing"),
    }
}

fn chunks(mut message: Message, bytes: &[u8], start: usize) -> Reading {
    let mut at = start;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            let plain = bytes[at..].iter().all(u8::is_ascii_hexdigit) && bytes.len() - at < 6;
            return if plain { Reading::Incomplete } else { Reading::Doubtful("a chunk's size") };
        };
        let size = &bytes[at..at + line];
        if size.is_empty() || size.len() > 5 || !size.iter().all(u8::is_ascii_hexdigit) {
            return Reading::Doubtful("a chunk's size");
        }
        let size = size
            .iter()
            .fold(0, |sum, digit| sum * 16 + char::from(*digit).to_digit(16).unwrap_or(0) as usize);
        at += line + 2;
        if size == 0 {
            return match &bytes[at..] {
                [b'\r', b'\n', ..] => Reading::Whole(message, at + 2),
                [] | [b'\r'] => Reading::Incomplete,
                _ => Reading::Doubtful("trailers"),
            };
        }
        let Some(chunk) = bytes.get(at..at + size) else { return Reading::Incomplete };
        message.body.extend_from_slice(chunk);
        at += size;
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Reading::Incomplete,
            _ => return Reading::Doubtful("a chunk's end"),
        }
    }
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn find_last(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}
