//! The command line: a file per subcommand; prints, and chooses the exit code.

pub mod check;
pub mod key;
pub mod schema;
