//! Disks that take nothing more: for compiled code, logs, state and configurations. What is served
//! goes on, and what cannot be kept is told by its path. Full disks are bounds on the size of files
//! here, which every user can set; `faults` has what breaks elsewhere.

use crate::fixture::{Config, assert_contains, echo, key_hash, setup, setup_with_probe, told};
use serde_json::json;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use witgate_test_support::{Origin, Request, Setup, eventually, guests};

/// No file grows beyond so many bytes, which `sh` counts in halves of a kilobyte.
fn files_of(bytes: usize) -> Setup {
    setup().by_shell(&format!("ulimit -f {}", bytes / 512), "")
}

fn with_cache(config: Config) -> Config {
    config.set("plugins.cache", json!("cache"))
}

fn code(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[test]
fn a_log_that_cannot_grow_costs_lines_and_not_the_gateway() {
    let origin = Origin::named("up");
    let config = echo(&origin, json!([])).set("access_log", json!({"file": "access.log"}));
    let mut gateway = files_of(4096).start(&config.text());
    eventually("lines that did not fit", || {
        gateway.get("/echo").expect(200);
        gateway.metric("witgate_access_log_dropped_lines_total").is_some_and(|count| count > 0.0)
    });
    assert!(fs::metadata(gateway.path("access.log")).unwrap().len() <= 4096);
    // Moved away, as `logrotate` does, there is room again.
    fs::rename(gateway.path("access.log"), gateway.path("access.log.1")).unwrap();
    gateway.signal("HUP");
    eventually("lines in the new file", || {
        gateway.get("/echo").expect(200);
        fs::metadata(gateway.path("access.log")).is_ok_and(|metadata| metadata.len() > 0)
    });
    assert!(gateway.is_running());
}

/// It reads up to the ready line, and then nothing, without going away.
#[test]
fn a_reader_of_standard_error_that_stalls_holds_up_nobody() {
    let origin = Origin::mirror();
    let reader = "mkfifo log\nexec 9<>log\ngrep -m 1 'witgate ready:' <log &";
    let gateway = setup_with_probe()
        .by_shell(reader, "2>log")
        .start(&echo(&origin, json!([told(&[])])).simple("calm", json!([])).upstream("calm", &origin).text());
    let line = json!({"do": "log", "text": "x".repeat(4000)}).to_string();
    // Four times what a pipe holds.
    for _ in 0..64 {
        gateway.send(Request::get("/echo").header("x-do", &line)).expect(200);
    }
    gateway.get("/calm").expect(200);
    assert!(gateway.stop().success());
}

#[test]
fn code_that_cannot_be_kept_is_told_and_what_runs_goes_on() {
    let origin = Origin::mirror();
    let wanting = with_cache(echo(&origin, json!([told(&[])])));
    let size = fs::metadata(guests::probe()).unwrap().len() as usize;
    // Not even the component fits; and only that.
    for (bytes, words) in
        [(size / 2, "the code cache cannot be written"), (size + 4096, "too long to be kept")]
    {
        let Err(refused) = files_of(bytes).plugin("probe", guests::probe()).try_start(&wanting.text()) else {
            panic!("{bytes}: it started")
        };
        assert_eq!(refused.status.code(), Some(1), "{}", refused.text);
        assert_contains(&refused.text, words);

        let mut gateway = files_of(bytes)
            .plugin("probe", guests::probe())
            .start(&with_cache(echo(&origin, json!([]))).text());
        gateway.reload_refused(&wanting.text());
        gateway.log().wait_for(0, words);
        gateway.get("/echo").expect(200);
        assert!(gateway.is_running());
        // The change of the file may have been seen as well, and be tried once more.
        eventually("nothing to be left", || fs::read_dir(gateway.path("cache")).unwrap().next().is_none());
    }
}

#[test]
fn a_cache_that_is_taken_away_is_made_anew() {
    let origin = Origin::mirror();
    let config = with_cache(echo(&origin, json!([told(&[])])));
    let gateway = setup_with_probe().start(&config.text());
    let cache = gateway.path("cache");
    let other = |number: usize| {
        config.clone().api(json!({
            "name": format!("api{number}"), "path": format!("/api{number}"), "upstream": "echo",
            "chain": [{"plugin": format!("other{number}")}],
        }))
    };
    let install = |number: usize| {
        // Other bytes, so that they are compiled.
        let mut bytes = fs::read(guests::probe()).unwrap();
        bytes.extend([0, 3, 1, b'c', u8::try_from(number).unwrap()]);
        gateway.install(&format!("other{number}"), &bytes);
    };

    fs::remove_dir_all(&cache).unwrap();
    install(1);
    gateway.reload(&other(1).text());
    gateway.get("/api1").expect(200);
    assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);

    // A file in its place, or a folder that others can write to, is not touched.
    fs::remove_dir_all(&cache).unwrap();
    fs::write(&cache, "mine").unwrap();
    install(2);
    gateway.reload_refused(&other(2).text());
    gateway.log().wait_for(0, "the code cache cannot be written");
    assert_eq!(fs::read(&cache).unwrap(), b"mine");
    fs::remove_file(&cache).unwrap();
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, PermissionsExt::from_mode(0o777)).unwrap();
    let mark = gateway.log().mark();
    gateway.reload_refused(&other(2).text());
    gateway.log().wait_for(mark, "can be written by others");
    gateway.get("/echo").expect(200);
    gateway.get("/api1").expect(200);
    gateway.get("/api2").expect(404);

    fs::set_permissions(&cache, PermissionsExt::from_mode(0o700)).unwrap();
    gateway.reload(&other(2).text());
    gateway.get("/api2").expect(200);
}

