//! Changes while it runs: no request is lost, none sees two configurations, memory stays flat.

use crate::fixture::{Config, assert_contains, echo, probe, setup, setup_with_probe};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use witgate_test_support::{Connection, Gateway, Origin, Reply, Request, eventually, guests};

/// A configuration whose answers carry `mark` twice, set by two policies: an answer with two
/// different marks would have seen two snapshots.
fn marked(origin: &Origin, mark: usize) -> String {
    let set = |name: &str| {
        let edit = json!({"do": "edits", "edits": [{"set": [name, mark.to_string()]}]});
        probe(json!({"writes": [name], "response": edit}))
    };
    echo(origin, json!([set("x-first"), set("x-second")])).text()
}

/// Asks without a pause until it is told to stop, on connections that stay open; counts answers
/// and panics at the first that is not whole.
fn load(gateway: &Gateway, stop: &AtomicBool, asked: &AtomicUsize) {
    let mut connection = gateway.connect();
    let request = Request::get("/echo").bytes();
    while !stop.load(Ordering::Acquire) {
        connection.send(&request);
        let answer = connection.try_answer(false).expect("an answer").expect(200);
        assert!(answer.complete);
        assert_eq!(answer.header("x-first"), answer.header("x-second"));
        asked.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            connection = gateway.connect();
        }
    }
}

fn under_load(gateway: &Gateway, act: impl FnOnce()) -> usize {
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| load(gateway, &stop, &asked))).collect();
        // Stops the load when `act` panics, too; else the scope would wait for ever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let stopping = Stop(&stop);
        act();
        drop(stopping);
        for run in runs {
            run.join().unwrap();
        }
    });
    asked.load(Ordering::Relaxed)
}

#[test]
fn two_hundred_reloads_and_fifty_swaps_lose_no_request_and_no_memory() {
    let origin = Origin::named("up");
    let gateway = setup_with_probe().start(&marked(&origin, 0));
    let component = std::fs::read(guests::probe()).unwrap();
    let mut settled = (0, 0);
    let asked = under_load(&gateway, || {
        for round in 1..=200 {
            gateway.reload(&marked(&origin, round));
            if round % 4 == 0 {
                // A custom section makes another file of the same policy.
                let mark = gateway.log().mark();
                gateway.install("probe", &variant(&component, round));
                gateway.log().wait_for(mark, "reload ok");
            }
            if round == 50 {
                settled = (gateway.resident(), gateway.open_files());
            }
        }
    });
    eventually("the last configuration", || gateway.get("/echo").header("x-first") == Some("200"));
    assert!(asked > 1_000, "only {asked} requests");
    let (resident, files) = (gateway.resident(), gateway.open_files());
    let growth = resident.saturating_sub(settled.0);
    assert!(growth < 48 << 20, "grew by {growth} bytes from {} in 150 reloads", settled.0);
    assert!(files < settled.1 + 20, "{files} open files after {}", settled.1);
}

/// The same component with a custom section of its own at the end.
fn variant(component: &[u8], number: usize) -> Vec<u8> {
    let name = b"variant";
    let number = (number as u32).to_le_bytes();
    let mut bytes = component.to_vec();
    bytes.extend([0, 1 + name.len() as u8 + 4, name.len() as u8]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&number);
    bytes
}

#[test]
fn a_bad_file_changes_nothing_and_the_next_good_one_is_taken() {
    // Case N2.
    let origin = Origin::named("up");
    let gateway = setup_with_probe().start(&marked(&origin, 1));
    let bad = [
        "apis: [".to_string(),
        String::new(),
        "listeners: 5".to_string(),
        marked(&origin, 2).replace("\"upstream\": \"echo\"", "\"upstream\": \"ehco\""),
        marked(&origin, 2).replace("\"plugin\": \"probe\"", "\"plugin\": \"prope\""),
        marked(&origin, 2).replace("\"path\"", "\"pfad\""),
    ];
    for text in bad {
        gateway.reload_refused(&text);
        assert_eq!(gateway.get("/echo").expect(200).header("x-first"), Some("1"), "{text}");
    }
    assert_contains(gateway.log().text(), "did you mean");
    gateway.reload(&marked(&origin, 3));
    eventually("the good one", || gateway.get("/echo").header("x-first") == Some("3"));
}

