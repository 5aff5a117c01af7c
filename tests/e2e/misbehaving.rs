//! Policies that trap, spin, grow, return giants or forbidden edits, or do not fit at all: each
//! is contained, told apart, and the next request is served.

use crate::fixture::{
    Config, assert_contains, assert_lacks, component, echo, probe, setup, setup_with_probe, told, with,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use witgate_test_support::{Gateway, Origin, Reply, Request, eventually};

const FORBIDDEN_FRAMING: &[&str] =
    &["content-length", "transfer-encoding", "connection", "te", "upgrade", "host"];

fn start(origin: &Origin, chain: Value) -> Gateway {
    setup_with_probe().start(&echo(origin, chain).text())
}

fn ask(act: &Value) -> Request {
    Request::get("/echo").header("x-do", &act.to_string())
}

/// One request goes wrong as told, the next ones are served by the same policy.
#[track_caller]
fn contained(chain: Value, act: Value, reason: &str) -> Gateway {
    let origin = Origin::mirror();
    let gateway = start(&origin, chain);
    let answer = gateway.send(ask(&act)).expect_problem(503, reason);
    assert_eq!(origin.count(), 0);
    // A response never carries a trap's text.
    assert_lacks(answer.text(), "wasm");
    assert_lacks(answer.text(), "unreachable");
    for _ in 0..3 {
        gateway.get("/echo").expect(200);
    }
    eventually("the reason in the access log", || {
        gateway.access_log("/echo").iter().any(|entry| entry["reason"] == reason)
    });
    gateway
}

#[test]
fn a_trap_is_contained() {
    contained(json!([told(&[])]), json!({"do": "trap"}), "policy_trap");
}

#[test]
fn a_trap_is_told_with_the_policy_the_hook_the_request_and_the_stack() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&[])]));
    let answer = gateway.send(ask(&json!({"do": "trap"}))).expect_problem(503, "policy_trap");
    let problem: Value = serde_json::from_str(&answer.text()).unwrap();
    let told = eventually_logged(&gateway, "wasm `unreachable` instruction executed");
    for part in ["policy=echo/probe", "hook=\"request\"", "    at "] {
        assert_contains(&told, part);
    }
    // Functions of the guest by their names, the innermost first.
    assert_contains(&told, "witgate_test_probe::perform");
    assert_contains(&told, &format!("request={}", problem["request_id"].as_str().unwrap()));
}

/// What was logged once `text` stands in it.
fn eventually_logged(gateway: &Gateway, text: &str) -> String {
    eventually(text, || gateway.log().text().contains(text));
    gateway.log().text()
}

#[test]
fn an_endless_recursion_is_contained() {
    contained(json!([told(&[])]), json!({"do": "overflow"}), "policy_trap");
}

#[test]
fn an_endless_loop_is_ended() {
    let policy = with(told(&[]), json!({"limits": {"time": "50ms"}}));
    contained(json!([policy]), json!({"do": "spin"}), "policy_timeout");
}

#[test]
fn growing_memory_is_ended() {
    let origin = Origin::mirror();
    let policy = with(told(&[]), json!({"limits": {"memory": "8MiB"}}));
    let gateway = start(&origin, json!([policy]));
    let answer = gateway.send(ask(&json!({"do": "grow"})));
    assert_eq!(answer.status, 503);
    let kind = answer.json()["type"].as_str().unwrap().to_string();
    assert!(kind.ends_with("policy_memory") || kind.ends_with("policy_trap"), "{kind}");
    gateway.get("/echo").expect(200);
    assert!(gateway.resident() < 1 << 30);
}

#[test]
fn an_error_is_a_value_and_its_text_stays_inside() {
    let gateway =
        contained(json!([told(&[])]), json!({"do": "error", "text": "the vault is shut"}), "policy_error");
    let answer = gateway.send(ask(&json!({"do": "error", "text": "the vault is shut"})));
    assert_lacks(answer.text(), "vault");
    assert_contains(gateway.log().text(), "the vault is shut");
}

#[test]
fn giants_are_refused() {
    let writes = ["x-giant", "x-many"];
    for act in [
        json!({"do": "giant_edit", "bytes": 4 << 20}),
        json!({"do": "many_edits", "count": 50_000}),
        json!({"do": "giant_note", "bytes": 8 << 20}),
    ] {
        let origin = Origin::mirror();
        let mut gateway = start(&origin, json!([told(&writes)]));
        assert_eq!(gateway.send(ask(&act)).status, 503, "{act}");
        gateway.get("/echo").expect(200);
        assert!(gateway.is_running(), "{act}");
    }
}