#[test]
fn code_that_is_cut_anywhere_or_foreign_is_compiled_anew() {
    let origin = Origin::mirror();
    let config = with_cache(echo(&origin, json!([told(&[])]))).text();
    let gateway = setup_with_probe().start(&config);
    let path = code(&gateway.path("cache")).remove(0);
    drop(gateway.get("/echo").expect(200));
    let whole = fs::read(&path).unwrap();
    let cuts =
        [1, 16, 64, 4096, 65_536, whole.len() / 3, whole.len() - 4096, whole.len() - 64, whole.len() - 1];
    let mut spoilt: Vec<Vec<u8>> = cuts.iter().map(|end| whole[..*end].to_vec()).collect();
    // Code, but no component's.
    spoilt.push(fs::read("/bin/true").unwrap());
    for bytes in spoilt {
        let setup = setup_with_probe();
        let cache = setup.path("cache");
        fs::create_dir(&cache).unwrap();
        fs::set_permissions(&cache, PermissionsExt::from_mode(0o700)).unwrap();
        let path = cache.join(path.file_name().unwrap());
        fs::write(&path, &bytes).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let gateway = setup.start(&config);
        gateway.get("/echo").expect(200);
        assert_contains(gateway.log().text(), "cached code is unusable");
        assert_eq!(fs::metadata(&path).unwrap().len(), whole.len() as u64, "{} bytes", bytes.len());
    }
}

#[test]
fn a_cache_of_somebody_else_is_refused() {
    let origin = Origin::mirror();
    let setup = setup_with_probe();
    fs::create_dir(setup.path("cache")).unwrap();
    // Only root can give its folder away; to all others, root's are somebody else's.
    let given = std::os::unix::fs::chown(setup.path("cache"), Some(65_534), None).is_ok();
    let place = if given { "cache" } else { "/usr" };
    let config = echo(&origin, json!([told(&[])])).set("plugins.cache", json!(place));
    let Err(refused) = setup.try_start(&config.text()) else { panic!("it started") };
    assert_contains(&refused.text, "belongs to another user, and compiled code is trusted");
}

#[test]
fn a_standard_error_that_takes_nothing_stops_nobody() {
    let origin = Origin::mirror();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = echo(&origin, json!([told(&[])]))
        .set("listeners", json!([{"name": "public", "address": address.to_string()}]));
    let setup = setup()
        .by_shell("", "2>/dev/full")
        .plugin("probe", guests::probe())
        .file("witgate.yaml", config.text());
    // Nobody can be told which port the system picked.
    drop(listener);
    let _gateway = setup.spawn(&["run", "-c", "witgate.yaml"]);
    eventually("somebody to listen", || TcpStream::connect(address).is_ok());
    Request::get("/echo").send(address).expect(200);
    // A trap is logged, or would be.
    let trap = Request::get("/echo").header("x-do", &json!({"do": "trap"}).to_string());
    trap.send(address).expect(503);
    Request::get("/echo").send(address).expect(200);
    // A command that cannot complain fails as it would.
    let output = setup.command(&["plugin", "inspect", "no-such"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn state_that_cannot_be_kept_is_told_at_the_start() {
    let origin = Origin::named("up");
    for (place, words) in
        [("state.redb", "state.redb"), ("no/such/state.redb", "no/such/state.redb"), (".", "state")]
    {
        let config = echo(&origin, json!([])).set("state", json!({"file": place}));
        let Err(refused) = files_of(4096).try_start(&config.text()) else { panic!("{place}: it started") };
        assert_eq!(refused.status.code(), Some(1), "{place}: {}", refused.text);
        assert_contains(&refused.text, words);
    }
}

#[test]
fn a_configuration_that_cannot_be_rewritten_stays_whole() {
    let origin = Origin::named("up");
    let subscription = json!([{"product": "basic", "keys": [key_hash("wg_first_key")]}]);
    let config = echo(&origin, json!([{"plugin": "api-key"}]))
        .set("consumers", json!([{"name": "acme", "subscriptions": subscription}]))
        .set("products", json!([{"name": "basic", "apis": ["echo"]}]))
        .text();
    for (setup, fits) in [(files_of(0), false), (setup(), true)] {
        let path = setup.path("witgate.yaml");
        fs::write(&path, &config).unwrap();
        let output = setup.command(&["key", "add", "acme", "--product", "basic"]);
        assert_eq!(output.status.success(), fits, "{output:?}");
        assert_eq!(fs::read_to_string(&path).unwrap() == config, !fits);
    }
}
