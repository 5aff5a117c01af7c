//! Write a policy of the witgate gateway: a struct, its typed configuration and the hooks it wants.
//!
//! ```
//! use witgate::prelude::*;
//!
//! #[derive(Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     /// The header that carries the client's address upstream.
//!     header: String,
//! }
//!
//! struct AddAddress {
//!     header: String,
//!     address: Read,
//! }
//!
//! impl Policy for AddAddress {
//!     type Config = Config;
//!
//!     fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
//!         plan.write([&config.header]);
//!         Ok(AddAddress { address: plan.read("client:ip"), header: config.header })
//!     }
//!
//!     fn on_request(&self, request: &Request) -> Result<Verdict, String> {
//!         let address = request.get(self.address).ok_or("no client address")?;
//!         Ok(Verdict::proceed().set(&self.header, address))
//!     }
//! }
//!
//! witgate::policy!(AddAddress: on_request);
//! ```
//!
//! The crate is a `cdylib` that depends on `witgate-plugin-sdk`, `serde` and `schemars`, and
//! builds with `witgate plugin build`, or by hand with `cargo build --target
//! wasm32-unknown-unknown` and `wasm-component-ld` as the linker.
//!
//! What is where: [`Policy`] the hooks, [`Plan`] what a policy wants, [`Request`] and [`Response`]
//! what it sees, [`Verdict`] and [`Reply`] what it answers; [`mod@env`], [`log`], [`metrics`],
//! [`state`], [`limit`], [`token`], [`consumers`], [`crypto`], [`http`] what the host offers;
//! [`setting`], [`template`] and [`uri`] what configurations and addresses are made of; `testing` a
//! host to run unit tests against.
//!
//! One instance serves one call at a time, and any instance may serve any hook of any request:
//! what a policy must remember between the hooks of a request travels in its note
//! ([`Verdict::note`]), what it must remember between requests in [`state`].

#[cfg(any(test, all(target_family = "wasm", feature = "allocator")))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod block;
pub mod consumers;
pub mod crypto;
pub mod env;
#[doc(hidden)]
pub mod export;
mod field;
mod host;
pub mod http;
pub mod limit;
pub mod log;
mod message;
pub mod metrics;
mod plan;
mod policy;
mod reply;
pub mod setting;
pub mod state;
pub mod template;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod token;
pub mod uri;
mod verdict;

pub use bindings::body_stream::exports::witgate::policy::body_stream::{ChunkVerdict, Direction};
pub use bindings::imports::witgate::policy::types::{
    BodyMode, BodyVerdict, Edit, Fallback, Reply, Values, Verdict,
};
pub use field::{field_value, is_framing};
pub use message::{Body, Entry, Field, Repeated, Request, Response};
pub use plan::{Plan, Read, is_header, is_name};
pub use policy::{BodyFilter, NoConfig, PassOn, Policy};

pub use {schemars, serde, serde_json};

/// All that a policy usually names.
pub mod prelude {
    pub use crate::{
        Body, BodyVerdict, Entry, Fallback, NoConfig, Plan, Policy, Read, Reply, Request, Response, Verdict,
    };
    pub use schemars::JsonSchema;
    pub use serde::Deserialize;
}
