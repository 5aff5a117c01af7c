//! Where the frames of a WebSocket begin and end (RFC 6455 section 5.2).
//!
//! `tunnel` lets the bytes of one direction pass by, so that it can put a frame of its own between
//! two of theirs. Never looks at a payload and never changes a byte.

/// The longest head: two bytes, eight of length, four of mask.
const HEAD_MAX: usize = 14;
const CLOSE: u8 = 0x8;

/// Follows one direction of a WebSocket from its first byte.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The start of a head that is not complete.
    head: [u8; HEAD_MAX],
    head_length: usize,
    /// Of the payload.
    left: u64,
    /// The frame at hand is a Close.
    closing: bool,
    closed: bool,
}

impl Frames {
    /// These bytes have passed.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let count = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= count as u64;
                bytes = &bytes[count..];
            } else {
                self.head[self.head_length] = byte;
                self.head_length += 1;
                bytes = rest;
                if self.head_length < self.head_needed() {
                    continue;
                }
                self.left = self.payload_length();
                self.closing = self.head[0] & 0xf == CLOSE;
                self.head_length = 0;
            }
            self.closed |= self.closing && self.left == 0;
        }
    }

    /// How many bytes may pass before the frame at hand ends; 0: none is at hand. Of a head that
    /// is not complete, no more than is sure to belong to it.
    pub(super) fn left(&self) -> u64 {
        match self.head_length {
            0 => self.left,
            length => (self.head_needed() - length) as u64,
        }
    }

    /// A Close has passed whole: nothing may follow it (section 5.5.1).
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes of the head at hand, as far as is known: never more than it has.
    fn head_needed(&self) -> usize {
        if self.head_length < 2 {
            return 2;
        }
        let length = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.head[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        match self.head[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.head[2], self.head[3]])),
            127 => self.head[2..10].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(mask | length as u8),
            126..65536 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![0x88; length + if masked { 4 } else { 0 }]);
        bytes
    }

    #[test]
    fn a_close_is_seen_when_it_is_whole() {
        let mut frames = Frames::default();
        frames.advance(&frame(1, false, 5));
        assert_eq!((frames.left(), frames.is_closed()), (0, false));
        let close = frame(CLOSE, true, 2);
        frames.advance(&close[..close.len() - 1]);
        assert_eq!((frames.left(), frames.is_closed()), (1, false));
        frames.advance(&close[close.len() - 1..]);
        assert_eq!((frames.left(), frames.is_closed()), (0, true));
        let mut frames = Frames::default();
        frames.advance(&frame(CLOSE, false, 0));
        assert!(frames.is_closed());
    }

    #[test]
    fn a_length_beyond_all_memory_is_only_a_number() {
        let mut frames = Frames::default();
        frames.advance(&[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        frames.advance(&[0; 1000]);
        assert_eq!(frames.left(), u64::MAX - 1000);
    }

    proptest! {
        #[test]
        fn borders_are_found_however_it_is_split(
            shapes in proptest::collection::vec((0u8..16, any::<bool>(), prop_oneof![0usize..4, 120usize..130, 65_530usize..65_540]), 1..6),
            splits in proptest::collection::vec(1usize..200, 1..50),
        ) {
            let all: Vec<Vec<u8>> = shapes.iter().map(|(opcode, masked, length)| frame(*opcode, *masked, *length)).collect();
            let mut borders: Vec<usize> = vec![0];
            for bytes in &all {
                borders.push(borders.last().unwrap() + bytes.len());
            }
            let bytes = all.concat();
            let (mut frames, mut at) = (Frames::default(), 0);
            for split in splits.iter().cycle() {
                prop_assert_eq!(frames.left() == 0, borders.contains(&at));
                if at == bytes.len() {
                    break;
                }
                // Never past the end of the frame that is being read.
                let next = borders.iter().find(|border| **border > at).unwrap();
                prop_assert!(at + frames.left() as usize <= *next);
                let end = (at + split).min(bytes.len());
                frames.advance(&bytes[at..end]);
                at = end;
            }
            let closes = shapes.iter().any(|(opcode, ..)| *opcode == CLOSE);
            prop_assert_eq!(frames.is_closed(), closes);
        }

        #[test]
        fn any_bytes_are_taken(bytes in any::<Vec<u8>>()) {
            Frames::default().advance(&bytes);
        }
    }
}
