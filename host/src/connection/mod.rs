//! (room: connection)