#[test]
fn a_giant_error_is_cut() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&[])]));
    assert_eq!(gateway.send(ask(&json!({"do": "giant_error", "bytes": 4 << 20}))).status, 503);
    gateway.get("/echo").expect(200);
    assert!(gateway.log().lines().iter().all(|line| line.len() < 100_000));
}

#[test]
fn replies_must_be_answers() {
    for status in [0, 99, 100, 101, 199, 600, 65_535] {
        let origin = Origin::mirror();
        let gateway = start(&origin, json!([told(&[])]));
        let answer = gateway.send(ask(&json!({"do": "reply", "status": status})));
        answer.expect_problem(503, "policy_return");
        assert_eq!(origin.count(), 0, "{status}");
    }
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&[])]));
    for status in [200, 204, 302, 418, 599] {
        gateway.send(ask(&json!({"do": "reply", "status": status}))).expect(status);
    }
}

#[test]
fn replies_cannot_forge_framing() {
    let bad = [
        ["content-length", "5"],
        ["transfer-encoding", "chunked"],
        ["connection", "close"],
        ["x-a", "a\r\nset-cookie: b"],
        ["x-a", "a\u{0}b"],
        ["", "empty name"],
        ["a b", "space"],
        ["x:y", "colon"],
    ];
    for header in bad {
        let origin = Origin::mirror();
        let gateway = start(&origin, json!([told(&[])]));
        let act = json!({"do": "reply", "status": 200, "headers": [header], "body": "hello world"});
        let answer = gateway.send(ask(&act));
        assert_eq!(answer.status, 503, "{header:?}: {answer:?}");
        assert!(answer.header("set-cookie").is_none());
    }
}

