//! What the gateway tells of itself: metrics, access log, diagnostics, and the closed list of
//! reasons.
//!
//! Called by every room above it. Never changes what happens to a request.

pub mod access_log;
pub mod metric;
mod queue;
pub mod reason;
pub mod trace;

pub use metric::enter_worker;
