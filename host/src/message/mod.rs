//! HTTP words that all rooms share: bodies, the peer, header rules, paths, problem documents.
//!
//! Called by every room of the request path. Never does I/O.

pub mod body;
pub mod peer;
