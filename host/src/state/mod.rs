//! What the gateway remembers between requests: buckets, rate limits, quota counters.
//!
//! Called by `plugin` (the `shared-state` and `rate-limit` imports), `consumer` (quotas) and
//! `server` (sweeps, shutdown). Everything here is shared by all workers and outlives reloads.
//! Never waits for a disk on the request path and never grows without a bound.

pub mod bucket;
pub mod counter;
mod file;
pub mod limiter;
pub(crate) mod registry;

pub use bucket::{Bucket, BucketLimits, Buckets};
pub use counter::{Counter, Counters, Exceeded, Remaining};
pub use limiter::{Limiter, Limiters, Outcome, Quota};

use std::fmt;
use std::path::PathBuf;

/// Why state cannot be opened or made.
#[derive(Debug)]
pub enum StateError {
    /// Another process has the file open.
    InUse { path: PathBuf },
    /// The file is not a state file, or is damaged.
    Corrupt { path: PathBuf, cause: String },
    /// The file cannot be opened, read or written.
    Io { path: PathBuf, cause: String },
    /// The thread that writes cannot be started.
    NoThread { cause: String },
    /// There are more quota counters than `counter::COUNTERS_MAX`.
    TooManyCounters,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::InUse { path } => {
                write!(f, "state file {} is in use by another process", path.display())
            }
            StateError::Corrupt { path, cause } => write!(
                f,
                "state file {} is not a state file or is damaged ({cause}); move it away to start with empty counters",
                path.display()
            ),
            StateError::Io { path, cause } => {
                write!(f, "state file {} cannot be used: {cause}", path.display())
            }
            StateError::NoThread { cause } => write!(f, "no thread to write state: {cause}"),
            StateError::TooManyCounters => {
                write!(f, "more than {} quota counters", counter::COUNTERS_MAX)
            }
        }
    }
}

impl std::error::Error for StateError {}
