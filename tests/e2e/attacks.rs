//! Plugins as attackers: what a component does to starve or outlive its hook, and what somebody does
//! to its file. `misbehaving` has what a verdict may not be.

use crate::fixture::{assert_contains, component, echo, probe, setup, setup_with_probe, told, with};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::process::Command;
use witgate_test_support::{Gateway, Origin, Request, eventually, guests};

/// The hooks of a probe that does `act` in one of them, with 50 ms for each call.
fn hasty(config: Value) -> Value {
    with(probe(config), json!({"limits": {"time": "50ms", "memory": "8MiB"}}))
}

fn start(origin: &Origin, policy: Value) -> Gateway {
    let plain = json!({"name": "plain", "path": "/plain", "upstream": "echo"});
    setup_with_probe().start(&echo(origin, json!([policy])).api(plain).text())
}

#[test]
fn a_loop_or_growth_in_a_body_hook_is_ended() {
    for (mode, act, reasons) in [
        ("buffer", "spin", ["policy_timeout", "policy_timeout"]),
        ("buffer", "grow", ["policy_memory", "policy_trap"]),
    ] {
        let origin = Origin::named("up");
        let policy = hasty(json!({"request_body": mode, "body_limit": 1000, "body": {"do": act}}));
        let gateway = start(&origin, policy);
        let answer = gateway.send(Request::post("/echo", "hello")).expect(503);
        let kind = answer.json()["type"].as_str().unwrap().to_string();
        assert!(reasons.iter().any(|reason| kind.ends_with(reason)), "{mode} {act}: {kind}");
        assert_eq!(origin.count(), 0);
        gateway.get("/plain").expect(200);
    }
}

#[test]
fn a_loop_or_trap_in_a_filter_never_passes_for_the_end_of_a_body() {
    for act in ["spin", "grow", "trap"] {
        let origin = Origin::mirror();
        let gateway = start(&origin, hasty(json!({"request_body": "stream", "body": {"do": act}})));
        let answer = gateway.send(Request::post("/echo", "hello"));
        assert!(answer.status >= 400, "{act}: {answer:?}");
        assert!(origin.seen().iter().all(|seen| seen.body.is_empty()), "{act}");
        gateway.get("/plain").expect(200);

        let gateway = start(&origin, hasty(json!({"response_body": "stream", "body": {"do": act}})));
        let answer = gateway.get("/echo");
        assert!(answer.status >= 400 || !answer.complete, "{act}: {answer:?}");
        gateway.get("/plain").expect(200);
    }
}

#[test]
fn a_loop_in_a_response_hook_is_ended() {
    let origin = Origin::mirror();
    let gateway = start(&origin, hasty(json!({"response": {"do": "spin"}})));
    gateway.get("/echo").expect_problem(503, "policy_timeout");
    gateway.get("/plain").expect(200);
}

#[test]
fn loops_where_nobody_waits_hold_up_nobody() {
    let origin = Origin::mirror();
    for config in [
        json!({"log_reads": [":path"], "log": {"do": "spin"}}),
        json!({"tick_millis": 100, "tick": {"do": "spin"}}),
    ] {
        let mut gateway = start(&origin, hasty(config.clone()));
        for _ in 0..20 {
            gateway.get("/echo").expect(200);
        }
        gateway.log().wait_for(0, "ran out of time");
        gateway.get("/plain").expect(200);
        assert!(gateway.is_running(), "{config}");
    }
}

#[test]
fn what_cannot_be_configured_in_time_or_memory_is_refused() {
    let origin = Origin::mirror();
    for act in ["spin", "grow", "trap", "overflow"] {
        let bad = echo(&origin, json!([hasty(json!({"configure": {"do": act}}))]));
        let Err(refused) = setup_with_probe().try_start(&bad.text()) else { panic!("{act}: it started") };
        assert_contains(&refused.text, "probe");

        let gateway = setup_with_probe().start(&echo(&origin, json!([told(&[])])).text());
        gateway.reload_refused(&bad.text());
        gateway.get("/echo").expect(200);
    }
}