#[test]
fn forbidden_edits_are_refused_whole() {
    let mut edits: Vec<Value> = FORBIDDEN_FRAMING.iter().map(|name| json!({"set": [name, "x"]})).collect();
    edits.extend([
        json!({"set": ["x-a", "a\r\nx-injected: b"]}),
        json!({"set": ["x-a", "a\nb"]}),
        json!({"append": ["x-a", "a\rb"]}),
        json!({"set": ["x-a", "a\u{0}b"]}),
        json!({"set": ["", "empty"]}),
        json!({"set": ["x a", "space"]}),
        json!({"set": ["x-a\r\nx-b", "name"]}),
        json!({"set": ["x-undeclared", "1"]}),
        json!({"remove": "authorization"}),
        json!({"append": ["content-length", "5"]}),
        json!({"set": [":status", "200"]}),
        json!({"set": [":unheard-of", "1"]}),
    ]);
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&["x-a", "x-ok"])]));
    for edit in edits {
        // A good edit before the bad one must not remain.
        let act = json!({"do": "edits", "edits": [{"set": ["x-ok", "1"]}, edit]});
        let answer = gateway.send(ask(&act));
        assert_eq!(answer.status, 503, "{edit}: {answer:?}");
        // Some bad names make the policy fail so often that it is quarantined; start afresh.
        if answer.text().contains("quarantined") {
            panic!("{edit}: quarantined before it was tried");
        }
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn framing_fields_cannot_even_be_declared_or_are_never_written() {
    for name in FORBIDDEN_FRAMING {
        let origin = Origin::mirror();
        let config = echo(&origin, json!([told(&[name])]));
        if let Ok(gateway) = setup_with_probe().try_start(&config.text()) {
            let act = json!({"do": "edits", "edits": [{"set": [name, "5"]}]});
            assert_eq!(gateway.send(ask(&act)).status, 503, "{name}");
            assert_eq!(origin.count(), 0);
        }
    }
}

#[test]
fn the_response_hook_is_contained_too() {
    let origin = Origin::start(|seen| {
        let act = seen.header("x-act").unwrap_or(r#"{"do":"pass"}"#).to_string();
        Reply::with(200, &[("x-do", &act), ("x-secret", "of the upstream")], "body")
    });
    let policy = with(
        probe(json!({"response_reads": ["x-do"], "writes": ["x-a"], "response": {"do": "told"}})),
        json!({"limits": {"time": "100ms"}}),
    );
    let gateway = start(&origin, json!([policy]));
    for (act, reason) in [
        (json!({"do": "trap"}), "policy_trap"),
        (json!({"do": "spin"}), "policy_timeout"),
        (json!({"do": "error", "text": "no"}), "policy_error"),
        (json!({"do": "edits", "edits": [{"set": ["x-b", "1"]}]}), "policy_return"),
    ] {
        let answer = gateway.send(Request::get("/echo").header("x-act", &act.to_string()));
        let answer = answer.expect_problem(503, reason);
        assert_eq!(answer.header("x-secret"), None);
        gateway.get("/echo").expect(200);
    }
}

#[test]
fn skip_goes_on_without_the_policy() {
    let origin = Origin::mirror();
    for policy in [
        with(told(&[]), json!({"on_error": "skip", "limits": {"time": "50ms"}})),
        with(
            probe(json!({"reads": ["x-do"], "request": {"do": "told"}, "on_error": "skip"})),
            json!({"limits": {"time": "50ms"}}),
        ),
    ] {
        let gateway = start(&origin, json!([policy]));
        for act in [json!({"do": "trap"}), json!({"do": "spin"}), json!({"do": "error", "text": "x"})] {
            gateway.send(ask(&act)).expect(200);
        }
    }
    // The operator's word prevails over the policy's.
    let strict = probe(json!({"reads": ["x-do"], "request": {"do": "told"}, "on_error": "skip"}));
    let gateway = start(&origin, json!([with(strict, json!({"on_error": "deny"}))]));
    gateway.send(ask(&json!({"do": "trap"}))).expect(503);
}

#[test]
fn a_loop_never_stalls_other_requests() {
    let origin = Origin::mirror();
    let spins = with(told(&[]), json!({"limits": {"time": "10ms"}}));
    let config = Config::new()
        .upstream("up", &origin)
        .api(json!({"name": "echo", "path": "/echo", "upstream": "up", "chain": [spins]}))
        .api(json!({"name": "calm", "path": "/calm", "upstream": "up"}));
    let gateway = setup_with_probe().start(&config.text());
    // What a request takes on this machine at this time, without any loop.
    let calm = p99(&gateway, Instant::now() + Duration::from_secs(1));
    let end = Instant::now() + Duration::from_secs(3);
    let (others, spun) = std::thread::scope(|scope| {
        let spinners: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut spun = 0;
                    let request = ask(&json!({"do": "spin"}));
                    while Instant::now() < end {
                        // Out of time at first, out of service when it has failed often enough.
                        gateway.send(request.clone()).expect(503);
                        spun += 1;
                    }
                    spun
                })
            })
            .collect();
        let others = p99(&gateway, end);
        (others, spinners.into_iter().map(|run| run.join().unwrap()).sum::<usize>())
    });
    assert!(spun > 10, "only {spun} loops");
    let bound = (calm * 10).max(Duration::from_millis(300));
    assert!(others < bound, "p99 of the others: {others:?}, without a loop: {calm:?}");
}

/// Asks `/calm` until `end`, each time on a new connection, so that every worker gets its share.
fn p99(gateway: &Gateway, end: Instant) -> Duration {
    let mut waits = Vec::new();
    while Instant::now() < end {
        let start = Instant::now();
        gateway.get("/calm").expect(200);
        waits.push(start.elapsed());
    }
    waits.sort_unstable();
    waits[waits.len() * 99 / 100]
}

/// Of a policy that ran out of time before, so that it runs on fibers.
#[test]
fn others_are_served_at_each_tick_of_a_loop() {
    let origin = Origin::mirror();
    let spins = with(told(&[]), json!({"limits": {"time": "2s"}}));
    let config = Config::new()
        .upstream("up", &origin)
        .api(json!({"name": "echo", "path": "/echo", "upstream": "up", "chain": [spins]}))
        .api(json!({"name": "calm", "path": "/calm", "upstream": "up"}))
        .set("server.workers", json!(1));
    let gateway = setup_with_probe().start(&config.text());
    let spin = ask(&json!({"do": "spin"}));
    gateway.send(spin.clone()).expect_problem(503, "policy_timeout");
    let answered = std::thread::scope(|scope| {
        let spinner = scope.spawn(|| gateway.send(spin).expect_problem(503, "policy_timeout"));
        let mut answered = 0;
        while !spinner.is_finished() {
            gateway.get("/calm").expect(200);
            answered += 1;
        }
        answered
    });
    // The loop has two thousand ticks. Were it called again at once, two hundred of them would pass
    // between two looks at the sockets.
    assert!(answered > 30, "{answered} requests of others while a loop ran");
}

