//! HTTP words that all rooms share: bodies, the peer, header rules, paths, problem documents.
//!
//! Called by every room of the request path. Never does I/O.

pub mod body;
pub mod forwarded;
pub mod headers;
pub mod id;
pub mod path;
pub mod peer;
pub mod problem;
pub mod query;
pub mod trailers;
