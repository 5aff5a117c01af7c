//! What breaks around the gateway: upstreams at any byte of their answer, full disks, spoilt caches,
//! exhausted descriptors, ports that are taken.

use crate::fixture::{Config, assert_contains, echo, setup, setup_with_probe, told};
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use witgate_test_support::origin::say;
use witgate_test_support::{Origin, Reply, Request, eventually};

const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 10\r\n\r\n0123456789";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n012345\r\n4\r\n6789\r\n0\r\nx-t: 1\r\n\r\n";
/// Whose end is the connection's; nobody can tell that one from a broken one.
const TO_THE_END: &[u8] = b"HTTP/1.0 200 OK\r\nx-a: 1\r\n\r\n0123456789";

/// An upstream that stops after so many bytes of `whole` as the path says: `/echo/17`.
fn stopping(whole: &'static [u8], stop: fn(Vec<u8>) -> Reply) -> Origin {
    Origin::start(move |seen| {
        let count: usize = seen.target.rsplit('/').next().unwrap().parse().unwrap();
        stop(whole[..count].to_vec())
    })
}

#[test]
fn an_upstream_that_closes_at_any_byte_of_its_answer_never_has_it_pass_for_whole() {
    for whole in [LENGTH, CHUNKED, TO_THE_END] {
        let origin = stopping(whole, Reply::Close);
        let gateway = setup().start(&echo(&origin, json!([])).text());
        let head = whole.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        for count in 0..=whole.len() {
            // POST: nothing of it is tried again.
            let mut connection = gateway.connect();
            connection.send(Request::post(&format!("/echo/{count}"), "x").bytes());
            let answer = connection.try_answer(false);
            let shown = String::from_utf8_lossy(&whole[..count]);
            let broken = count < whole.len() && whole != TO_THE_END;
            match answer {
                Ok(answer) if count < head => drop(answer.expect_problem(502, "upstream_reset")),
                Ok(answer) => {
                    assert!(answer.status == 200 && answer.complete != broken, "{shown:?}: {answer:?}");
                    assert!(b"0123456789".starts_with(&answer.body), "{shown:?}: {answer:?}");
                }
                // The head had not gone out yet when the body broke off.
                Err(error) => assert!(broken && count >= head, "{shown:?}: {error}"),
            }
        }
        assert_eq!(origin.count(), whole.len() + 1, "each was asked for once");
    }
}