#[test]
fn time_in_the_host_is_a_fibers_time() {
    const TICKS: u64 = 100;
    let origin = Origin::mirror();
    let policy = probe(json!({
        "reads": ["x-do"], "writes": ["x-value"], "bucket": "b", "request": {"do": "told"},
    }));
    let limits = json!({"time": format!("{TICKS}ms"), "memory": "64MiB"});
    let policy = with(policy, json!({"limits": limits, "allow": {"buckets": ["b"]}}));
    // One worker, whose next instance is on a fiber.
    let config = echo(&origin, json!([policy])).set("server.workers", json!(1));
    let gateway = setup_with_probe().start(&config.text());
    gateway.send(ask(&json!({"do": "spin"}))).expect_problem(503, "policy_timeout");
    let fill = json!({"do": "fill", "key": "k", "bytes": 24 << 20});
    gateway.send(ask(&fill)).expect_problem(503, "policy_timeout");
    let turns = gateway.send(ask(&json!({"do": "get", "key": "turns"}))).expect(200);
    // `(none)` on a machine that has no time for a single one.
    let turns = turns.json()["headers"]["x-value"][0].as_str().unwrap().parse().unwrap_or(0);
    // Each turn copies 24 MiB twice, which takes several ticks but is looked at once.
    assert!(turns < TICKS / 2, "{turns} turns in {TICKS} ticks");
}

#[test]
fn a_policy_of_which_no_instance_can_be_made_is_quarantined() {
    let origin = Origin::mirror();
    let policy = probe(json!({"bucket": "b", "configure": {"do": "fail_later", "after": 1}}));
    let gateway = start(&origin, json!([with(policy, json!({"allow": {"buckets": ["b"]}}))]));
    eventually("quarantine", || gateway.get("/echo").expect(503).text().contains("policy_quarantined"));
}

#[test]
fn no_text_of_a_policy_begins_a_line_of_the_log() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&["x-a"])]));
    let forged = "x\nFORGED one\r\u{1b}[2Jend";
    gateway.send(ask(&json!({"do": "log", "text": forged}))).expect(200);
    gateway.send(ask(&json!({"do": "error", "text": forged}))).expect(503);
    gateway.send(ask(&json!({"do": "edits", "edits": [{"set": [forged, "1"]}]}))).expect(503);
    let escaped = r"x\nFORGED one\r\u{1b}[2Jend";
    eventually("three lines", || gateway.log().text().matches(escaped).count() == 3);
    assert!(!gateway.log().lines().iter().any(|line| line.starts_with("FORGED")));
}

#[test]
fn a_policy_that_keeps_failing_is_put_out_of_service_and_comes_back() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&[])]));
    eventually("quarantine", || {
        gateway.send(ask(&json!({"do": "trap"}))).expect(503).text().contains("policy_quarantined")
    });
    assert_contains(gateway.admin("/metrics").text(), "quarantine");
    eventually("its return", || gateway.get("/echo").status == 200);
}

#[test]
fn what_fails_is_counted_by_policy_and_verdict() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([told(&[])]));
    gateway.send(ask(&json!({"do": "trap"}))).expect(503);
    gateway.get("/echo").expect(200);
    eventually("the metric", || {
        let page = gateway.admin("/metrics").text();
        page.lines().any(|line| line.contains("probe") && line.contains("trap") && line.ends_with(" 1"))
    });
}

/// A component that does not fit is refused at start with a message that says what is wrong, and
/// at a reload what runs stays.
#[track_caller]
fn misfit(bytes: &[u8], words: &[&str]) {
    let origin = Origin::mirror();
    let bad = echo(&origin, json!([{"plugin": "misfit"}]));
    let refused = match setup().plugin_bytes("misfit", bytes).try_start(&bad.text()) {
        Ok(_) => panic!("it started"),
        Err(refused) => refused,
    };
    assert!(!refused.status.success());
    assert_contains(&refused.text, "misfit");
    for word in words {
        assert_contains(&refused.text, word);
    }

    let good = echo(&origin, json!([told(&[])]));
    let gateway = setup_with_probe().plugin_bytes("misfit", bytes).start(&good.text());
    gateway.reload_refused(&bad.text());
    gateway.get("/echo").expect(200);
    for word in words {
        gateway.log().wait_for(0, word);
    }
    gateway.reload(&good.text());
    gateway.get("/echo").expect(200);
}