#[test]
fn a_trap_in_a_destructor_hurts_the_instance_alone() {
    let origin = Origin::mirror();
    let policy = probe(json!({"request_body": "stream", "body": {"do": "trap_in_drop"}}));
    let mut gateway = start(&origin, policy);
    for _ in 0..10 {
        // The body went through before the filter was dropped.
        let answer = gateway.send(Request::post("/echo", "hello"));
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        gateway.get("/plain").expect(200);
    }
    assert!(gateway.is_running());
}

#[test]
fn two_policies_of_one_plugin_share_no_memory() {
    let origin = Origin::mirror();
    let counting = probe(json!({"writes": ["x-calls"], "request": {"do": "calls"}}));
    let counting = with(counting, json!({"limits": {"instances": 1}}));
    let apis =
        |name: &str| json!({"name": name, "path": format!("/{name}"), "upstream": "echo", "chain": [name]});
    let mut config = echo(&origin, json!([])).set("server.workers", json!(1));
    config = config.set("policies", json!({}));
    for name in ["one", "two"] {
        config = config.policy(name, counting.clone()).api(apis(name));
    }
    let gateway = setup_with_probe().start(&config.text());
    let calls = |path: &str| {
        gateway.get(path).expect(200).json()["headers"]["x-calls"][0].as_str().unwrap().to_string()
    };
    assert_eq!((calls("/one"), calls("/one"), calls("/one")), ("1".into(), "2".into(), "3".into()));
    assert_eq!(calls("/two"), "1");
}

/// Does something to the file of a plugin that runs; what runs stays, and so it does when asked to
/// reload.
#[track_caller]
fn spoilt(spoil: impl Fn(&std::path::Path), word: &str) {
    let origin = Origin::mirror();
    let config = echo(&origin, json!([told(&[])])).text();
    let gateway = setup_with_probe().start(&config);
    spoil(&gateway.path("plugins/probe.wasm"));
    let why = gateway.reload_refused(&config);
    gateway.get("/echo").expect(200);
    gateway.log().wait_for(0, word);
    // And back.
    let _ = std::fs::remove_file(gateway.path("plugins/probe.wasm"));
    gateway.install("probe", &std::fs::read(guests::probe()).unwrap());
    gateway.reload(&config);
    assert!(!why.is_empty());
    gateway.get("/echo").expect(200);
}

