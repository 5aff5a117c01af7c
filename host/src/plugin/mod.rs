//! The plugin runtime: components on disk become instances that answer hooks.
//!
//! `compile` loads plugins and makes policies; `chain` leases instances and calls hooks. The lives:
//! `Artifacts` (compiled code) → `Plugin` (checked component) → `Policy` (configured, with its
//! plan) → `Instance` (one per concurrent call, in a worker's `Pool`). Never touches an HTTP
//! message: values go in, verdicts come out.

pub mod artifact;
pub mod bindings;
mod block;
mod compiler;
pub mod engine;
mod exports;
pub mod facts;
pub mod failure;
pub mod guest;
pub mod hook;
mod imports;
pub mod instance;
mod lift;
pub mod load;
mod outline;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod quarantine;
pub mod schema;
pub mod seats;
mod shelf;
mod ticker;
mod trap;

pub use bindings::{BodyVerdict, ChunkVerdict, Direction, Edit, Reply, Verdict};
pub use exports::Exports;
pub use facts::{Facts, FetchJob, FetchPort};
pub use failure::Failure;
pub use instance::Instance;
pub use load::Plugin;
pub use policy::{Policy, Settings};
pub use pool::{Lease, Pool};
pub use seats::Seats;
