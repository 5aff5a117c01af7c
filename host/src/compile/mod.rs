//! (room: compile)
