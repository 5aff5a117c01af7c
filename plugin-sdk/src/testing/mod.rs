//! Unit tests of policies, run natively by `cargo test`, without a gateway.
//!
//! ```
//! # use witgate::prelude::*;
//! # struct Guard;
//! # impl Policy for Guard {
//! #     type Config = NoConfig;
//! #     fn configure(_: NoConfig, plan: &mut Plan) -> Result<Self, String> {
//! #         plan.read("x-key");
//! #         Ok(Guard)
//! #     }
//! #     fn on_request(&self, request: &Request) -> Result<Verdict, String> {
//! #         let known = request.get("x-key").is_some_and(|key| {
//! #             witgate::consumers::identify_by_key(key).is_ok()
//! #         });
//! #         Ok(if known { Verdict::Proceed } else { Reply::problem(401, "Who are you?").into() })
//! #     }
//! # }
//! use witgate::testing;
//!
//! let _host = testing::Host::new().consumer_key("k1", "mobile-app", Some("starter"));
//! let guard = testing::policy::<Guard>(serde_json::json!({})).unwrap();
//! assert_eq!(guard.request([("x-key", "k1")]), Verdict::Proceed);
//! assert_eq!(guard.request([("x-key", "k2")]).status(), Some(401));
//! ```

mod harness;
mod host;
pub(crate) mod state;

pub use harness::{Harness, policy, schema};
pub use host::Host;
pub use state::{Announced, Metric};

use crate::{Edit, Verdict};

/// What tests ask of a verdict.
impl Verdict {
    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        self.reply().map(|reply| reply.status)
    }

    /// What the last edit of a field wrote into it.
    pub fn written(&self, name: &str) -> Option<&str> {
        self.edits().iter().rev().find_map(|edit| match edit {
            Edit::Set((known, value)) | Edit::Append((known, value)) if known.eq_ignore_ascii_case(name) => {
                Some(value.as_str())
            }
            _ => None,
        })
    }

    /// Whether the last edit of a field removed it.
    pub fn removes(&self, name: &str) -> bool {
        let last = self.edits().iter().rev().find(|edit| match edit {
            Edit::Set((known, _)) | Edit::Append((known, _)) | Edit::Remove(known) => {
                known.eq_ignore_ascii_case(name)
            }
            Edit::Note(_) => false,
        });
        matches!(last, Some(Edit::Remove(_)))
    }
}
