//! HTTP/2 frames by hand, for clients that break the rules.
//!
//! Fields are encoded as literals without indexing (RFC 7541 6.2.2), so no state is kept.

use crate::raw::Connection;
use std::net::SocketAddr;

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PUSH_PROMISE: u8 = 0x5;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const ACK: u8 = 0x1;

pub const PROTOCOL_ERROR: u32 = 0x1;
pub const FRAME_SIZE_ERROR: u32 = 0x6;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload.get(at..at + 4).map_or(u32::MAX, |code| u32::from_be_bytes(code.try_into().unwrap()))
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + payload.len());
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of literals.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(&mut bytes, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

/// With a prefix of seven bits (RFC 7541 5.1).
fn integer(bytes: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return bytes.push(value as u8);
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    bytes.push(rest as u8);
}

/// The pseudo-header fields of a GET, then these.
pub fn get<'a>(path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let first = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    block(&[&first[..], more].concat())
}

/// A connection with preface and SETTINGS sent.
pub fn open(address: SocketAddr) -> Connection {
    let mut connection = Connection::open(address);
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    connection.send(frame(SETTINGS, 0, 0, &[]));
    connection
}

/// The next frame; `None` when the connection ends.
pub fn next(connection: &mut Connection) -> Option<Frame> {
    while connection.pending.len() < 9 {
        if !connection.fill().is_ok_and(|read| read > 0) {
            return None;
        }
    }
    let head = connection.read_bytes(9);
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    while connection.pending.len() < length {
        if !connection.fill().is_ok_and(|read| read > 0) {
            return None;
        }
    }
    Some(Frame { kind: head[3], flags: head[4], stream, payload: connection.read_bytes(length) })
}

/// Reads on until a frame `is_it`; `None` when the connection ends before.
pub fn until(connection: &mut Connection, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
    loop {
        let frame = next(connection)?;
        if is_it(&frame) {
            return Some(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_have_long_lengths() {
        let mut bytes = Vec::new();
        integer(&mut bytes, 1337);
        assert_eq!(bytes, [127, 0b1011_1010, 0b0000_1001]);
        assert_eq!(frame(PING, 0, 1, b"12345678")[..9], [0, 0, 8, 6, 0, 0, 0, 0, 1]);
    }
}
