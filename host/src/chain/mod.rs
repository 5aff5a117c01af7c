//! (room: chain)