#[test]
fn a_change_of_the_file_is_seen_without_a_signal() {
    let origin = Origin::named("up");
    let gateway = setup_with_probe().start(&marked(&origin, 1));
    for round in 2..5 {
        gateway.write_config(&marked(&origin, round));
        let wanted = round.to_string();
        eventually("the change", || gateway.get("/echo").header("x-first") == Some(wanted.as_str()));
    }
    // Written in place, as simple editors do.
    std::fs::write(gateway.path("witgate.yaml"), marked(&origin, 9)).unwrap();
    eventually("the change in place", || gateway.get("/echo").header("x-first") == Some("9"));
}

#[test]
fn a_kubernetes_swap_is_seen_every_time() {
    // Case N1: ConfigMaps change by the renaming of a symbolic link.
    use std::os::unix::fs::symlink;
    let origin = Origin::named("up");
    let setup = setup_with_probe();
    let write = |round: usize| {
        let dir = setup.path(&format!("..round-{round}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("witgate.yaml"), marked(&origin, round)).unwrap();
    };
    write(0);
    symlink("..round-0", setup.path("..data")).unwrap();
    symlink("..data/witgate.yaml", setup.path("mounted.yaml")).unwrap();
    let root = setup.path(".");
    let gateway =
        setup.launch(&["run", "-c", "mounted.yaml"]).unwrap_or_else(|refused| panic!("{}", refused.text));
    for round in 1..=20 {
        let dir = root.join(format!("..round-{round}"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("witgate.yaml"), marked(&origin, round)).unwrap();
        symlink(format!("..round-{round}"), root.join("..data_tmp")).unwrap();
        std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        std::fs::remove_dir_all(root.join(format!("..round-{}", round - 1))).unwrap();
        let (wanted, swapped) = (round.to_string(), Instant::now());
        eventually("the swap", || gateway.get("/echo").header("x-first") == Some(wanted.as_str()));
        assert!(swapped.elapsed() < Duration::from_secs(5), "round {round}: {:?}", swapped.elapsed());
    }
}

#[test]
fn plugins_come_and_go_live() {
    let origin = Origin::mirror();
    let gateway = setup_with_probe().start(&marked(&origin, 1));
    // Its removal would leave the running configuration without its policy: it stays in force.
    let mark = gateway.log().mark();
    gateway.uninstall("probe");
    gateway.log().wait_for(mark, "reload refused");
    gateway.get("/echo").expect(200);
    let mark = gateway.log().mark();
    gateway.install("probe", &variant(&std::fs::read(guests::probe()).unwrap(), 1));
    gateway.log().wait_for(mark, "reload ok");
    gateway.get("/echo").expect(200);
}

#[test]
fn a_plugin_of_the_directory_goes_before_one_of_the_binary() {
    let origin = Origin::mirror();
    let chain = json!([{"plugin": "request-id", "config": {}}]);
    let gateway = setup().start(&echo(&origin, chain).text());
    assert!(gateway.get("/echo").header("x-request-id").is_some());
    let mark = gateway.log().mark();
    gateway.install("request-id", &std::fs::read(guests::probe()).unwrap());
    gateway.log().wait_for(mark, "reload ok");
    eventually("the replacement", || gateway.get("/echo").header("x-request-id").is_none());
}

#[test]
fn an_exchange_ends_on_the_configuration_it_began_with() {
    use std::sync::{Arc, Mutex, mpsc};
    let (go, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let origin = Origin::start(move |seen| {
        if seen.target != "/echo/slow" {
            return Reply::ok("quick");
        }
        let wait = wait.clone();
        Reply::drive(move |stream| {
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(20));
            witgate_test_support::origin::say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow")
        })
    });
    let gateway = setup_with_probe().start(&marked(&origin, 1));
    let mut slow = gateway.connect();
    slow.send(Request::get("/echo/slow").bytes());
    eventually("the slow request", || origin.seen().iter().any(|seen| seen.target == "/echo/slow"));
    gateway.reload(&marked(&origin, 2));
    eventually("the reload", || gateway.get("/echo").header("x-first") == Some("2"));
    go.send(()).unwrap();
    let answer = slow.answer().expect(200);
    assert_eq!((answer.header("x-first"), answer.header("x-second")), (Some("1"), Some("1")));
}

#[test]
fn listeners_come_and_go() {
    let origin = Origin::named("up");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let base = echo(&origin, json!([]));
    let gateway = setup().start(&base.text());
    let first = gateway.public();
    let more = base.clone().set(
        "listeners",
        json!([{"name": "public", "address": "127.0.0.1:0"}, {"name": "more", "address": free.to_string()}]),
    );
    gateway.reload(&more.text());
    eventually("the new listener", || std::net::TcpStream::connect(free).is_ok());
    Request::get("/echo").send(free).expect(200);
    gateway.reload(&base.text());
    eventually("its end", || std::net::TcpStream::connect(free).is_err());
    Request::get("/echo").send(first).expect(200);
}

#[test]
fn counters_go_on_over_a_reload() {
    let origin = Origin::named("up");
    let limit = |requests: u32, extra: Value| {
        let chain =
            json!([{"plugin": "rate-limit", "config": {"requests": requests, "per": "1h", "by": "client"}}]);
        echo(&origin, chain).api(extra).text()
    };
    let api = |name: &str| json!({"name": name, "path": format!("/{name}"), "upstream": "echo"});
    let gateway = setup().start(&limit(2, api("x")));
    gateway.get("/echo").expect(200);
    gateway.get("/echo").expect(200);
    gateway.get("/echo").expect(429);
    gateway.reload(&limit(2, api("y")));
    eventually("the reload", || gateway.get("/y").status == 200);
    gateway.get("/echo").expect(429);
}

#[test]
fn generations_and_refusals_are_counted() {
    let origin = Origin::named("up");
    let config = echo(&origin, json!([]));
    let gateway = setup().start(&config.text());
    let line =
        gateway.reload(&config.clone().api(json!({"name": "x", "path": "/x", "upstream": "echo"})).text());
    assert_contains(&line, "generation=");
    gateway.reload_refused("apis: 1");
    eventually("the metric", || {
        gateway.metric("witgate_config_reloads_total{outcome=\"refused\"}").is_some_and(|count| count >= 1.0)
    });
}

#[test]
fn keep_alive_connections_outlive_a_reload() {
    let origin = Origin::named("up");
    let config =
        Config::new().upstream("up", &origin).api(json!({"name": "a", "path": "/a", "upstream": "up"}));
    let gateway = setup().start(&config.text());
    let mut connection: Connection = gateway.connect();
    Request::get("/a").send_on(&mut connection).expect(200);
    gateway.reload(&config.api(json!({"name": "b", "path": "/b", "upstream": "up"})).text());
    eventually("the new API", || gateway.get("/b").status == 200);
    Request::get("/b").send_on(&mut connection).expect(200);
}

#[test]
fn a_pipe_in_the_place_of_a_file_holds_up_no_reload() {
    let origin = Origin::named("a");
    let config = echo(&origin, json!([]));
    let gateway = setup().start(&config.text());
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(gateway.path(name)).status().unwrap().success());
    };
    for name in ["cert", "key", "ca", "keys"] {
        pipe(name);
    }
    let tls = |cert: &str, key: &str| json!({"certificates": [{"cert": cert, "key": key}]});
    let jwt = json!([{"plugin": "jwt", "config": {"issuer": "i", "audience": "a", "jwks_file": "keys"}}]);
    let listener = |tls: Value| json!([{"name": "public", "address": "127.0.0.1:0", "tls": tls}]);
    let upstream = json!({"endpoints": ["https://127.0.0.1:1"], "tls": {"ca": "ca"}});
    for broken in [
        config.clone().set("listeners", listener(tls("cert", "key"))),
        config.clone().upstream_with("echo", upstream),
        echo(&origin, jwt),
    ] {
        gateway.reload_refused(&broken.text());
        assert_contains(gateway.log().text(), "it is no regular file");
    }
    // The configuration's own place.
    let mark = gateway.log().mark();
    std::fs::remove_file(gateway.path("witgate.yaml")).unwrap();
    pipe("witgate.yaml");
    gateway.log().wait_for(mark, "reload refused");
    std::fs::remove_file(gateway.path("witgate.yaml")).unwrap();
    gateway.reload(&config.simple("new", json!([])).upstream("new", &origin).text());
    gateway.get("/new").expect(200);
}
