//! Policies in every language: the conformance suite, the examples and new projects, built by
//! `witgate plugin build` and run in the gateway's own runtime; and all of them in one chain.
//!
//! A language whose tool is not on this machine is left out, and that is said; with
//! `WITGATE_LANGUAGES=all`, as `make languages` sets it, that is a failure.

use crate::fixture::{Config, assert_contains, setup, with_target};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use witgate_test_support::{Origin, Request};
use witgate_toolchain::Language;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn is_here(language: Language) -> bool {
    let missing = language.tools().iter().find_map(|tool| tool.command().err());
    let Some(why) = missing else { return true };
    assert!(std::env::var_os("WITGATE_LANGUAGES").is_none(), "{}: {why}", language.name());
    eprintln!("{} is left out: {why}", language.name());
    false
}

/// A copy of a project that stays from one run of the tests to the next, so that what has not
/// changed is not built again; nothing is built among the sources.
fn kept(kind: &str, name: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_BIN_EXE_witgate")).with_file_name("witgate-test-languages");
    let folder = all.join(kind).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            _ if entry.file_name() == "build" => {}
            true => copy(&path, &target),
            // As compilers see it, only what is new has changed.
            false if fs::read(&target).ok() == fs::read(&path).ok() => {}
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

/// Runs the cases of a project, or those of `cases`.
#[track_caller]
fn passes(project: &Path, cases: Option<&Path>) {
    let cases = cases.map(|cases| ["--cases".to_string(), cases.display().to_string()]);
    let project = project.display().to_string();
    let mut arguments = vec!["plugin", "test", &project];
    arguments.extend(cases.iter().flatten().map(String::as_str));
    let output = setup().command(&arguments);
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert_contains(&told, ", 0 failed");
}

/// The suite, the example and a new project of one language.
fn all_of(language: Language) {
    if !is_here(language) {
        return;
    }
    let name = language.folder();
    let suite = kept("suite", name);
    copy(&root().join("tests/languages").join(name), &suite);
    passes(&suite, Some(&root().join("tests/languages/suite.yaml")));

    let example = kept("example", name);
    copy(&root().join("examples/policies").join(name), &example);
    passes(&example, None);

    passes(&new(language, "new"), None);
}

/// What `plugin new` writes.
fn new(language: Language, kind: &str) -> PathBuf {
    let folder = kept(kind, language.folder());
    let fresh = tempfile::tempdir().unwrap();
    let path = fresh.path().join("new").display().to_string();
    let name = format!("in-{}", language.folder());
    let output = setup().command(&["plugin", "new", &name, "--language", language.name(), "--path", &path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    copy(&fresh.path().join("new"), &folder);
    folder
}

/// What the cases of a new project say once `from` in its policy has become `to`.
fn changed(language: Language, kind: &str, from: &str, to: &str) -> String {
    let project = new(language, kind);
    let source = project.join("src/policy").with_extension(language.extension());
    let text = fs::read_to_string(&source).unwrap();
    assert_contains(&text, from);
    fs::write(&source, text.replace(from, to)).unwrap();
    let output = setup().command(&["plugin", "test", &project.display().to_string()]);
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_trap_is_told_by_names_of_functions() {
    if is_here(Language::C) {
        let read = "  wg_option_string_t sent";
        let told = changed(Language::C, "trap", read, &format!("  __builtin_trap();\n{read}"));
        assert_contains(&told, "    at exports_wg_on_request\n");
    }
}

/// The bindings free what is not empty only; a million times what is would fill the memory.
#[test]
fn what_is_empty_takes_no_memory_in_c() {
    if is_here(Language::C) {
        let plan = "  wg_plan_writes(";
        let often = "  for (int time = 0; time < 1500000; time++) {\n    \
                     wg_string_t none = wg_copy(\"\", 0);\n    wg_string_free(&none);\n  }\n";
        let told = changed(Language::C, "empty", plan, &format!("{often}{plan}"));
        assert_contains(&told, ", 0 failed");
    }
}

/// Zig's allocators place what is empty where the gateway cannot look.
#[test]
fn what_is_empty_can_be_returned_in_zig() {
    if is_here(Language::Zig) {
        let none = "witgate.view(witgate.owned(\"\"))";
        let told = changed(Language::Zig, "empty", "witgate.value(values, 1) orelse \"\"", none);
        assert_contains(&told, "{\"amend\":[\"set x-client-address: \"]}");
    }
}

#[test]
fn c() {
    all_of(Language::C);
}

#[test]
fn cpp() {
    all_of(Language::Cpp);
}

#[test]
fn zig() {
    all_of(Language::Zig);
}

#[test]
fn go() {
    all_of(Language::Go);
}

#[test]
fn javascript() {
    all_of(Language::JavaScript);
}

#[test]
fn typescript() {
    all_of(Language::TypeScript);
}

#[test]
fn python() {
    all_of(Language::Python);
}

/// Rust needs no tool but cargo, which runs this.
#[test]
fn rust() {
    let built = tempfile::tempdir().unwrap();
    for (project, cases, name) in [
        ("tests/languages/rust", "tests/languages/suite.yaml", "suite.wasm"),
        ("examples/policies/rust", "examples/policies/rust/tests", "webhook.wasm"),
    ] {
        let component = built.path().join(name);
        let arguments = ["plugin", "build", &root().join(project).display().to_string(), "--out"];
        let output =
            with_target(setup()).command(&[&arguments[..], &[&*component.to_string_lossy()]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        passes(&component, Some(&root().join(cases)));
    }
}

#[test]
fn all_languages_in_one_chain_under_load() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 250;
    let here: Vec<_> = Language::ALL.into_iter().filter(|language| is_here(*language)).collect();
    if here.is_empty() {
        return;
    }
    let origin = Origin::named("up");
    let mut setup = setup();
    let mut chain = vec![json!({"plugin": "request-id"})];
    for language in here {
        let folder = new(language, "chain");
        passes(&folder, None);
        let name = format!("in-{}", language.folder());
        setup = setup.plugin(&name, &folder.join(format!("{name}.wasm")));
        chain.push(json!({
            "plugin": name,
            "config": {"header": "x-tenant"},
            // The machine of a test is busier than that of a gateway.
            "limits": {"memory": "64MiB", "time": "5s", "instances": 8},
        }));
    }
    let config = Config::new().upstream("echo", &origin).simple("echo", Value::from(chain));
    let gateway = setup.start(&config.text());
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..REQUESTS {
                    gateway.send(Request::get("/echo").header("x-tenant", "blue")).expect(200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(answered.into_inner(), CLIENTS * REQUESTS);
    gateway.get("/echo").expect(400);
}