#[test]
fn a_component_without_configure_is_refused_by_name() {
    misfit(
        &component(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "schema") (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func $schema (result string) (canon lift (core func $i "schema") (memory (core memory $i "memory"))))
                (export "config-schema" (func $schema)))"#,
        ),
        &["configure"],
    );
}

#[test]
fn a_function_of_the_wrong_type_is_refused_by_name() {
    misfit(
        &component(
            r#"(component
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "zero") (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func $schema (result string) (canon lift (core func $i "zero") (memory (core memory $i "memory"))))
                (export "config-schema" (func $schema))
                (func $tick (result (result (error string)))
                    (canon lift (core func $i "zero") (memory (core memory $i "memory"))))
                (export "on-tick" (func $tick))
                (func $wrong (result u32) (canon lift (core func $i "zero")))
                (export "configure" (func $wrong)))"#,
        ),
        &["configure"],
    );
}

#[test]
fn an_import_that_the_gateway_lacks_is_refused_by_name() {
    misfit(
        &component(
            r#"(component
                (import "witgate:policy/teleport@0.1.0" (instance (export "go" (func))))
                (core module $m
                    (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 64))
                    (func (export "zero") (result i32) (i32.const 0))
                    (func (export "configure") (param i32 i32) (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func $schema (result string) (canon lift (core func $i "zero") (memory (core memory $i "memory"))))
                (export "config-schema" (func $schema))
                (func $tick (result (result (error string)))
                    (canon lift (core func $i "zero") (memory (core memory $i "memory"))))
                (export "on-tick" (func $tick))
                (func $configure (param "config" string) (result (result (error string)))
                    (canon lift (core func $i "configure") (memory (core memory $i "memory"))
                        (realloc (core func $i "realloc"))))
                (export "configure" (func $configure)))"#,
        ),
        &["teleport"],
    );
}

#[test]
fn an_empty_component_is_refused() {
    misfit(&component("(component)"), &["config-schema"]);
}

#[test]
fn a_core_module_is_refused() {
    misfit(&component("(module)"), &["component"]);
}

#[test]
fn what_is_not_wasm_is_refused() {
    misfit(b"#!/bin/sh\nexit 0\n", &[]);
    misfit(b"", &[]);
    let good = std::fs::read(witgate_test_support::guests::probe()).unwrap();
    misfit(&good[..good.len() / 2], &[]);
}

#[test]
fn configuration_that_the_plugin_refuses_refuses_all() {
    let origin = Origin::mirror();
    for (act, words) in [
        (json!({"do": "error", "text": "limit must be positive"}), vec!["limit must be positive"]),
        (json!({"do": "trap"}), vec![]),
        (json!({"do": "spin"}), vec![]),
        (json!({"do": "grow"}), vec![]),
    ] {
        // `configure` has a multiple of a hook's time.
        let policy = with(probe(json!({"configure": act})), json!({"limits": {"time": "10ms"}}));
        let config = echo(&origin, json!([policy]));
        let Err(refused) = setup_with_probe().try_start(&config.text()) else { panic!("{act}: it started") };
        assert!(!refused.status.success(), "{act}");
        assert_contains(&refused.text, "probe");
        for word in words {
            assert_contains(&refused.text, word);
        }
    }
}

#[test]
fn a_plugin_nobody_has_is_refused_with_the_nearest_name() {
    let origin = Origin::mirror();
    let config = echo(&origin, json!([{"plugin": "rate-limt"}]));
    let Err(refused) = setup().try_start(&config.text()) else { panic!("it started") };
    assert_contains(&refused.text, "rate-limt");
    assert_contains(&refused.text, "rate-limit");
}

#[test]
fn a_fault_in_a_log_hook_hurts_nobody() {
    let origin = Origin::mirror();
    let gateway = start(&origin, json!([probe(json!({"log_reads": [":path"], "log": {"do": "trap"}}))]));
    for _ in 0..20 {
        gateway.get("/echo").expect(200);
    }
}
