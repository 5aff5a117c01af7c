//! The functions and types of `wit/policy.wit`, generated.
//!
//! `imports` holds what the host offers and every type; each other module is a world of one
//! export, so that a policy exports the hooks it names and nothing else: the component type of a
//! world is linked only where its export macro is used, and the linker merges them. Imports that
//! a policy never calls are dropped by the linker.

#![allow(missing_docs, clippy::all, unused_qualifications, reason = "generated")]

pub mod imports {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world imports {
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
            }
        ",
        world: "witgate:sdk/imports",
        additional_derives: [PartialEq],
        generate_all,
    });
}

pub mod base {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world base {
                export config-schema: func() -> string;
                export configure: func(config: string) -> result<_, string>;
            }
        ",
        world: "witgate:sdk/base",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::base",
    });
}

pub mod on_request {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world on-request {
                use witgate:policy/types@0.1.0.{values, verdict};
                export on-request: func(values: values) -> result<verdict, string>;
            }
        ",
        world: "witgate:sdk/on-request",
        with: { "witgate:policy/types@0.1.0": crate::bindings::imports::witgate::policy::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::on_request",
    });
}

pub mod on_response {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world on-response {
                use witgate:policy/types@0.1.0.{values, verdict};
                export on-response: func(values: values, note: list<u8>) -> result<verdict, string>;
            }
        ",
        world: "witgate:sdk/on-response",
        with: { "witgate:policy/types@0.1.0": crate::bindings::imports::witgate::policy::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::on_response",
    });
}

pub mod on_request_body {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world on-request-body {
                use witgate:policy/types@0.1.0.{body-verdict};
                export on-request-body: func(body: list<u8>, note: list<u8>) -> result<body-verdict, string>;
            }
        ",
        world: "witgate:sdk/on-request-body",
        with: { "witgate:policy/types@0.1.0": crate::bindings::imports::witgate::policy::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::on_request_body",
    });
}

pub mod on_response_body {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world on-response-body {
                use witgate:policy/types@0.1.0.{body-verdict};
                export on-response-body: func(body: list<u8>, note: list<u8>) -> result<body-verdict, string>;
            }
        ",
        world: "witgate:sdk/on-response-body",
        with: { "witgate:policy/types@0.1.0": crate::bindings::imports::witgate::policy::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::on_response_body",
    });
}

pub mod on_log {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world on-log {
                use witgate:policy/types@0.1.0.{values};
                export on-log: func(entries: list<values>) -> result<_, string>;
            }
        ",
        world: "witgate:sdk/on-log",
        with: { "witgate:policy/types@0.1.0": crate::bindings::imports::witgate::policy::types },
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::on_log",
    });
}

pub mod on_tick {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world on-tick {
                export on-tick: func() -> result<_, string>;
            }
        ",
        world: "witgate:sdk/on-tick",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::on_tick",
    });
}

pub mod body_stream {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package witgate:sdk;
            world body-stream {
                export witgate:policy/body-stream@0.1.0;
            }
        ",
        world: "witgate:sdk/body-stream",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "witgate::bindings::body_stream",
    });
}
