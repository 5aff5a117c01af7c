//! Plugins as attackers: what a component does to starve or outlive its hook, and what somebody does
//! to its file. `misbehaving` has what a verdict may not be.

use crate::fixture::{assert_contains, echo, probe, setup, setup_with_probe, told, with};
use serde_json::{Value, json};
use std::process::Command;
use witgate_test_support::{Gateway, Origin, Request, guests};

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
