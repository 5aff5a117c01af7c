//! (room: cli)

pub mod check;
pub mod key;
pub mod schema;
