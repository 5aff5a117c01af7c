//! (room: consumer)