#[test]
fn a_plugin_whose_file_is_spoilt_stays_as_it_was() {
    let replace = |path: &std::path::Path, bytes: &[u8]| {
        let new = path.with_extension("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    let whole = std::fs::read(guests::probe()).unwrap();
    spoilt(|path| replace(path, &whole[..whole.len() / 2]), "probe");
    spoilt(|path| replace(path, b""), "probe");
    spoilt(|path| std::fs::remove_file(path).unwrap(), "no plugin is named");
    // Written in place, under the feet of the code that was compiled from it.
    spoilt(|path| std::fs::write(path, &whole[..100]).unwrap(), "probe");
}

#[test]
fn a_plugin_that_is_written_in_pieces_is_taken_when_it_is_whole() {
    use std::io::Write;
    let origin = Origin::mirror();
    let config = echo(&origin, json!([told(&[])])).text();
    let gateway = setup_with_probe().start(&config);
    let whole = std::fs::read(guests::probe()).unwrap();
    let mark = gateway.log().mark();
    let mut file = std::fs::File::create(gateway.path("plugins/probe.wasm")).unwrap();
    file.write_all(&whole[..whole.len() / 2]).unwrap();
    gateway.log().wait_for(mark, "is not a whole component");
    gateway.get("/echo").expect(200);
    let mark = gateway.log().mark();
    file.write_all(&whole[whole.len() / 2..]).unwrap();
    gateway.log().wait_for(mark, "reload ok");
    gateway.get("/echo").expect(200);
}

#[test]
fn a_plugin_behind_a_link_is_seen_when_the_link_is_turned() {
    use std::os::unix::fs::symlink;
    let origin = Origin::mirror();
    let policy = probe(json!({"reads": ["x-do"], "writes": ["x-calls"], "request": {"do": "calls"}}));
    let config = echo(&origin, json!([policy])).text();
    let setup = setup();
    let whole = std::fs::read(guests::probe()).unwrap();
    let round = |number: u8| {
        let folder = setup.path(&format!("plugins/..round-{number}"));
        std::fs::create_dir(&folder).unwrap();
        // Another hash, the same policy.
        let bytes = [&whole[..], &[0, 3, 1, b'c', number]].concat();
        std::fs::write(folder.join("probe.wasm"), bytes).unwrap();
    };
    round(0);
    symlink("..round-0", setup.path("plugins/..data")).unwrap();
    symlink("..data/probe.wasm", setup.path("plugins/probe.wasm")).unwrap();
    for number in 1..=3 {
        round(number);
    }
    let gateway = setup.start(&config);
    for number in 1..=3 {
        let mark = gateway.log().mark();
        symlink(format!("..round-{number}"), gateway.path("plugins/..data_tmp")).unwrap();
        std::fs::rename(gateway.path("plugins/..data_tmp"), gateway.path("plugins/..data")).unwrap();
        std::fs::remove_dir_all(gateway.path(&format!("plugins/..round-{}", number - 1))).unwrap();
        gateway.log().wait_for(mark, "reload ok");
        gateway.get("/echo").expect(200);
    }
    // A link that leads nowhere any more changes nothing.
    let mark = gateway.log().mark();
    std::fs::remove_dir_all(gateway.path("plugins/..round-3")).unwrap();
    gateway.log().wait_for(mark, "reload refused");
    gateway.get("/echo").expect(200);
}

#[test]
fn a_plugin_that_is_no_file_is_refused_and_holds_nobody_up() {
    let link = |to: &'static str| {
        move |path: &std::path::Path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(to, path).unwrap();
        }
    };
    spoilt(link("probe.wasm"), "cannot be read");
    spoilt(link("/dev/zero"), "no regular file");
    spoilt(link("/"), "no regular file");
    let pipe = |path: &std::path::Path| {
        std::fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    spoilt(pipe, "no regular file");
    let endless = |path: &std::path::Path| {
        let file = std::fs::File::create(path.with_extension("new")).unwrap();
        file.set_len(1 << 40).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
    };
    spoilt(endless, "probe");
}

#[test]
fn names_of_plugins_are_no_paths() {
    let origin = Origin::mirror();
    for name in ["../probe", "/etc/passwd", ".probe", "a/b"] {
        let config = echo(&origin, json!([{"plugin": name}]));
        let Err(refused) = setup().try_start(&config.text()) else { panic!("{name}: it started") };
        assert!(!refused.status.success(), "{name}");
    }
}

/// A component that fits, but for what it does where: `(loop $for_ever br $for_ever)`.
#[derive(Clone, Copy, Default)]
struct Fitting<'a> {
    start: &'a str,
    /// What the function that does it is called, behind `start`.
    name: &'a str,
    schema: &'a str,
    /// What the schema's text is, and how long it claims to be, if not as long as it is.
    text: &'a str,
    length: Option<u32>,
    realloc: &'a str,
    configure: &'a str,
    post: &'a str,
}

