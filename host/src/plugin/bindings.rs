//! The WIT contract in Rust: generated imports, hand-written hook types.
//!
//! `imports` implements the generated traits; `instance` calls hooks with the types below, which
//! are written by hand because `bindgen!` of wasmtime 48 cannot share borrowed types between
//! worlds, and because a hook that is not exported must be no error.

use wasmtime::component::{ComponentType, Lift, Lower};

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "package witgate:host; world imports {
        import witgate:policy/types@0.1.0;
        import witgate:policy/plan@0.1.0;
        import witgate:policy/env@0.1.0;
        import witgate:policy/log@0.1.0;
        import witgate:policy/metrics@0.1.0;
        import witgate:policy/message@0.1.0;
        import witgate:policy/shared-state@0.1.0;
        import witgate:policy/rate-limit@0.1.0;
        import witgate:policy/jwt@0.1.0;
        import witgate:policy/consumers@0.1.0;
        import witgate:policy/crypto@0.1.0;
        import witgate:policy/http-client@0.1.0;
    }",
    world: "witgate:host/imports",
    imports: {
        "witgate:policy/http-client": async,
        "witgate:policy/crypto.verify-password": async,
    },
});

/// A change that a policy asks for; `types.edit`. How it is lifted stands in `lift`.
#[derive(ComponentType, Clone, Debug, PartialEq)]
#[component(variant)]
pub enum Edit {
    #[component(name = "set")]
    Set((String, String)),
    #[component(name = "append")]
    Append((String, String)),
    #[component(name = "remove")]
    Remove(String),
    #[component(name = "note")]
    Note(Vec<u8>),
}

/// A response that a policy makes itself; `types.reply`.
#[derive(ComponentType, Lift, Clone, Debug, PartialEq)]
#[component(record)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// What a header hook decided; `types.verdict`.
#[derive(ComponentType, Lift, Clone, Debug, PartialEq)]
#[component(variant)]
pub enum Verdict {
    #[component(name = "proceed")]
    Proceed,
    #[component(name = "amend")]
    Amend(Vec<Edit>),
    #[component(name = "respond")]
    Respond(Reply),
}

/// What a body hook decided; `types.body-verdict`.
#[derive(ComponentType, Lift, Clone, Debug, PartialEq)]
#[component(variant)]
pub enum BodyVerdict {
    #[component(name = "proceed")]
    Proceed,
    #[component(name = "amend")]
    Amend(Vec<Edit>),
    #[component(name = "replace")]
    Replace((Vec<u8>, Vec<Edit>)),
    #[component(name = "respond")]
    Respond(Reply),
}

/// What a body filter decided about a chunk; `body-stream.chunk-verdict`.
#[derive(ComponentType, Lift, Clone, Debug, PartialEq)]
#[component(variant)]
pub enum ChunkVerdict {
    #[component(name = "proceed")]
    Proceed,
    #[component(name = "replace")]
    Replace(Vec<u8>),
    #[component(name = "abort")]
    Abort(String),
}

/// Which message a body filter sees; `body-stream.direction`.
#[derive(ComponentType, Lift, Lower, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
pub enum Direction {
    #[component(name = "request")]
    Request,
    #[component(name = "response")]
    Response,
}