#[test]
fn an_upstream_that_resets_within_its_answer_is_told_apart_too() {
    for whole in [LENGTH, CHUNKED] {
        let origin = stopping(whole, Reply::Reset);
        let gateway = setup().start(&echo(&origin, json!([])).text());
        for count in (0..whole.len()).step_by(7) {
            let answer = gateway.send(Request::post(&format!("/echo/{count}"), "x"));
            assert!(answer.status == 502 || !answer.complete, "{count}: {answer:?}");
        }
    }
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_whole() {
    for whole in [LENGTH, CHUNKED, TO_THE_END] {
        let origin = Origin::start(move |_| {
            Reply::drive(move |stream| {
                for byte in whole {
                    say(stream, [*byte])?;
                }
                Ok(())
            })
        });
        let gateway = setup().start(&echo(&origin, json!([])).text());
        let answer = gateway.get("/echo").expect(200);
        assert!(answer.complete && answer.body == b"0123456789", "{answer:?}");
    }
}

/// The files of compiled code below a directory.
fn cached(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[test]
fn a_spoilt_cache_is_compiled_anew() {
    let origin = Origin::mirror();
    let config = echo(&origin, json!([told(&[])])).set("plugins.cache", json!("cache")).text();
    let gateway = setup_with_probe().start(&config);
    gateway.get("/echo").expect(200);
    let files = cached(&gateway.path("cache"));
    assert!(!files.is_empty());
    let whole: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for spoil in [
        |_: &[u8]| Vec::new(),
        |whole: &[u8]| whole[..whole.len() / 2].to_vec(),
        |_: &[u8]| b"not code".to_vec(),
    ] {
        let setup = setup_with_probe();
        std::fs::create_dir(setup.path("cache")).unwrap();
        std::fs::set_permissions(setup.path("cache"), PermissionsExt::from_mode(0o700)).unwrap();
        for (path, whole) in files.iter().zip(&whole) {
            let path = setup.path("cache").join(path.file_name().unwrap());
            std::fs::write(&path, spoil(whole)).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let gateway = setup.start(&config);
        gateway.get("/echo").expect(200);
        assert_contains(gateway.log().text(), "cached code is unusable");
    }
}

#[test]
fn a_cache_that_others_can_write_to_or_nobody_can_is_refused() {
    let origin = Origin::mirror();
    for (cache, mode, word) in
        [("cache", 0o777, "cache"), ("cache", 0o770, "cache"), ("/dev/null/cache", 0, "/dev/null/cache")]
    {
        let config = echo(&origin, json!([told(&[])])).set("plugins.cache", json!(cache)).text();
        let setup = setup_with_probe();
        if mode != 0 {
            std::fs::create_dir(setup.path(cache)).unwrap();
            std::fs::set_permissions(setup.path(cache), PermissionsExt::from_mode(mode)).unwrap();
        }
        let Err(refused) = setup.try_start(&config) else { panic!("{cache} {mode:o}: it started") };
        assert_contains(&refused.text, word);
        assert_contains(&refused.text, "cannot be used");
    }
}

#[test]
fn code_that_somebody_else_could_have_written_is_not_run() {
    let origin = Origin::mirror();
    let config = echo(&origin, json!([told(&[])])).set("plugins.cache", json!("cache")).text();
    let gateway = setup_with_probe().start(&config);
    let files = cached(&gateway.path("cache"));
    let setup = setup_with_probe();
    std::fs::create_dir(setup.path("cache")).unwrap();
    std::fs::set_permissions(setup.path("cache"), PermissionsExt::from_mode(0o700)).unwrap();
    for path in &files {
        let foreign = setup.path("cache").join(path.file_name().unwrap());
        std::fs::copy(path, &foreign).unwrap();
        std::fs::set_permissions(&foreign, PermissionsExt::from_mode(0o666)).unwrap();
    }
    let gateway = setup.start(&config);
    gateway.get("/echo").expect(200);
    assert_contains(gateway.log().text(), "cached code is unusable");
}

#[test]
fn a_full_disk_costs_log_lines_and_nothing_else() {
    let origin = Origin::named("up");
    let config = echo(&origin, json!([])).set("access_log", json!({"file": "/dev/full"})).text();
    let mut gateway = setup().start(&config);
    for _ in 0..50 {
        gateway.get("/echo").expect(200);
    }
    eventually("dropped lines are counted", || {
        gateway.metric("witgate_access_log_dropped_lines_total").is_some_and(|count| count > 0.0)
    });
    gateway.get("/echo").expect(200);
    assert!(gateway.is_running());
}

#[test]
fn descriptors_that_run_out_come_back() {
    let origin = Origin::named("up");
    let config = echo(&origin, json!([])).text();
    let mut gateway = setup().by_shell("ulimit -n 64", "").start(&config);
    gateway.get("/echo").expect(200);
    let mut crowd: Vec<_> = (0..200).map(|_| gateway.connect()).collect();
    // Some are served, some wait in the kernel's queue, some are closed; nobody takes the gateway down.
    for connection in &mut crowd {
        connection.set_timeout(Duration::from_millis(20));
        let _ = connection.try_send(Request::get("/echo").bytes());
        let _ = connection.try_answer(false);
    }
    assert!(gateway.is_running());
    drop(crowd);
    eventually("the gateway accepts again", || {
        let mut connection = gateway.connect();
        let _ = connection.try_send(Request::get("/echo").bytes());
        connection.try_answer(false).is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_port_that_is_taken_refuses_the_reload_and_nothing_else() {
    let origin = Origin::named("up");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = |port: u16| {
        let address = format!("127.0.0.1:{port}");
        let listeners =
            json!([{"name": "public", "address": "127.0.0.1:0"}, {"name": "more", "address": address}]);
        Config::new().upstream("echo", &origin).simple("echo", json!([])).set("listeners", listeners).text()
    };
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let port = taken.local_addr().unwrap().port();
    gateway.reload_refused(&more(port));
    gateway.log().wait_for(0, &port.to_string());
    gateway.get("/echo").expect(200);
    drop(taken);
    gateway.reload(&more(port));
    Request::get("/echo").send(([127, 0, 0, 1], port).into()).expect(200);
    gateway.get("/echo").expect(200);
}
