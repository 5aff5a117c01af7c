//! `witgate plugin test` and `witgate test`: cases run offline, and what is told of them.

use crate::fixture::{Config, assert_contains, assert_lacks, component, setup};
use serde_json::json;
use std::fs;
use std::process::Output;
use witgate_test_support::{Origin, Setup, guests};

#[track_caller]
fn told(output: &Output, code: i32) -> String {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

fn with_probe(suite: &str) -> Setup {
    setup().plugin("probe", guests::probe()).file("plugins/tests/probe.yaml", suite)
}

const ONE: &str = "cases: [{ name: a, expect: { answer: { status: 200 } } }]";
const PROBE: [&str; 3] = ["plugin", "test", "plugins/probe.wasm"];

/// Edits as it is told by a header.
const EDITS: &str = r#"
config: { reads: [x-do], writes: ["x-*"], request: { do: told } }
cases:
  - name: nothing asked
    request: { path: "/a?b=1" }
    expect:
      on-request: proceed
      sent: { method: GET, path: "/a?b=1", body: "" }
      answer: { status: 200 }
  - name: a forbidden edit
    request:
      headers: { x-do: '{"do": "edits", "edits": [{"set": ["other", "1"]}]}' }
    expect:
      on-request:
        fails: "returned what is not allowed: `other` is not among the writes that its plan declares"
      sent: null
      answer: { status: 503 }
"#;

#[test]
fn cases_of_a_plugin_pass_and_fail() {
    let setup = with_probe(EDITS);
    let text = told(&setup.command(&PROBE), 0);
    assert_contains(&text, "2 passed, 0 failed");

    // One thing other than expected: both sides are shown, and a report for machines is written.
    let suite = setup.path("plugins/tests/probe.yaml");
    fs::write(&suite, EDITS.replace("answer: { status: 503 }", "answer: { status: 403 }")).unwrap();
    let junit = [&PROBE[..], &["--junit", "junit.xml"]].concat();
    let text = told(&setup.command(&junit), 1);
    for line in ["-   status: 403", "+   status: 503", "1 passed, 1 failed", "reads {\"x-do\":"] {
        assert_contains(&text, line);
    }
    assert_contains(fs::read_to_string(setup.path("junit.xml")).unwrap(), "failures=\"1\"");

    // Accepted, it passes, and nothing but the expectation has changed.
    told(&setup.command(&[&PROBE[..], &["--update"]].concat()), 0);
    let updated = fs::read_to_string(&suite).unwrap();
    assert_contains(&updated, "request: { path: \"/a?b=1\" }");
    assert_lacks(&updated, "403");
    told(&setup.command(&PROBE), 0);
}

#[test]
fn state_and_time_go_on_from_case_to_case() {
    let setup = with_probe(
        r#"
config: { bucket: visits, writes: ["x-*"], request: { do: count, key: k, by: 1 } }
cases:
  - name: counts on from what is there
    state: { visits: { k: "41" } }
    expect:
      state: { visits: { k: "42" } }
  - name: and on
    continue: true
    after: 1h
    expect:
      state: { visits: { k: "43" } }
  - name: a case of its own starts anew
    expect:
      state: { visits: { k: "1" } }
"#,
    );
    assert_contains(told(&setup.command(&PROBE), 0), "3 passed");
}

#[test]
fn a_failing_policy_shows_where_it_trapped() {
    let setup = with_probe(
        r#"
config: { request: { do: trap } }
cases:
  - name: traps
    expect: { on-request: { fails: trapped }, answer: { status: 503 } }
"#,
    );
    let text = told(&setup.command(&[&PROBE[..], &["--verbose"]].concat()), 0);
    assert_contains(&text, "wasm trap: wasm `unreachable` instruction executed");
    assert_contains(&text, "    at ");
}

#[test]
fn a_refused_configuration_is_a_result() {
    let setup = with_probe(
        r#"
cases:
  - name: no such name
    config: { reads: ["no such:name"] }
    expect:
      refused: "plugin `probe` made a plan that is not allowed: `no such:name` is nothing that can be read"
"#,
    );
    told(&setup.command(&PROBE), 0);

    // Nothing ran: that nothing was sent is no success, unless the refusal is what is expected.
    let suite = "config: { reads: ['no such:name'] }\ncases: [{ name: a, expect: { sent: null } }]";
    let text = told(&with_probe(suite).command(&PROBE), 1);
    assert_contains(&text, "refused: plugin `probe` made a plan that is not allowed");
}

#[test]
fn what_cannot_be_run_is_told() {
    let setup = with_probe("cases: [{ name: a, requst: {} }]");
    assert_contains(told(&setup.command(&PROBE), 1), "requst");
    assert_contains(
        told(&setup.command(&["plugin", "test", "nowhere"]), 1),
        "neither a folder nor a component",
    );
    fs::remove_dir_all(setup.path("plugins/tests")).unwrap();
    assert_contains(told(&setup.command(&PROBE), 1), "there are no cases");
    let setup = with_probe("cases: [{ name: a, clock: noon }]");
    assert_contains(told(&setup.command(&PROBE), 1), "clock");
    let setup = setup.plugin_bytes("empty", &component("(component)")).file("plugins/tests/probe.yaml", ONE);
    let text = told(&setup.command(&["plugin", "test", "plugins/empty.wasm"]), 1);
    assert_contains(&text, "does not export `config-schema");
}

#[test]
fn a_policy_that_calls_out_gets_what_the_case_says() {
    let suite = r#"
config: { calls: [{ upstream: up, path: /token }] }
fetches:
  up: [{ status: 200, body: secret }]
cases:
  - name: called
"#;
    let setup = setup().plugin("caller", guests::caller()).file("plugins/tests/a.yaml", suite);
    let text = told(&setup.command(&["plugin", "test", "plugins/caller.wasm"]), 1);
    assert_contains(&text, "nothing is expected yet");
    assert_contains(&text, "http-client.fetch(up GET /token)");
}

#[test]
fn a_chain_shows_what_each_policy_did() {
    let origin = Origin::named("up");
    let chain = json!([
        { "plugin": "request-id" },
        { "plugin": "ip-filter", "config": { "allow": ["192.0.2.0/24"] } },
    ]);
    let config = Config::new().upstream("up", &origin).simple("up", chain).text();
    let suite = r#"
cases:
  - name: let in
    request: { path: /up/a }
    upstream: { status: 201, body: made }
    expect:
      operation: up
      answer: { status: 201, body: made }
  - name: kept out
    request: { path: /up/a, client: 203.0.113.9 }
    expect:
      sent: null
      answer: { status: 403 }
  - name: nobody there
    request: { path: /elsewhere }
    expect: { answer: { status: 404 } }
"#;
    let setup = setup().file("witgate.yaml", &config).file("tests/chain.yaml", suite);
    let text = told(&setup.command(&["test", "-c", "witgate.yaml", "--verbose"]), 0);
    for line in ["3 passed", "up/ip-filter on-request: \"proceed\"", "reads {\"client:ip\":\"192.0.2.1\"}"] {
        assert_contains(&text, line);
    }
    assert_eq!(origin.count(), 0, "nothing was sent");
}

#[test]
fn the_log_hears_who_answered() {
    let told_by_log = |request: &str| {
        let suite = format!(
            "config:\n  bucket: b\n  log_reads: ['answered:by', 'answered:why']\n  request: {request}\n  log: {{ do: collect }}\n\
             cases: [{{ name: a }}]"
        );
        told(&with_probe(&suite).command(&PROBE), 1)
    };
    assert_contains(told_by_log("{ do: pass }"), r#"{"answered:by":"upstream","answered:why":"proxied"}"#);
    let text = told_by_log("{ do: reply, status: 401 }");
    assert_contains(text, r#"{"answered:by":"policy api/probe","answered:why":"answered"}"#);
    let text = told_by_log("{ do: error, text: no }");
    assert_contains(text, r#"{"answered:by":"policy api/probe","answered:why":"policy_error"}"#);
}
