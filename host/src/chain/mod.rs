//! Runs a route's policies: in order on a request, in reverse on its response.
//!
//! Called by `exchange`, calls `plugin`. Holds nothing between hooks; what a policy must remember
//! travels in its note. Never picks an upstream, never writes to a client.

pub mod body;
pub mod edit;
pub mod log;
pub mod plan;
pub mod request;
pub mod response;
pub mod step;
pub mod subject;
mod turn;
pub mod values;

pub use plan::{Moment, Read, Writes};
pub use step::{Chain, Step};
pub use subject::Subject;

use crate::plugin::{Failure, Reply};

/// Why a chain ended an exchange before its upstream, or changed its answer.
#[derive(Debug)]
pub enum Stop {
    /// The policy at this place answered.
    Reply { step: usize, reply: Reply },
    /// The policy at this place failed, and is not to be skipped.
    Failed { step: usize, failure: Failure },
    /// A value that a policy wanted to read is not UTF-8.
    NotUtf8 { step: usize },
    /// A body is longer than the policy at this place takes.
    TooLarge { step: usize },
    /// A body broke off while it was collected.
    Broken,
}
