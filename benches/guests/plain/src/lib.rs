//! A policy that does next to nothing, so that what is measured is the way to it and back.
//!
//! Loaded by `benches/micro`. Reads what its configuration names and answers with so many edits.

use serde::Deserialize;
use std::cell::OnceCell;

mod bindings {
    wit_bindgen::generate!({
        inline: r#"
            package witgate-bench:plain;
            world plain {
                use witgate:policy/types@0.1.0.{values, verdict};
                import witgate:policy/plan@0.1.0;
                export config-schema: func() -> string;
                export configure: func(config: string) -> result<_, string>;
                export on-request: func(values: values) -> result<verdict, string>;
                export on-response: func(values: values, note: list<u8>) -> result<verdict, string>;
            }
        "#,
        path: "../../../wit",
        world: "witgate-bench:plain/plain",
        generate_all,
        pub_export_macro: true,
    });
}

use bindings::witgate::policy::plan;
use bindings::witgate::policy::types::Edit;
use bindings::{Values, Verdict};

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Config {
    reads: Vec<String>,
    response_reads: Vec<String>,
    /// Headers that each hook sets.
    edits: usize,
}

thread_local! {
    static NAMES: OnceCell<Vec<String>> = const { OnceCell::new() };
}

struct Plain;

impl bindings::Guest for Plain {
    fn config_schema() -> String {
        "{}".into()
    }

    fn configure(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        plan::request_reads(&config.reads);
        plan::response_reads(&config.response_reads);
        let names: Vec<String> = (0..config.edits).map(|number| format!("x-bench-{number}")).collect();
        plan::writes(&names);
        NAMES.with(|slot| slot.set(names)).map_err(|_| "configured twice".into())
    }

    fn on_request(_values: Values) -> Result<Verdict, String> {
        Ok(verdict())
    }

    fn on_response(_values: Values, _note: Vec<u8>) -> Result<Verdict, String> {
        Ok(verdict())
    }
}

fn verdict() -> Verdict {
    NAMES.with(|slot| match slot.get().map(Vec::as_slice) {
        None | Some([]) => Verdict::Proceed,
        Some(names) => {
            Verdict::Amend(names.iter().map(|name| Edit::Set((name.clone(), "some value".into()))).collect())
        }
    })
}

#[expect(unsafe_code, reason = "generated exports")]
mod exports {
    use super::{Plain, bindings};
    bindings::export!(Plain with_types_in bindings);
}