impl Fitting<'_> {
    fn component(self) -> Vec<u8> {
        let Fitting { start, name, schema, text, length, realloc, configure, post } = self;
        let length = length.unwrap_or(u32::try_from(text.len()).unwrap());
        let bytes = |value: u32| value.to_le_bytes().map(|byte| format!("\\{byte:02x}")).concat();
        let text = text.bytes().map(|byte| format!("\\{byte:02x}")).collect::<String>();
        component(&format!(
            r#"(component
                (core module $m
                    (memory (export "memory") 8)
                    (data (i32.const 0) "{}{}")
                    (data (i32.const 16) "{text}")
                    (func (export "schema") (result i32) {schema} (i32.const 0))
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc} (i32.const 400000))
                    (func (export "configure") (param i32 i32) (result i32) {configure} (i32.const 500000))
                    (func (export "post") (param i32) {post})
                    (func (export "tick") (result i32) (i32.const 500000))
                    (func $start{name} (@name "{name}") {start})
                    (start $start{name}))
                (core instance $i (instantiate $m))
                (alias core export $i "memory" (core memory $memory))
                (func $schema (result string) (canon lift (core func $i "schema") (memory $memory)))
                (export "config-schema" (func $schema))
                (func $tick (result (result (error string))) (canon lift (core func $i "tick") (memory $memory)))
                (export "on-tick" (func $tick))
                (func $configure (param "config" string) (result (result (error string)))
                    (canon lift (core func $i "configure") (memory $memory)
                        (realloc (core func $i "realloc")) (post-return (core func $i "post"))))
                (export "configure" (func $configure)))"#,
            bytes(16),
            bytes(length)
        ))
    }
}

const LOOP: &str = "(loop $for_ever (br $for_ever))";
const GROW: &str = "(loop $more (drop (memory.grow (i32.const 16))) (br $more))";

#[test]
fn what_a_component_does_before_any_request_is_bounded_too() {
    let origin = Origin::mirror();
    let hasty = json!({"limits": {"time": "10ms", "memory": "8MiB"}});
    let bad = echo(&origin, json!([with(json!({"plugin": "fitting"}), hasty)])).text();
    let good = echo(&origin, json!([told(&[])])).text();
    let mut gateway = setup_with_probe().start(&good);
    let fitting = Fitting::default();
    // None of these is refused for its form.
    gateway.install("fitting", &fitting.component());
    gateway.reload(&bad);
    for (what, component, word) in [
        ("start loops", Fitting { start: LOOP, ..fitting }, "ran out of time"),
        ("start traps", Fitting { start: "unreachable", ..fitting }, "unreachable"),
        ("start grows", Fitting { start: GROW, ..fitting }, "fitting"),
        ("schema loops", Fitting { schema: LOOP, ..fitting }, "ran out of time"),
        ("schema traps", Fitting { schema: "unreachable", ..fitting }, "unreachable"),
        ("schema of 4 GiB", Fitting { length: Some(u32::MAX), ..fitting }, "gives no configuration schema"),
        ("schema is long", Fitting { length: Some(300_000), ..fitting }, "has a schema of 300000 bytes"),
        ("schema is no text", Fitting { text: "\"\u{0}\"", length: Some(3), ..fitting }, "no JSON"),
        ("realloc loops", Fitting { realloc: LOOP, ..fitting }, "ran out of time"),
        ("realloc lies", Fitting { realloc: "(return (i32.const -1))", ..fitting }, "fitting"),
        ("configure loops", Fitting { configure: LOOP, ..fitting }, "ran out of time"),
        ("configure grows", Fitting { configure: GROW, ..fitting }, "fitting"),
        ("configure lies", Fitting { configure: "(return (i32.const -4))", ..fitting }, "fitting"),
        ("post-return loops", Fitting { post: LOOP, ..fitting }, "ran out of time"),
        ("post-return traps", Fitting { post: "unreachable", ..fitting }, "unreachable"),
    ] {
        let mark = gateway.log().mark();
        gateway.reload(&good);
        gateway.install("fitting", &component.component());
        gateway.reload_refused(&bad);
        gateway.log().wait_for(mark, word);
        gateway.get("/echo").expect(200);
        assert!(gateway.is_running(), "{what}");
    }
}

