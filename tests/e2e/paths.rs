//! One path normalisation for router, policies and upstream: nothing slips past a policy.

use crate::fixture::{Config, probe, setup_with_probe};
use serde_json::json;
use witgate_test_support::{Gateway, Origin, frames};

/// Everything is open but `/public/../admin`'s target: `/admin` answers 403 from a policy.
fn guarded() -> (Gateway, Origin) {
    let origin = Origin::named("up");
    let deny = probe(json!({"request": {"do": "reply", "status": 403, "body": "guarded"}}));
    let see = probe(
        json!({"reads": [":path"], "writes": ["x-seen-*"], "request": {"do": "echo", "prefix": "x-seen-"}}),
    );
    let config = Config::new()
        .upstream("up", &origin)
        .api(json!({"name": "open", "path": "/", "upstream": "up", "chain": [see]}))
        .api(json!({"name": "admin", "path": "/admin", "upstream": "up", "chain": [deny]}));
    (setup_with_probe().start(&config.text()), origin)
}

fn ask(gateway: &Gateway, target: &str) -> u16 {
    let mut connection = gateway.connect();
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    connection.try_answer(false).map_or(0, |answer| answer.status)
}

#[test]
fn no_spelling_reaches_a_guarded_path() {
    let (gateway, origin) = guarded();
    let spellings = [
        "/admin",
        "/admin/",
        "/admin/x",
        "/%61dmin",
        "/adm%69n/x",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/%2E./admin",
        "/./admin",
        "//admin",
        "///admin//x",
        "/public//../admin",
        "/public/..//admin",
        "/admin?x=/public/ok",
        "/admin/../admin",
        "/%2e/admin",
    ];
    for spelling in spellings {
        let status = ask(&gateway, spelling);
        assert!(matches!(status, 400 | 403), "{spelling}: {status}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let (gateway, origin) = guarded();
    let refused = [
        "/public%2fadmin",
        "/public%2f..%2fadmin",
        "/public/..%2fadmin",
        "/public%5cadmin",
        "/public\\admin",
        "/public/..\\admin",
        "/%252e%252e/admin",
        "/public%252fadmin",
        "/%00admin",
        "/x%0d%0ay",
        "/%c0%ae%c0%ae/admin",
        "/%",
        "/%2",
        "/%zz",
        "/../admin",
        "/a/../../admin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public#/../admin",
    ];
    for target in refused {
        assert_eq!(ask(&gateway, target), 400, "{target}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
}

#[test]
fn policy_and_upstream_see_the_same_path() {
    let (gateway, origin) = guarded();
    let pairs = [
        ("/a/./b", "/a/b"),
        ("/a/x/../b", "/a/b"),
        ("/a//b", "/a/b"),
        ("/%7euser", "/~user"),
        ("/%41", "/A"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a/b/", "/a/b/"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/a%20b", "/a%20b"),
    ];
    for (target, normal) in pairs {
        origin.forget();
        assert_eq!(ask(&gateway, target), 200, "{target}");
        let seen = origin.only();
        assert_eq!(seen.target, normal, "{target}: the upstream's view");
        assert_eq!(seen.header("x-seen-0"), Some(normal), "{target}: the policy's view");
    }
}

#[test]
fn the_query_is_passed_on_as_it_came() {
    let (gateway, origin) = guarded();
    for query in ["a=1&a=2", "q=%2e%2e%2f", "x=a+b", "", "?", "redirect=http://e/%3Fx"] {
        origin.forget();
        assert_eq!(ask(&gateway, &format!("/q?{query}")), 200, "{query}");
        assert_eq!(origin.only().target, format!("/q?{query}"));
    }
}

#[test]
fn a_policy_cannot_write_an_ambiguous_path() {
    let origin = Origin::named("up");
    let edit = |path: &str| {
        let chain = json!([crate::fixture::told(&[":path"])]);
        let config = crate::fixture::echo(&origin, chain);
        let gateway = setup_with_probe().start(&config.text());
        let act = json!({"do": "edits", "edits": [{"set": [":path", path]}]}).to_string();
        gateway.send(witgate_test_support::Request::get("/echo").header("x-do", &act))
    };
    assert_eq!(edit("/elsewhere").expect(200).text(), "up GET /elsewhere");
    for path in ["/a%2f..%2fb", "no-slash", "/x\\y", "/%00", "/a?b=c"] {
        assert_eq!(edit(path).status, 503, "{path}");
    }
    assert_eq!(origin.count(), 1);
}

/// `http::Uri` cuts a fragment off before anybody can see it: at the first request of a connection the
/// raw bytes tell, behind another and on HTTP/2 they do not. Then at least all go by what is left.
#[test]
fn a_fragment_that_is_not_seen_is_gone_for_everybody() {
    let (gateway, origin) = guarded();
    let pipelined = |target: &str| {
        let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut connection = gateway.connect();
        connection.send(get("/first") + &get(target));
        connection.answer().expect(200);
        connection.try_answer(false).map_or(0, |answer| answer.status)
    };
    for target in ["/admin#", "/admin#/../public", "/admin/x#?y", "/public/../admin#/ok"] {
        let status = pipelined(target);
        assert!(matches!(status, 400 | 403), "{target}: {status}");
        let mut client = frames::open(gateway.public());
        client.send(frames::frame(frames::HEADERS, 5, 1, &frames::get(target, &[])));
        let refused = frames::until(&mut client, |frame| frame.stream == 1);
        // 400 and 403 are literals in a header block.
        let block = refused.map(|frame| frame.payload).unwrap_or_default();
        assert!(!block.contains(&0x88), "{target} is 200 over HTTP/2");
    }
    assert!(origin.seen().iter().all(|seen| seen.target == "/first"), "{:?}", origin.seen());
    for target in ["/public#/../admin", "/public#%2fadmin"] {
        assert!(matches!(pipelined(target), 400 | 200), "{target}");
    }
    assert!(origin.seen().iter().all(|seen| ["/first", "/public"].contains(&seen.target.as_str())));
}
