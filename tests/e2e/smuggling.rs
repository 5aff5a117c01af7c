//! Requests that two parsers read differently: refused, the connection closed, nothing passed on.

use crate::fixture::{echo, setup};
use serde_json::json;
use witgate_test_support::{Gateway, Origin, Reply};

fn start() -> (Gateway, Origin) {
    let origin = Origin::named("up");
    let gateway = setup().start(&echo(&origin, json!([])).text());
    (gateway, origin)
}

/// Sends the bytes on a connection of their own: the first answer is 400 (or another of
/// `statuses`), then the connection closes, and the upstream has seen nothing.
#[track_caller]
fn refused(gateway: &Gateway, origin: &Origin, bytes: impl AsRef<[u8]>, statuses: &[u16]) {
    let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    origin.forget();
    let mut connection = gateway.connect();
    let _ = connection.try_send(bytes);
    match connection.try_answer(false) {
        Ok(answer) => assert!(statuses.contains(&answer.status), "{shown:?}: {answer:?}"),
        Err(error) => assert!(statuses.contains(&0), "{shown:?}: no answer, {error}"),
    }
    let rest = connection.read_to_close();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("HTTP/1.1 200"), "{shown:?}: a second answer: {rest:?}");
    assert!(origin.seen().is_empty(), "{shown:?} reached the upstream: {:?}", origin.seen());
}

/// A POST with these header lines and this body.
fn post(lines: &[&str], body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n{body}", lines.join("\r\n"))
}

#[test]
fn two_framings_are_refused() {
    let (gateway, origin) = start();
    let smuggled = "0\r\n\r\nGET /echo/admin HTTP/1.1\r\nHost: a\r\n\r\n";
    for lines in [
        &["Content-Length: 6", "Transfer-Encoding: chunked"][..],
        &["Transfer-Encoding: chunked", "Content-Length: 6"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding: gzip"],
        &["Transfer-Encoding: chunked, identity"],
        &["Transfer-Encoding: chunked, chunked"],
        &["Transfer-Encoding: xchunked"],
        &["Transfer-Encoding: \"chunked\""],
        &["Transfer-Encoding : chunked"],
        &["Transfer-Encoding\t: chunked"],
        &["Transfer-Encoding: chunked\r\n identity"],
        &[" Transfer-Encoding: chunked"],
        &["X: y\r\n\tTransfer-Encoding: chunked"],
    ] {
        refused(&gateway, &origin, post(lines, smuggled), &[400, 501]);
    }
}

#[test]
fn lengths_that_are_no_numbers_are_refused() {
    // Case A2 and A3.
    let (gateway, origin) = start();
    for lines in [
        &["Content-Length: +5"][..],
        &["Content-Length: -5"],
        &["Content-Length: 5 5"],
        &["Content-Length: 0x5"],
        &["Content-Length: 5,6"],
        &["Content-Length: 5", "Content-Length: 6"],
        &["Content-Length:", "Content-Length: 30"],
        &["Content-Length: "],
        &["Content-Length: 5;x"],
        &["Content-Length: 99999999999999999999999"],
        &["Content-Length: \u{0665}"],
        &["Content Length: 5"],
        &["Content-Length : 5"],
    ] {
        refused(&gateway, &origin, post(lines, "helloGET /echo/admin HTTP/1.1\r\nHost: a\r\n\r\n"), &[400]);
    }
}

#[test]
fn an_equal_list_of_lengths_may_collapse() {
    let (gateway, origin) = start();
    let mut connection = gateway.connect();
    let answer = connection.ask(post(&["Content-Length: 5, 5"], "hello"));
    if answer.status == 200 {
        let seen = origin.only();
        assert_eq!((seen.header("content-length"), seen.body.as_slice()), (Some("5"), b"hello".as_slice()));
    } else {
        answer.expect(400);
        assert_eq!(origin.count(), 0);
    }
}

#[test]
fn broken_chunks_are_refused() {
    // Case A5 and A6. The head was good, so the upstream may have seen it; never a whole body.
    let (gateway, origin) = start();
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "3\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
    ] {
        origin.forget();
        let mut connection = gateway.connect();
        let _ = connection.try_send(post(&["Transfer-Encoding: chunked"], body));
        // Some of them only promise more than they have; then the end is what is wrong.
        connection.finish();
        if let Ok(answer) = connection.try_answer(false) {
            assert!(answer.status >= 400, "{body:?}: {answer:?}");
        }
        connection.read_to_close();
        assert!(origin.seen().is_empty(), "{body:?}: {:?}", origin.seen());
    }
}