#[test]
fn a_name_that_stands_for_gigabytes_is_not_written_out() {
    let origin = Origin::mirror();
    let mut gateway = setup_with_probe().start(&echo(&origin, json!([told(&[])])).text());
    let before = gateway.resident();
    // Each type is a pair of the one before: a gigabyte of `a`.
    let mut name = String::from("_Z1f1a1pIS_S_E");
    for digit in "123456789ABCDEFGHIJKLMNOPQRSTUVWXY".chars() {
        write!(name, "S0_IS{digit}_S{digit}_E").unwrap();
    }
    let fitting = Fitting { start: "unreachable", name: &name, ..Fitting::default() };
    gateway.install("fitting", &fitting.component());
    gateway.reload_refused(&echo(&origin, json!([{"plugin": "fitting"}])).text());
    gateway.log().wait_for(0, "at f(a, p<a, a>, p<p<a, a>");
    gateway.get("/echo").expect(200);
    assert!(gateway.peak() < before + (100 << 20));
    assert!(gateway.is_running());
}

#[test]
fn a_schema_that_would_be_checked_for_ever_is_refused() {
    let origin = Origin::mirror();
    let good = echo(&origin, json!([told(&[])])).text();
    let gateway = setup_with_probe().start(&good);
    let doubling = |keyword: &str| {
        let mut defs = json!({"a40": true});
        for number in 0..40 {
            let next = json!({"$ref": format!("#/$defs/a{}", number + 1)});
            defs[format!("a{number}")] = json!({keyword: [next, next], "unevaluatedProperties": false});
        }
        json!({"$defs": defs, "$ref": "#/$defs/a0"})
    };
    let chain: Value = (0..5000).fold(json!({"a5000": true}), |mut defs, number| {
        defs[format!("a{number}")] = json!({"$ref": format!("#/$defs/a{}", number + 1)});
        defs
    });
    for (schema, words) in [
        (doubling("allOf"), "schema that"),
        (doubling("anyOf"), "schema that"),
        (json!({"$defs": chain, "$ref": "#/$defs/a0"}), "schema that nests"),
        (json!({"$ref": "http://127.0.0.1:1/schema"}), "schema with a reference to"),
        (json!({"$ref": "file:///etc/passwd"}), "schema with a reference to"),
    ] {
        let bytes = Fitting { text: &schema.to_string(), ..Fitting::default() }.component();
        gateway.install("fitting", &bytes);
        let mark = gateway.log().mark();
        gateway.reload_refused(&echo(&origin, json!([{"plugin": "fitting"}])).text());
        gateway.log().wait_for(mark, words);
        let told = gateway.command(&["plugin", "inspect", "plugins/fitting.wasm"]);
        assert_contains(String::from_utf8_lossy(&told.stderr), words);
        gateway.get("/echo").expect(200);
    }
    // One that refers to itself is checked, but not at any depth.
    let twice =
        json!({"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]});
    gateway.install("fitting", &Fitting { text: &twice.to_string(), ..Fitting::default() }.component());
    let nested = |depth| (0..depth).fold(json!({}), |inner: Value, _| json!({"a": inner}));
    let config = |depth| echo(&origin, json!([{"plugin": "fitting", "config": nested(depth)}])).text();
    gateway.reload(&config(5));
    let mark = gateway.log().mark();
    gateway.reload_refused(&config(30));
    gateway.log().wait_for(mark, "that takes too long to check");
}

#[test]
fn a_loop_in_a_body_hook_of_an_answer_is_ended() {
    let origin = Origin::mirror();
    for act in ["spin", "grow", "trap"] {
        let policy = hasty(json!({"response_body": "buffer", "body_limit": 10_000, "body": {"do": act}}));
        let gateway = start(&origin, policy);
        let answer = gateway.get("/echo").expect(503);
        assert_contains(&answer.json()["type"], "policy_");
        gateway.get("/plain").expect(200);
    }
}

#[test]
fn memory_can_be_had_up_to_the_limit_and_not_beyond() {
    let origin = Origin::mirror();
    let keep = |bytes: usize| json!({"do": "keep", "bytes": bytes}).to_string();
    let policy = with(told(&[]), json!({"limits": {"memory": "8MiB", "instances": 1, "time": "5s"}}));
    let config = echo(&origin, json!([policy])).set("server.workers", json!(1));
    let mut gateway = setup_with_probe().start(&config.text());
    let before = gateway.resident();
    for _ in 0..3 {
        // Seven of eight, in pieces, and then one piece too many: the instance is lost, and the next
        // one has all of it again.
        for _ in 0..6 {
            gateway.send(Request::get("/echo").header("x-do", &keep(1 << 20))).expect(200);
        }
        let answer = gateway.send(Request::get("/echo").header("x-do", &keep(3 << 20))).expect(503);
        let kind = answer.json()["type"].to_string();
        assert!(kind.contains("policy_memory") || kind.contains("policy_trap"), "{kind}");
        gateway.get("/echo").expect(200);
    }
    assert!(gateway.resident() < before + (100 << 20));
    assert!(gateway.is_running());
}

#[test]
fn what_a_hook_returns_is_bounded_however_much_memory_it_has() {
    let origin = Origin::mirror();
    let policy = with(told(&["x-giant", "x-many"]), json!({"limits": {"memory": "1GiB", "time": "10s"}}));
    let mut gateway = start(&origin, policy);
    let before = gateway.resident();
    // All that a guest of a gigabyte can give, and a million of what is small.
    for act in [
        json!({"do": "giant_edit", "bytes": 400 << 20}),
        json!({"do": "giant_note", "bytes": 400 << 20}),
        json!({"do": "giant_error", "bytes": 400 << 20}),
        json!({"do": "reply", "status": 200, "bytes": 400 << 20}),
        json!({"do": "many_edits", "count": 1_000_000}),
    ] {
        gateway.send(Request::get("/echo").header("x-do", &act.to_string())).expect(503);
        gateway.get("/plain").expect(200);
        assert!(gateway.is_running(), "{act}");
    }
    assert_eq!(origin.seen().iter().filter(|seen| seen.target == "/echo").count(), 0);
    // The guest's own gigabyte, and what is lifted of it.
    let most = gateway.peak() - before;
    assert!(most < (1 << 30) + (400 << 20), "{} MiB", most >> 20);
}

#[test]
fn m4_a_policy_that_answers_twice_has_one_answer_sent() {
    let origin = Origin::mirror();
    let twice = probe(json!({
        "request": {"do": "reply", "status": 401, "body": "first"},
        "response": {"do": "reply", "status": 402, "body": "second"},
        "response_body": "buffer", "body_limit": 1000, "body": {"do": "refuse", "status": 418},
    }));
    let before = probe(json!({"response": {"do": "reply", "status": 410, "body": "third"}}));
    for chain in [json!([twice]), json!([before, twice])] {
        let gateway = setup_with_probe().start(&echo(&origin, chain).text());
        let mut connection = gateway.connect();
        for _ in 0..3 {
            connection.send(Request::get("/echo").bytes());
            let answer = connection.answer();
            assert!(answer.complete && matches!(answer.status, 401 | 402 | 410 | 418), "{answer:?}");
        }
        // Nothing stands behind the answers.
        connection.send("GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(connection.answer().status, 404);
        assert!(connection.read_to_close().is_empty());
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_policy_that_calls_its_own_gateway_ends() {
    let origin = Origin::mirror();
    let limits = json!({"time": "100ms", "instances": 8});
    let config = |port: u16| {
        let call = json!({"calls": [{"upstream": "self", "path": "/call", "timeout_millis": 2000}]});
        let policy = json!({"plugin": "caller", "config": call, "limits": limits});
        echo(&origin, json!([]))
            .upstream_with("self", json!({"endpoints": [format!("http://127.0.0.1:{port}")]}))
            .api(json!({"name": "call", "path": "/call", "chain": [policy]}))
            .api(json!({"name": "loop", "path": "/loop", "upstream": "self"}))
            .text()
    };
    let mut gateway = setup().plugin("caller", guests::caller()).start(&config(9));
    gateway.reload(&config(gateway.public().port()));
    // Each call is another exchange with an instance of its own, as long as there are any; the
    // innermost finds none, and all the others tell of that.
    let answer = gateway.get("/call").expect(200);
    assert!(answer.text().contains("policy_busy") || answer.text().contains("timeout"), "{answer:?}");
    gateway.get("/echo").expect(200);
    // An upstream that is the gateway itself is a loop of the operator's own; it ends with who began it.
    let before = gateway.open_files();
    let mut client = gateway.connect();
    client.send(Request::get("/loop").bytes());
    eventually("the loop to turn", || gateway.open_files() > before + 100);
    drop(client);
    eventually("the loop to end", || gateway.open_files() < before + 50);
    gateway.get("/echo").expect(200);
    assert!(gateway.is_running());
}

/// A component whose `configure` does `act` with the host's buckets: `$remove` calls one by a handle,
/// `$drop` gives a handle back.
fn handling(act: &str) -> Vec<u8> {
    component(&format!(
        r#"(component
            (import "witgate:policy/shared-state@0.1.0" (instance $state
                (export "bucket" (type $bucket (sub resource)))
                (export "[method]bucket.remove" (func (param "self" (borrow $bucket)) (param "key" string)))))
            (alias export $state "bucket" (type $bucket))
            (core module $memory (memory (export "memory") 1))
            (core instance $memory (instantiate $memory))
            (alias core export $memory "memory" (core memory $bytes))
            (alias export $state "[method]bucket.remove" (func $remove))
            (core func $remove (canon lower (func $remove) (memory $bytes)))
            (core func $drop (canon resource.drop $bucket))
            (core module $m
                (import "host" "remove" (func $remove (param i32 i32 i32)))
                (import "host" "drop" (func $drop (param i32)))
                (func (export "text") (result i32) (i32.const 0))
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
                (func (export "configure") (param i32 i32) (result i32) {act} (i32.const 0)))
            (core instance $i (instantiate $m
                (with "host" (instance (export "remove" (func $remove)) (export "drop" (func $drop))))))
            (func $schema (result string) (canon lift (core func $i "text") (memory $bytes)))
            (export "config-schema" (func $schema))
            (func $tick (result (result (error string))) (canon lift (core func $i "text") (memory $bytes)))
            (export "on-tick" (func $tick))
            (func $configure (param "config" string) (result (result (error string)))
                (canon lift (core func $i "configure") (memory $bytes) (realloc (core func $i "realloc"))))
            (export "configure" (func $configure)))"#
    ))
}

#[test]
fn handles_that_were_never_given_out_open_nothing() {
    let origin = Origin::mirror();
    let good = echo(&origin, json!([told(&[])])).text();
    let bad = echo(&origin, json!([{"plugin": "handling"}])).text();
    let mut gateway = setup_with_probe().start(&good);
    gateway.install("handling", &handling(""));
    gateway.reload(&bad);
    for handle in ["0", "1", "2", "12345", "-1", "2147483647"] {
        for act in [
            format!("(call $remove (i32.const {handle}) (i32.const 0) (i32.const 0))"),
            format!("(call $drop (i32.const {handle}))"),
        ] {
            gateway.reload(&good);
            gateway.install("handling", &handling(&act));
            let mark = gateway.log().mark();
            gateway.reload_refused(&bad);
            gateway.log().wait_for(mark, "handle index");
            gateway.get("/echo").expect(200);
        }
    }
    assert!(gateway.is_running());
}
