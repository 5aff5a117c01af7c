//! Plugins that are costly to load: too large, too deep, too many of anything, or made to keep a
//! compiler busy. Whoever serves goes on serving, and what came of it is told in a sentence.

use crate::fixture::{assert_contains, component, echo, setup, setup_with_probe, told};
use serde_json::json;
use std::fmt::Write;
use witgate_test_support::gateway::{children, signal};
use witgate_test_support::{Gateway, Origin, Request, Setup, eventually, guests};

/// What no gateway should wait for, and what it says instead.
struct Costly {
    what: &'static str,
    bytes: Vec<u8>,
    told: &'static str,
}

/// A core module inside a component.
fn module(fields: &str) -> Vec<u8> {
    component(&format!("(component (core module {fields}))"))
}

/// So many sections that nobody reads, behind those of a component.
fn with_sections(mut component: Vec<u8>, count: usize) -> Vec<u8> {
    for _ in 0..count {
        // A custom section of three bytes: its name, `c`, and one more.
        component.extend([0, 3, 1, b'c', 0]);
    }
    component
}

fn nested(depth: usize, open: &str, close: &str) -> String {
    format!("{}{}", open.repeat(depth), close.repeat(depth))
}

/// A component that stands for 20^`depth` instances of one module.
fn multiplying(depth: usize) -> Vec<u8> {
    let leaf = "(component (core module $m) (core instance (instantiate $m)))".to_string();
    component(&(0..depth).fold(leaf, |inner, _| {
        let named = inner.replacen("(component", "(component $c", 1);
        format!("(component {named} {})", "(instance (instantiate $c))".repeat(20))
    }))
}

