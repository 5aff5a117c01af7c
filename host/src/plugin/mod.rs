//! (room: plugin)
