//! The text of one line.
//!
//! Called by `WorkerLog`. Allocates nothing but once a second, when the clock's second changes.

use super::{Answered, Entry};
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

/// Longer texts are cut and end with `…`: a path can be as long as the head may be, and one line
/// should stay readable.
pub(super) const TEXT_BYTES_MAX: usize = 2_048;

/// The text of the second last written, `2026-11-25T03:02:11`.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    fn of(&mut self, second: u64) -> &str {
        if self.second != Some(second) {
            let stamp =
                i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
            // Out of range is the year 10000.
            self.text = stamp.unwrap_or_default().to_string();
            self.text.truncate(self.text.trim_end_matches('Z').len());
            self.second = Some(second);
        }
        &self.text
    }
}

pub(super) fn write(out: &mut Vec<u8>, stamp: &mut Stamp, entry: &Entry<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(stamp.of(entry.time.as_secs()).as_bytes());
    let millis = entry.time.subsec_millis();
    out.push(b'.');
    out.extend([millis / 100, millis / 10 % 10, millis % 10].map(|digit| b'0' + digit as u8));
    out.extend_from_slice(b"Z\"");
    text(out, "id", entry.id.as_bytes());
    address(out, entry.client);
    text(out, "method", entry.method.as_bytes());
    let path = entry.path.split('?').next().unwrap_or_default();
    text(out, "path", path.as_bytes());
    let named = [
        ("api", entry.api),
        ("operation", entry.operation),
        ("consumer", entry.consumer),
        ("product", entry.product),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            text(out, name, value.as_bytes());
        }
    }
    number(out, "status", u64::from(entry.status));
    number(out, "bytes_in", entry.bytes_in);
    number(out, "bytes_out", entry.bytes_out);
    number(out, "total_us", micros(entry.total));
    if let Some(upstream) = entry.upstream {
        number(out, "upstream_us", micros(upstream));
    }
    let answered: &[u8] = match entry.answered {
        Answered::Upstream => b",\"answered\":\"upstream\"",
        Answered::Policy(_) => b",\"answered\":\"policy\"",
        Answered::Gateway => b",\"answered\":\"gateway\"",
        Answered::Client => b",\"answered\":\"client\"",
    };
    out.extend_from_slice(answered);
    if let Answered::Policy(policy) = entry.answered {
        text(out, "policy", policy.as_bytes());
    }
    text(out, "reason", entry.reason.label().as_bytes());
    text(out, "listener", entry.listener.as_bytes());
    text(out, "protocol", entry.protocol.as_bytes());
    if let Some(user_agent) = entry.user_agent {
        text(out, "user_agent", user_agent);
    }
    out.extend_from_slice(b"}\n");
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    key(out, "client");
    // A vector takes all that is written to it.
    let _ = write!(out, "\"{address}\"");
}

/// `name` is a word of ours and needs no escaping.
fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    out.push(b'"');
    // Nearly every value is plain; the scan is a few vector instructions.
    if value.len() <= TEXT_BYTES_MAX && value.iter().all(|byte| plain(*byte)) {
        out.extend_from_slice(value);
    } else {
        escaped(out, value);
    }
    out.push(b'"');
}

/// Whether a byte stands for itself in a JSON string: printable ASCII but `"` and `\`.
fn plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// RFC 8259 7. What is not UTF-8 becomes U+FFFD, as in `String::from_utf8_lossy`; the control
/// characters above ASCII are escaped too, lest a log that is looked at moves the terminal.
fn escaped(out: &mut Vec<u8>, value: &[u8]) {
    let mut rest = TEXT_BYTES_MAX;
    for chunk in value.utf8_chunks() {
        let replaced = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        for character in chunk.valid().chars().chain(replaced.chars()) {
            let Some(left) = rest.checked_sub(character.len_utf8()) else {
                return out.extend_from_slice("…".as_bytes());
            };
            rest = left;
            push(out, character);
        }
    }
}

fn push(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // All of them are below U+00A0, so two digits do.
        _ if character.is_control() => {
            let hex = |digit: u32| b"0123456789abcdef"[digit as usize & 15];
            let code = u32::from(character);
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[hex(code >> 4), hex(code)]);
        }
        _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}