#[test]
fn heads_that_are_no_heads_are_refused() {
    // Case A4, A8 and obsolete line folding.
    let (gateway, origin) = start();
    for head in [
        "GET /echo HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nX Y: x\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\u{0}b\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        "GET /echo HTTP/1.1\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET admin HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET host:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS */x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/3.0\r\nHost: a\r\n\r\n",
        "GET /echo HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /echo\r\n\r\n",
        "G\u{0}T /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n",
    ] {
        refused(&gateway, &origin, head, &[400, 405, 501, 505]);
    }
}

#[test]
fn an_absolute_target_counts_and_must_agree() {
    let (gateway, origin) = start();
    let mut connection = gateway.connect();
    let answer = connection.ask("GET http://a/echo/x HTTP/1.1\r\nHost: a\r\n\r\n");
    if answer.status == 200 {
        assert_eq!(origin.only().target, "/echo/x");
    } else {
        answer.expect(400);
    }
    // RFC 9112, 3.2.2: the target's authority replaces Host; a disagreement may be refused.
    origin.forget();
    let answer = gateway.connect().ask("GET http://a/echo/x HTTP/1.1\r\nHost: b\r\n\r\n");
    if answer.status == 200 {
        assert_eq!(origin.only().header("host"), Some("a"));
    } else {
        answer.expect(400);
    }
}

#[test]
fn http_1_0_with_chunks_never_poisons_a_connection() {
    // Case A7.
    let (gateway, origin) = start();
    let mut connection = gateway.connect();
    connection.send(
        "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n\
         0\r\n\r\nGET /echo/admin HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let all = String::from_utf8_lossy(&connection.read_to_close()).into_owned();
    assert_eq!(all.matches("HTTP/1.").count(), 1, "{all}");
    assert!(origin.seen().iter().all(|seen| !seen.target.contains("admin")), "{:?}", origin.seen());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (gateway, origin) = start();
    let mut connection = gateway.connect();
    connection.send("GET /echo/1 HTTP/1.1\r\nHost: a\r\n\r\nGET /echo/2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.answer().text(), "up GET /echo/1");
    assert_eq!(connection.answer().text(), "up GET /echo/2");
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_body_that_nobody_asked_for_is_not_the_next_request() {
    let (gateway, origin) = start();
    let body = "GET /echo/admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connection = gateway.connect();
    // 404: the gateway answers without reading the body.
    connection
        .send(format!("POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!(connection.answer().status, 404);
    connection.finish();
    let rest = connection.read_to_close();
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
    assert_eq!(origin.count(), 0);
}

#[test]
fn what_ends_at_this_hop_is_not_passed_on() {
    let (gateway, origin) = start();
    gateway
        .connect()
        .ask(
            "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nTE: trailers, gzip\r\nTrailer: X-T\r\n\
         X-Stays: 1\r\n\r\n",
        )
        .expect(200);
    let seen = origin.only();
    for name in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "connection", "upgrade"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert!(seen.header("te").is_none_or(|value| value == "trailers"));
    assert_eq!(seen.header("x-stays"), Some("1"));
}

#[test]
fn an_answer_with_two_framings_is_not_passed_on() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX: a\r\n: b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 20 OK\r\n\r\n",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    ] {
        let origin = Origin::start(move |_| Reply::Close(head.as_bytes().to_vec()));
        let gateway = setup().start(&echo(&origin, json!([])).text());
        let answer = gateway.get("/echo");
        let harmless =
            answer.status == 200 && answer.all("content-length").len() <= 1 && answer.body.len() <= 5;
        assert!(answer.status == 502 || harmless, "{head:?}: {answer:?}");
    }
}

#[test]
fn nothing_behind_trailers_is_lost_in_silence() {
    // The library reads trailers up to a bare line feed, but looks for CRLF CRLF at their end.
    let origin = Origin::mirror();
    let gateway = setup().start(&echo(&origin, json!([])).text());
    for end in ["0\r\nX: a\n\r\n", "0\r\n\n", "0\r\nX: a\r\n\n", "0\r\nX: a\r\n\r\n"] {
        let mut connection = gateway.connect();
        connection.send(format!(
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n{end}\
             GET /echo/behind HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        // Whoever waits for a second answer learns that there is none.
        let answers = String::from_utf8_lossy(&connection.read_to_close()).into_owned();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{end:?}: {answers}");
        assert!(origin.seen().iter().all(|seen| seen.target == "/echo"), "{end:?}: {:?}", origin.seen());
    }
}

#[test]
fn a_length_is_spelled_anew_for_the_upstream() {
    let origin = Origin::mirror();
    let gateway = setup().start(&echo(&origin, json!([])).text());
    let sent = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0010\r\n\r\n0123456789";
    gateway.connect().ask(sent).expect(200);
    assert_eq!(origin.only().all("content-length"), ["10"]);
}
