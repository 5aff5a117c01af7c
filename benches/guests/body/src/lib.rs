//! A policy that looks at every byte of both bodies and lets them pass.
//!
//! Loaded by `benches/peers/run`: `mode: buffer` takes a body as a whole, `mode: stream` chunk by
//! chunk. The filter for Envoy (`benches/peers/filter`) does the same sum.

use serde::Deserialize;
use std::hint::black_box;

mod bindings {
    wit_bindgen::generate!({
        inline: r#"
            package witgate-bench:body;
            world body {
                use witgate:policy/types@0.1.0.{body-verdict};
                import witgate:policy/plan@0.1.0;
                export config-schema: func() -> string;
                export configure: func(config: string) -> result<_, string>;
                export on-request-body: func(body: list<u8>, note: list<u8>) -> result<body-verdict, string>;
                export on-response-body: func(body: list<u8>, note: list<u8>) -> result<body-verdict, string>;
                export witgate:policy/body-stream@0.1.0;
            }
        "#,
        path: "../../../wit",
        world: "witgate-bench:body/body",
        generate_all,
        pub_export_macro: true,
    });
}

use bindings::BodyVerdict;
use bindings::exports::witgate::policy::body_stream;
use bindings::witgate::policy::plan;
use bindings::witgate::policy::types::BodyMode;

/// Bytes of a body that is taken as a whole.
const LIMIT: u32 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    mode: Mode,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Buffer,
    Stream,
}

struct Body;

impl bindings::Guest for Body {
    fn config_schema() -> String {
        "{}".into()
    }

    fn configure(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        let mode = match config.mode {
            Mode::Buffer => BodyMode::Buffer,
            Mode::Stream => BodyMode::Stream,
        };
        plan::request_body(mode, LIMIT);
        plan::response_body(mode, LIMIT);
        Ok(())
    }

    fn on_request_body(body: Vec<u8>, _note: Vec<u8>) -> Result<BodyVerdict, String> {
        black_box(sum(&body));
        Ok(BodyVerdict::Proceed)
    }

    fn on_response_body(body: Vec<u8>, _note: Vec<u8>) -> Result<BodyVerdict, String> {
        black_box(sum(&body));
        Ok(BodyVerdict::Proceed)
    }
}

impl body_stream::Guest for Body {
    type BodyFilter = Filter;
}

struct Filter;

impl body_stream::GuestBodyFilter for Filter {
    fn new(_which: body_stream::Direction, _note: Vec<u8>) -> Self {
        Filter
    }

    fn chunk(&self, data: Vec<u8>, _last: bool) -> Result<body_stream::ChunkVerdict, String> {
        black_box(sum(&data));
        Ok(body_stream::ChunkVerdict::Proceed)
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

#[expect(unsafe_code, reason = "generated exports")]
mod exports {
    use super::{Body, bindings};
    bindings::export!(Body with_types_in bindings);
}
