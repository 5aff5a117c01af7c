//! The policy that `witgate plugin new` writes builds on this SDK and passes its own tests.

#[path = "../../host/src/cli/plugin/template/rust/lib.rs"]
mod template;