/// A component type within a component type, so many deep: 15 kB on which a reader that calls itself
/// runs out of stack.
fn nested_types(depth: usize) -> Vec<u8> {
    let mut ty = vec![0x41, 0];
    for _ in 0..depth {
        ty.splice(0..0, [0x41, 1, 1]);
    }
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    let mut content = vec![1];
    content.extend(ty);
    bytes.push(7);
    let mut length = content.len();
    while length > 127 {
        bytes.push(u8::try_from(length & 127).unwrap() | 128);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend(content);
    bytes
}

/// Blocks within blocks: a few hundred kilobytes that no compiler has done with in a test's time.
fn endless() -> Vec<u8> {
    module(&format!("(func {})", nested(400_000, "block ", "end ")))
}

fn all() -> Vec<Costly> {
    let costly = |what, bytes, told| Costly { what, bytes, told };
    let mut gzip = vec![0x1f, 0x8b, 8, 0];
    gzip.resize(1 << 20, 0xa5);
    let mut garbage = component("(component)");
    garbage.resize(1 << 20, 0xa5);
    let whole = std::fs::read(guests::probe()).unwrap();
    vec![
        costly(
            "functions",
            module(&"(func)".repeat(200_001)),
            "has 200001 functions; at most 200000 are allowed",
        ),
        costly(
            "a function",
            module(&format!("(func {})", "nop ".repeat(3 << 20))),
            "has a function of 3145730 bytes",
        ),
        costly(
            "types",
            component(&format!("(component {})", "(type string)".repeat(500_001))),
            "sections and items",
        ),
        costly("globals", module(&"(global i32 i32.const 0)".repeat(500_001)), "sections and items"),
        costly("sections", with_sections(whole, 1_000_000), "sections and items; at most 500000 are allowed"),
        costly("a memory", module("(memory 65536)"), "has a memory of 4294967296 bytes; at most 1073741824"),
        costly(
            "a memory of 64 bits",
            module("(memory i64 0x1_0000_0000)"),
            "has a memory of 281474976710656 bytes",
        ),
        costly(
            "a table",
            module("(table 4000000 funcref)"),
            "has a table of 4000000 elements; at most 65536",
        ),
        costly(
            "memories",
            component(&format!(
                "(component (core module $m {}) (core instance (instantiate $m)))",
                "(memory 1)".repeat(50)
            )),
            "memories",
        ),
        costly(
            "components",
            component(&format!("(component {})", "(component)".repeat(1_001))),
            "modules and components; at most 1000",
        ),
        costly(
            "depth",
            component(&nested(17, "(component ", ")")),
            "has components nested 17 deep; at most 16",
        ),
        costly("deep types", nested_types(5_000), "nests so deep that the compiler runs out of stack"),
        costly("instances", multiplying(4), "core module instances"),
        costly(
            "a name",
            component(&format!(r#"(component (import "witgate:policy/{}" (func)))"#, "a".repeat(90_000))),
            "fit this gateway",
        ),
        costly("gzip", gzip, "is not WebAssembly"),
        costly("garbage", garbage, "is not a whole component"),
    ]
}

#[test]
fn what_is_too_large_or_too_deep_is_refused_in_a_sentence() {
    let origin = Origin::mirror();
    let good = echo(&origin, json!([told(&[])])).text();
    let bad = echo(&origin, json!([{"plugin": "costly"}])).text();
    let mut gateway = setup_with_probe().start(&good);
    let before = gateway.resident();
    for Costly { what, bytes, told } in all() {
        gateway.install("costly", &bytes);
        let mark = gateway.log().mark();
        gateway.reload_refused(&bad);
        gateway.log().wait_for(mark, told);
        gateway.get("/echo").expect(200);
        assert!(gateway.is_running(), "{what}");

        // Those who only look say the same.
        for arguments in [&["check", "-c", "witgate.yaml"][..], &["plugin", "inspect", "plugins/costly.wasm"]]
        {
            let output = gateway.command(arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{what}: {said}");
            assert_contains(&said, told);
            assert!(said.len() < 4_000, "{what}: {said}");
        }
        gateway.write_config(&good);
    }
    let grown = gateway.peak().saturating_sub(before);
    assert!(grown < 300 << 20, "{} MiB more", grown >> 20);
}

#[test]
fn no_gateway_starts_with_them() {
    let origin = Origin::mirror();
    let bad = echo(&origin, json!([{"plugin": "costly"}])).text();
    for Costly { what, bytes, told } in all() {
        let Err(refused) = setup().plugin_bytes("costly", &bytes).try_start(&bad) else {
            panic!("{what}: it started")
        };
        assert_eq!(refused.status.code(), Some(1), "{what}: {}", refused.text);
        assert_contains(&refused.text, told);
    }
}

#[test]
fn a_file_of_gigabytes_is_not_even_read() {
    let origin = Origin::mirror();
    let good = echo(&origin, json!([told(&[])])).text();
    let gateway = setup_with_probe().start(&good);
    let before = gateway.resident();
    let file = std::fs::File::create(gateway.path("plugins/costly.wasm")).unwrap();
    file.set_len(10 << 30).unwrap();
    let mark = gateway.log().mark();
    gateway.reload_refused(&echo(&origin, json!([{"plugin": "costly"}])).text());
    let words = "it has 10737418240 bytes; at most 67108864 are allowed";
    gateway.log().wait_for(mark, words);
    let output = gateway.command(&["plugin", "inspect", "plugins/costly.wasm"]);
    assert_contains(String::from_utf8_lossy(&output.stderr), words);
    assert!(gateway.peak() < before + (60 << 20), "it was read");
    gateway.get("/echo").expect(200);
}

#[test]
fn what_is_no_file_is_not_waited_for_by_those_who_look() {
    let setup = setup();
    let pipe = setup.path("pipe.wasm");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for file in ["pipe.wasm", "/dev/zero", "plugins"] {
        let output = setup.command(&["plugin", "inspect", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert_contains(String::from_utf8_lossy(&output.stderr), "no regular file");
    }
}

#[test]
fn nobody_reads_the_depths_of_what_does_not_compile() {
    let setup = setup().file("deep.wasm", nested_types(5_000));
    for arguments in [&["plugin", "inspect", "deep.wasm"][..], &["plugin", "inspect", "deep.wasm", "--wit"]] {
        let output = setup.command(arguments);
        assert_eq!(output.status.code(), Some(1), "{:?}", output.status);
        assert_contains(String::from_utf8_lossy(&output.stderr), "runs out of stack");
    }
}

#[test]
fn a_world_that_cannot_be_written_down_is_told() {
    // Valid, and nothing that a generator makes.
    let odd = component(r#"(component (import "witgate:policy/odd" (func)))"#);
    let setup = setup().file("odd.wasm", odd);
    for (arguments, words) in [
        (&["plugin", "inspect", "odd.wasm"][..], "does not fit this gateway"),
        (&["plugin", "inspect", "odd.wasm", "--wit"], "cannot be written as WIT"),
    ] {
        let output = setup.command(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_contains(String::from_utf8_lossy(&output.stderr), words);
    }
}

#[test]
fn thousands_of_sections_hurt_nobody() {
    let origin = Origin::mirror();
    let bytes = with_sections(std::fs::read(guests::probe()).unwrap(), 20_000);
    let gateway = setup().plugin_bytes("probe", &bytes).start(&echo(&origin, json!([told(&[])])).text());
    gateway.get("/echo").expect(200);
}

/// A gateway that serves, and has been told to load what never compiles; and who compiles it.
fn compiling(origin: &Origin) -> (Gateway, u32) {
    let good = echo(origin, json!([told(&[])])).set("plugins.cache", json!("cache"));
    let gateway = setup_with_probe().start(&good.text());
    gateway.install("endless", &endless());
    gateway.write_config(
        &good
            .simple("endless", json!([{"plugin": "endless"}]))
            .text()
            .replace("\"upstream\": \"endless\"", "\"upstream\": \"echo\""),
    );
    gateway.signal("HUP");
    let compiler = compiler_of(gateway.pid());
    (gateway, compiler)
}

fn compiler_of(pid: u32) -> u32 {
    let mut found = Vec::new();
    eventually("somebody to compile", || {
        found = children(pid);
        !found.is_empty()
    });
    found[0]
}

fn runs(pid: u32) -> bool {
    // Whoever is dead and not yet asked for has no memory.
    std::fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|text| !text.starts_with("0 "))
}

#[test]
fn requests_are_served_while_a_plugin_compiles_and_after_it_could_not() {
    let origin = Origin::mirror();
    let (mut gateway, compiler) = compiling(&origin);
    for _ in 0..100 {
        gateway.get("/echo").expect(200);
    }
    assert_eq!(gateway.admin("/readyz").status, 200);
    assert!(runs(compiler), "it was done before the requests were");
    assert!(!gateway.log().contains("reload"), "{}", gateway.log().text());

    // The gateway goes first: on the processors, and when memory is short.
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{compiler}/{file}")).unwrap();
    let niceness = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
    };
    eventually("the compiler to be the one to end", || of("oom_score_adj").trim() == "1000");
    assert!(niceness(compiler) > niceness(gateway.pid()));
    let limits = of("limits");
    for (limit, most) in
        [("Max data size", 4_u64 << 30), ("Max file size", 512 << 20), ("Max core file size", 0)]
    {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert_contains(line, &format!(" {most} "));
    }

    // As the kernel does when memory is short.
    signal(compiler, "KILL");
    gateway.log().wait_for(0, "the compiler was killed");
    gateway.log().wait_for(0, "the running configuration is unchanged");
    gateway.get("/echo").expect(200);
    assert!(gateway.is_running());
    // The change of the file may have been seen as well, and be compiled once more.
    eventually("finished code and nothing else", || {
        children(gateway.pid()).into_iter().for_each(kill);
        let entries = std::fs::read_dir(gateway.path("cache")).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().path());
        names.all(|path| path.extension().is_some_and(|extension| extension == "cwasm"))
    });
}

/// Ends a process that may have ended by itself.
fn kill(pid: u32) {
    let _ = std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).output();
}

#[test]
fn a_stop_does_not_wait_for_a_compiler_and_leaves_none_behind() {
    let origin = Origin::mirror();
    let (gateway, compiler) = compiling(&origin);
    assert!(gateway.stop().success());
    eventually("the compiler to be gone", || !runs(compiler));

    // Nor does one that comes while the gateway starts, nor one that nobody can refuse.
    for (name, status) in [("TERM", Some(1)), ("INT", Some(1)), ("KILL", None)] {
        let mut config = String::new();
        let chain = json!([{"plugin": "endless"}]);
        write!(config, "{}", echo(&origin, chain).set("plugins.cache", json!("cache")).text()).unwrap();
        let setup: Setup = setup().plugin_bytes("endless", &endless()).file("witgate.yaml", config);
        let mut starting = setup.spawn(&["run", "-c", "witgate.yaml"]);
        let compiler = compiler_of(starting.pid());
        signal(starting.pid(), name);
        assert_eq!(starting.wait().code(), status, "{name}");
        eventually("the compiler to be gone", || !runs(compiler));
    }
}

#[test]
fn a_reload_that_was_asked_for_meanwhile_is_made_when_the_compiler_is_done() {
    let origin = Origin::mirror();
    let (gateway, compiler) = compiling(&origin);
    let good = echo(&origin, json!([])).set("plugins.cache", json!("cache")).simple("echo2", json!([]));
    let good = good.text().replace("\"upstream\": \"echo2\"", "\"upstream\": \"echo\"");
    gateway.write_config(&good);
    for _ in 0..50 {
        gateway.signal("HUP");
    }
    gateway.get("/echo2").expect(404);
    signal(compiler, "KILL");
    eventually("the configuration that was written last", || gateway.get("/echo2").status == 200);
}

#[test]
fn a_running_plugin_whose_file_becomes_what_never_compiles_goes_on() {
    let origin = Origin::mirror();
    let config = echo(&origin, json!([told(&["x-a"])])).set("plugins.cache", json!("cache"));
    let gateway = setup_with_probe().start(&config.text());
    gateway.install("probe", &endless());
    // Nobody asked: the gateway sees it.
    let compiler = compiler_of(gateway.pid());
    let act = json!({"do": "edits", "edits": [{"set": ["x-a", "still"]}]}).to_string();
    let works = || {
        let answer = gateway.send(Request::get("/echo").header("x-do", &act)).expect(200);
        assert_eq!(answer.json()["headers"]["x-a"][0], "still");
    };
    for _ in 0..20 {
        works();
    }
    assert!(runs(compiler), "it was done before the requests were");
    signal(compiler, "KILL");
    gateway.log().wait_for(0, "reload refused");
    works();
}
