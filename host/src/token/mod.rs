//! (room: token)
