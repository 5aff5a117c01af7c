//! `witgate plugin`: a policy from nothing to serving, and what is told of components.

use crate::fixture::{Config, assert_contains, assert_lacks, component, setup, with_target};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Output;
use witgate_test_support::{Origin, PATIENCE, Request, eventually, eventually_within, guests};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sdk() -> String {
    root().join("plugin-sdk").display().to_string()
}

#[track_caller]
fn done(output: Output) -> String {
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{out}{err}");
    out
}

#[track_caller]
fn refused(output: Output) -> String {
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    err
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into())
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "no {from:?} in {}", file.display());
    fs::write(file, text.replace(from, to)).unwrap();
}

#[test]
fn from_nothing_to_serving() {
    let origin = Origin::named("up");
    let setup = with_target(setup());
    let told = done(setup.command(&["plugin", "new", "tenants", "--sdk", &sdk()]));
    assert_contains(&told, "witgate plugin build tenants");

    let config = Config::new().upstream("echo", &origin);
    let gateway = setup.start(&config.clone().simple("echo", json!([])).text());
    gateway.get("/echo").expect(200);

    // Into the directory of the gateway that runs.
    let told = done(gateway.command(&["plugin", "build", "tenants", "--out", "plugins"]));
    assert_contains(&told, "wrote plugins/tenants.wasm");
    assert_contains(&told, "on-request");
    let chain = json!([{"plugin": "tenants", "config": {"header": "x-tenant"}}]);
    gateway.reload(&config.simple("echo", chain).text());
    gateway.get("/echo").expect(400);
    origin.forget();
    gateway
        .send(Request::get("/echo").header("x-tenant", "blue").header("x-client-address", "me"))
        .expect(200);
    assert_eq!(origin.only().all("x-client-address"), ["127.0.0.1"]);

    let inspect = |file: &str| {
        done(gateway.command(&["plugin", "inspect", file, "--config", r#"{"header": "X-Tenant"}"#]))
    };
    let told = inspect("plugins/tenants.wasm");
    for line in ["reads               x-tenant, client:ip", "writes              x-client-address"] {
        assert_contains(&told, line);
    }
    assert_lacks(&told, "asks for");

    // Its cases pass, and build it first.
    assert_contains(done(gateway.command(&["plugin", "test", "tenants"])), "3 passed, 0 failed");

    // What does not build changes nothing.
    let source = gateway.path("tenants/src/lib.rs");
    let good = fs::read(gateway.path("plugins/tenants.wasm")).unwrap();
    edit(&source, "Reply::problem(400", "Reply::problem(four hundred");
    let why = refused(gateway.command(&["plugin", "build", "tenants", "--out", "plugins"]));
    assert_contains(&why, "the plugin does not build");
    assert_eq!(fs::read(gateway.path("plugins/tenants.wasm")).unwrap(), good);

    // A new build is taken without a word.
    edit(&source, "Reply::problem(four hundred", "Reply::problem(422");
    done(gateway.command(&["plugin", "build", "tenants", "--out", "plugins"]));
    eventually("the new build", || gateway.get("/echo").status == 422);
    let entries = fs::read_dir(gateway.path("plugins")).unwrap();
    assert_eq!(entries.count(), 1, "only the component is there");

    // What it asks for beyond its configuration is told, and granted for the telling.
    let open = "let _ = witgate::state::Bucket::open(\"visits\")?;\n        plan.write([ADDRESS]);";
    edit(&source, "plan.write([ADDRESS]);", open);
    done(gateway.command(&["plugin", "build", "tenants", "-o", "visits.wasm"]));
    assert_contains(inspect("visits.wasm"), "the bucket visits: needs `allow: { buckets: [\"visits\"] }`");
    assert_eq!(gateway.get("/echo").status, 422);
}

#[test]
fn a_trap_shows_lines_of_the_source_where_they_were_kept() {
    let setup = with_target(setup());
    done(setup.command(&["plugin", "new", "lines", "--sdk", &sdk()]));
    let source = setup.path("lines/src/lib.rs");
    edit(
        &source,
        "let address = request.get(self.address)",
        "assert!(request.get(self.sent) != Some(\"no\"));\n        let address = request.get(self.address)",
    );
    let line =
        fs::read_to_string(&source).unwrap().lines().position(|line| line.contains("assert!")).unwrap() + 1;
    let suite =
        "config: { header: x-tenant }\ncases: [{ name: a, request: { headers: { x-tenant: \"no\" } } }]";
    let setup = setup.file("lines/tests/cases.yaml", suite);
    done(setup.command(&["plugin", "build", "lines", "--debug", "--out", "lines/lines.wasm"]));
    let (out, err) = texts(&setup.command(&["plugin", "test", "lines/lines.wasm"]));
    assert_contains(&out, "on_request");
    assert_contains(&out, &format!("src/lib.rs:{line}"));
    // What it panicked with is a line of its log.
    assert_contains(out + &err, "assertion failed");

    // A gateway looks for lines only when it is told to: that takes its worker as long as it takes.
    let (origin, bytes) = (Origin::named("up"), fs::read(setup.path("lines/lines.wasm")).unwrap());
    let chain = json!([{"plugin": "lines", "config": {"header": "x-tenant"}}]);
    let config = Config::new().upstream("echo", &origin).simple("echo", chain).text();
    for variable in ["", "1"] {
        let setup = self::setup().plugin_bytes("lines", &bytes).env("WITGATE_TRAP_LINES", variable);
        let gateway = setup.start(&config);
        gateway.send(Request::get("/echo").header("x-tenant", "no")).expect(503);
        gateway.log().wait_for(0, "hook=\"request\"");
        let place = format!("src/lib.rs:{line}:");
        let frame = |text: &String| text.starts_with("    at ") && text.contains(&place);
        let told = gateway.log().lines().iter().any(frame);
        assert_eq!(told, !variable.is_empty(), "{}", gateway.log().text());
    }
}

#[test]
fn a_source_that_is_saved_is_deployed() {
    let setup = with_target(setup());
    done(setup.command(&["plugin", "new", "watched", "--sdk", &sdk()]));
    // Whatever it depends on is built by now, which takes its time where nothing is.
    done(setup.command(&["plugin", "build", "watched", "--out", "first.wasm"]));
    let watching = setup.spawn(&["plugin", "build", "watched", "--out", "plugins", "--watch"]);
    let component = setup.path("plugins/watched.wasm");
    // Another test may hold the folder of builds meanwhile.
    eventually_within(6 * PATIENCE, "the first build", || component.is_file());
    let first = fs::read(&component).unwrap();
    let source = setup.path("watched/src/lib.rs");
    // What does not build ends nothing.
    edit(&source, "Reply::problem(400", "Reply::problem(four hundred");
    eventually_within(6 * PATIENCE, "the mistake to be told", || {
        watching.log().text().contains("the plugin does not build")
    });
    edit(&source, "Reply::problem(four hundred", "Reply::problem(422");
    eventually_within(6 * PATIENCE, "the next build", || {
        fs::read(&component).is_ok_and(|next| next != first)
    });
}

#[test]
fn a_name_must_be_free_and_good() {
    let setup = setup();
    let new =
        |arguments: &[&str]| setup.command(&[&["plugin", "new"], arguments, &["--sdk", &sdk()]].concat());
    for (bad, nearest) in [("MyPolicy", "`my-policy`"), ("../up", "`up`"), ("match", "`match-policy`")] {
        let why = refused(new(&[bad]));
        assert_contains(&why, "cannot be a plugin's name");
        assert_contains(&why, nearest);
    }
    assert_contains(refused(new(&["plugins"])), "is there already");
    assert_contains(refused(new(&["mine", "--path", "no/such/mine"])), "no/such");
    let told = done(new(&["jwt", "--path", "our jwt"]));
    assert_contains(&told, "the gateway's own `jwt`");
    let manifest = fs::read_to_string(setup.path("our jwt/Cargo.toml")).unwrap();
    assert_contains(manifest, "name = \"jwt\"");
    let no_sdk = setup.command(&["plugin", "new", "mine", "--sdk", "our jwt"]);
    assert_contains(refused(no_sdk), "is not the plugin SDK");
}

#[test]
fn what_cannot_be_built_says_why() {
    let setup = with_target(setup());
    assert_contains(refused(setup.command(&["plugin", "build"])), "neither a crate nor a plugin.yaml");
    done(setup.command(&["plugin", "new", "mine", "--sdk", &sdk()]));
    let build = |out: &str| refused(setup.command(&["plugin", "build", "mine", "--out", out]));
    assert_contains(build("nowhere"), "no file whose name ends in `.wasm`");
    assert_contains(build("no/such/mine.wasm"), "there is no folder no/such");
    edit(&setup.path("mine/Cargo.toml"), "[\"cdylib\"]", "[\"rlib\"]");
    assert_contains(build("plugins"), "crate-type");
    fs::write(setup.path("mine/Cargo.toml"), "[package").unwrap();
    assert_contains(build("plugins"), "Cargo.toml");
    assert_eq!(fs::read_dir(setup.path("plugins")).unwrap().count(), 0);
}

#[test]
fn a_toolchain_without_the_target_names_the_command_that_installs_it() {
    let setup = with_target(setup()).file("sysroot/lib/nothing", "");
    done(setup.command(&["plugin", "new", "mine", "--sdk", &sdk()]));
    let sysroot = setup.path("sysroot").display().to_string();
    let setup = setup.env("WITGATE_WASM_SYSROOT", &sysroot);
    let why = refused(setup.command(&["plugin", "build", "mine"]));
    assert_contains(&why, "rustup target add wasm32-unknown-unknown");
    let setup = setup.env("WITGATE_WASM_CARGO", "no-such-cargo");
    let why = refused(setup.command(&["plugin", "build", "mine"]));
    assert_contains(&why, "`no-such-cargo` was not found");
}

#[test]
fn an_inspection_as_a_document() {
    let setup = setup().plugin("probe", guests::probe());
    let config = json!({
        "reads": ["X-Do"], "writes": ["x-*"], "request_body": "buffer", "body_limit": 1000,
        "on_error": "skip", "tick_millis": 500, "bucket": "visits",
    });
    let inspect = |config: &Value| {
        setup.command(&["plugin", "inspect", "plugins/probe.wasm", "--json", "--config", &config.to_string()])
    };
    let document: Value = serde_json::from_str(&done(inspect(&config))).unwrap();
    assert_eq!(document["name"], "probe");
    assert_eq!(document["fits"], true);
    assert_eq!(document["needs_fiber"], false);
    let bytes = fs::metadata(guests::probe()).unwrap().len();
    assert_eq!((&document["bytes"], document["sha256"].as_str().unwrap().len()), (&json!(bytes), 64));
    let hooks = document["hooks"].as_array().unwrap();
    assert_eq!(hooks.len(), 7, "{hooks:?}");
    let imports = document["imports"].to_string();
    assert_contains(&imports, "witgate:policy/shared-state@0.1.0");
    assert_lacks(&imports, "wasi:");
    let plan = &document["plan"];
    assert_eq!(plan["request_reads"], json!(["x-do"]));
    assert_eq!(plan["writes"], json!(["x-*"]));
    assert_eq!(plan["request_body"], json!({"mode": "buffer", "limit": 1000}));
    assert_eq!((&plan["on_error"], &plan["tick_millis"]), (&json!("skip"), &json!(500)));
    assert_eq!(plan["asks"], json!({"buckets": ["visits"]}));

    // A plan that the gateway would refuse, and a guest that never comes back.
    let told = inspect(&json!({"reads": ["no such:name"]}));
    let document: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((told.status.code(), &document["plan"]), (Some(1), &Value::Null));
    assert_contains(&document["refused"], "no such:name");
    let told = inspect(&json!({"configure": {"do": "spin"}}));
    let document: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(1));
    assert_contains(&document["refused"], "ran out of time");
}

#[test]
fn the_gateways_own_can_be_inspected() {
    let setup = setup();
    let told = done(setup.command(&["plugin", "inspect", "rate-limit"]));
    assert_contains(&told, "depends on the configuration");
    assert_contains(&told, "requests: integer, required");
    let inspect = |config: &str| setup.command(&["plugin", "inspect", "jwt", "--config", config]);
    // Asked for, but never fetched.
    let told = done(inspect(r#"{"jwks_url": "https://id.invalid/jwks.json"}"#));
    assert_contains(
        &told,
        "asks for            the URL https://id.invalid/jwks.json: granted by the configuration",
    );
    let told = inspect(r#"{"jwks_urls": "https://id.invalid/jwks.json"}"#);
    assert_eq!(told.status.code(), Some(1));
    assert_contains(texts(&told).0, "jwks_urls");
    assert_contains(refused(inspect("{")), "--config is not JSON");
    assert_contains(refused(setup.command(&["plugin", "inspect", "no-such"])), "no-such");
}

#[test]
fn a_component_that_does_not_fit_says_why() {
    let misfits = [
        ("empty", component("(component)"), "does not export `config-schema"),
        ("module", component("(module)"), "is a core Wasm module"),
        ("script", b"#!/bin/sh\n".to_vec(), "is not WebAssembly"),
        (
            "teleport",
            component(
                r#"(component
                    (import "witgate:policy/teleport@0.1.0" (instance (export "go" (func))))
                    (core module $m
                        (memory (export "memory") 1)
                        (func (export "zero") (param i32 i32) (result i32) (i32.const 0))
                        (func (export "text") (result i32) (i32.const 0)))
                    (core instance $i (instantiate $m))
                    (func $schema (result string) (canon lift (core func $i "text") (memory (core memory $i "memory"))))
                    (export "config-schema" (func $schema))
                    (export "configure" (func $schema))
                    (export "on-request" (func $schema)))"#,
            ),
            "imports `witgate:policy/teleport@0.1.0`, which this gateway does not have",
        ),
    ];
    for (name, bytes, why) in misfits {
        let file = format!("{name}.wasm");
        let setup = setup().file(&file, &bytes);
        assert_contains(refused(setup.command(&["plugin", "inspect", &file])), why);
        let told = setup.command(&["plugin", "inspect", &file, "--json"]);
        let document: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!((told.status.code(), &document["fits"]), (Some(1), &json!(false)));
        assert_contains(&document["why"], why);
    }
}

#[test]
fn the_world_of_a_component() {
    let setup = setup().plugin("probe", guests::probe()).file("module.wasm", component("(module)"));
    let wit = done(setup.command(&["plugin", "inspect", "plugins/probe.wasm", "--wit"]));
    for part in [
        "import witgate:policy/shared-state@0.1.0;",
        "export on-request: func(",
        "export witgate:policy/body-stream@0.1.0;",
        "package witgate:policy@0.1.0 {",
    ] {
        assert_contains(&wit, part);
    }
    assert_contains(refused(setup.command(&["plugin", "inspect", "module.wasm", "--wit"])), "no WIT to show");
}
