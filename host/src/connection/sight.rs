//! Sees in the raw bytes of an HTTP/1 head what hyper drops before anybody can judge it.
//!
//! hyper 1.12 cuts a `#fragment` off the target, and where `Content-Length` and
//! `Transfer-Encoding` come together it removes the former (and closes afterwards, as RFC 9112
//! section 6.1 allows). Neither can harm what stands behind the gateway, but a client that sends
//! such things is attacking or broken, and is to be told so. `wire` feeds the bytes of a head
//! that begins where a read begins; a pipelined one is not seen, and stays what hyper makes of it.

use memchr::{memchr, memchr_iter};

/// The longest field name looked for, with its colon.
const LINE_HELD: usize = "transfer-encoding:".len();

/// What was seen, as bits that travel in one byte.
pub(super) const FRAGMENT: u8 = 1;
pub(super) const LENGTH: u8 = 2;
pub(super) const ENCODING: u8 = 4;
const DONE: u8 = 8;

#[derive(Debug)]
pub(super) struct Sight {
    seen: u8,
    /// In the request line still.
    first: bool,
    /// The request line so far has a `#`.
    hash: bool,
    /// The start of a line that came in several reads.
    held: [u8; LINE_HELD],
    held_length: u8,
}

impl Sight {
    /// Sees nothing until `begin`.
    pub(super) const fn new() -> Sight {
        Sight { seen: DONE, first: true, hash: false, held: [0; LINE_HELD], held_length: 0 }
    }

    /// The next byte is the first of a head.
    pub(super) fn begin(&mut self) {
        *self = Sight { seen: 0, ..Sight::new() };
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> u8 {
        self.seen & !DONE
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if self.seen & DONE != 0 {
            return;
        }
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            self.end_line(&bytes[start..end]);
            start = end + 1;
            if self.seen & DONE != 0 {
                return;
            }
        }
        self.hold(&bytes[start..]);
    }

    fn end_line(&mut self, rest: &[u8]) {
        if self.first {
            self.hash |= memchr(b'#', rest).is_some();
            // An empty line may come before a request line (RFC 9112 section 2.2).
            if matches!(
                (&self.held[..usize::from(self.held_length)], rest),
                (b"", b"" | b"\r") | (b"\r", b"")
            ) {
                self.held_length = 0;
                return;
            }
            if self.hash && ends_request_line(rest) {
                self.seen |= FRAGMENT;
            }
            self.first = false;
        } else if self.held_length == 0 {
            self.seen |= classify(rest);
        } else {
            self.hold(rest);
            self.seen |= classify(&self.held[..usize::from(self.held_length)]);
        }
        self.held_length = 0;
    }

    /// Keeps the start of a line whose end has not come.
    fn hold(&mut self, part: &[u8]) {
        if self.first {
            self.hash |= memchr(b'#', part).is_some();
        }
        let length = usize::from(self.held_length);
        let more = part.len().min(LINE_HELD - length);
        self.held[length..length + more].copy_from_slice(&part[..more]);
        self.held_length = u8::try_from(length + more).unwrap_or(0);
    }
}

/// A line that ends otherwise is the rest of a pipelined head, in which `#` is harmless.
fn ends_request_line(rest: &[u8]) -> bool {
    let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    [b"HTTP/1.1", b"HTTP/1.0"].iter().any(|version| {
        let length = rest.len().min(version.len());
        rest[rest.len() - length..] == version[version.len() - length..]
    })
}

fn classify(line: &[u8]) -> u8 {
    let is = |name: &[u8]| line.len() >= name.len() && line[..name.len()].eq_ignore_ascii_case(name);
    match line.first() {
        None | Some(b'\r') => DONE,
        Some(b'c' | b'C') if is(b"content-length:") => LENGTH,
        Some(b't' | b'T') if is(b"transfer-encoding:") => ENCODING,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn see(parts: &[&[u8]]) -> u8 {
        let mut sight = Sight::new();
        sight.begin();
        for part in parts {
            sight.feed(part);
        }
        sight.seen()
    }

    const CASES: &[(&str, u8)] = &[
        ("GET / HTTP/1.1\r\nHost: a\r\nReferer: #\r\n\r\n", 0),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", FRAGMENT),
        ("\r\nGET /# HTTP/1.0\n\n", FRAGMENT),
        (
            "POST / HTTP/1.1\r\ncontent-Length: 5\r\nhost: a\r\nTRANSFER-encoding: chunked\r\n\r\n",
            LENGTH | ENCODING,
        ),
        ("POST / HTTP/1.1\nTransfer-Encoding: chunked\n\nContent-Length: 5\n", ENCODING),
        ("POST / HTTP/1.1\r\nX-Content-Length: 5\r\nContent-Lengthy: 5\r\n\r\n", 0),
        ("gent: x#y\r\nhost: a\r\n\r\n", 0),
    ];

    #[test]
    fn in_one_read_or_many() {
        for (head, expected) in CASES {
            assert_eq!(see(&[head.as_bytes()]), *expected, "{head}");
            let bytes: Vec<&[u8]> = head.as_bytes().chunks(1).collect();
            // A `#` in the rest of a pipelined head is told by the whole line only.
            if head.starts_with(['G', 'P', '\r']) {
                assert_eq!(see(&bytes), *expected, "{head}");
            }
        }
    }

    #[test]
    fn nothing_before_a_head_begins() {
        let mut sight = Sight::new();
        sight.feed(b"GET /# HTTP/1.1\r\n\r\n");
        assert_eq!(sight.seen(), 0);
    }

    proptest! {
        #[test]
        fn where_it_is_split_makes_no_difference(case in 0..CASES.len(), at in 0usize..80, bytes in any::<Vec<u8>>()) {
            let (head, expected) = CASES[case];
            let (a, b) = head.as_bytes().split_at(at.min(head.len()));
            if head.starts_with(['G', 'P', '\r']) {
                prop_assert_eq!(see(&[a, b]), expected);
            }
            let _ = see(&[&bytes, a]);
        }
    }
}
