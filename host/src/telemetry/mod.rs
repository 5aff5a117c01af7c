//! What the gateway tells of itself: metrics, access log, and the closed list of reasons.
//!
//! Called by every room above it. Never changes what happens to a request.

pub mod reason;
