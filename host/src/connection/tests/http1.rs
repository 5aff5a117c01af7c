//! HTTP/1 byte for byte: framing, targets, hosts, sizes; the letters are public bugs of other
//! gateways (A smuggling, C3 fragments, D6 field counts).

use super::*;

#[test]
fn malformed_requests_are_refused_and_nothing_follows_them() {
    // What is sent (`|` ends a line), and the status.
    let cases: &[(&str, u16)] = &[
        // A1: two lines; the last decides for hyper.
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: identity||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: identity|Transfer-Encoding: chunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||", 501),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||", 501),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding:\x0bchunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding : chunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding:| chunked||0||", 400),
        // A2
        ("POST / HTTP/1.1|Host: a|Content-Length: +5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5 5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 0x5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5,6||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: -5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551621||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 6||hello", 400),
        // A3
        ("POST / HTTP/1.1|Host: a|Content-Length:|Content-Length: 5||hello", 400),
        ("POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length:||hello", 400),
        // A4
        ("GET / HTTP/1.1|Host: a|: x|Content-Length: 5||hello", 400),
        ("GET / HTTP/1.1|Host: a|x y: z||", 400),
        ("GET / HTTP/1.1|Host: a|x\0: z||", 400),
        ("GET / HTTP/1.1|Host: a|x: \0||", 400),
        ("GET / HTTP/1.1|Host: a|x: y\rz||", 400),
        ("GET / HTTP/1.1|Host: a| folded: x||", 400),
        // A7
        ("POST / HTTP/1.0|Host: a|Transfer-Encoding: chunked|Connection: keep-alive||0||", 400),
        // A8
        ("GET admin HTTP/1.1|Host: a||", 400),
        ("GET * HTTP/1.1|Host: a||", 400),
        ("CONNECT / HTTP/1.1|Host: a||", 400),
        ("GET host:80 HTTP/1.1|Host: a||", 400),
        ("OPTIONS */x HTTP/1.1|Host: a||", 400),
        ("CONNECT a:443 HTTP/1.1|Host: a:443||", 501),
        ("GET  / HTTP/1.1|Host: a||", 400),
        ("GET / HTTP/1.2|Host: a||", 400),
        ("GET /|Host: a||", 400),
        // C3
        ("GET /public#/../admin HTTP/1.1|Host: a||", 400),
        ("GET http://a/x#y HTTP/1.1|Host: a||", 400),
        // Both lengths, in either order.
        ("POST / HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 5||0||", 400),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: +x||0||", 400),
        // Hosts
        ("GET / HTTP/1.1||", 400),
        ("GET / HTTP/1.1|Host: a|Host: a||", 400),
        ("GET / HTTP/1.1|Host: a|Host: b||", 400),
        ("GET / HTTP/1.1|Host: u@a||", 400),
        ("GET / HTTP/1.1|Host: a/x||", 400),
        ("GET http://b/ HTTP/1.1|Host: a||", 400),
        ("GET http://u:p@a/ HTTP/1.1|Host: a||", 400),
    ];
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for (text, expected) in cases {
            let bytes = text.replace('|', "\r\n") + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
            let answer = gateway.raw(&bytes).await;
            assert_eq!(status(&answer), *expected, "{text}: {answer:?}");
            assert_eq!(answer.matches("HTTP/1.").count(), 1, "{text}: {answer:?}");
        }
        assert_eq!(*gateway.seen.requests.borrow(), [""; 0]);
    });
}

#[test]
fn broken_chunks_reach_no_end() {
    let cases = [
        // A5: bare LF.
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        // A6: more than 64 bits.
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
    ];
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for chunks in cases {
            gateway.seen.requests.borrow_mut().clear();
            let bytes = format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            );
            let answer = gateway.raw(&bytes).await;
            assert_eq!(status(&answer), 400, "{chunks:?}: {answer:?}");
            assert_eq!(*gateway.seen.requests.borrow(), ["POST /"], "{chunks:?}");
        }
    });
}

#[test]
fn well_formed_requests_pass() {
    let cases = [
        ("GET / HTTP/1.0\r\n\r\n", "GET / []"),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "OPTIONS * []"),
        ("GET http://A:80/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET http://A:80/x []"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            "POST / [hello]",
        ),
        // RFC 9110 section 8.6: a repeated value may collapse.
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            "POST / [hello]",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;x=y\r\nhe#lo\r\n0\r\na: b\r\n\r\n",
            "POST / [he#lo]",
        ),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\nReferer: x#y\r\nConnection: close\r\n\r\n", "GET / []"),
    ];
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for (bytes, expected) in cases {
            let answer = gateway.raw(bytes).await;
            assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{bytes:?}: {answer:?}");
        }
    });
}

/// What `sight` cannot see of a pipelined head is still harmless: hyper frames once, and closes.
#[test]
fn both_lengths_in_a_pipelined_request_end_the_connection() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let first = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
        let second =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let third = "GET /third HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = gateway.raw(format!("{first}{second}{third}")).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert_eq!(*gateway.seen.requests.borrow(), ["GET /first", "POST /"]);
    });
}

/// The rest of a body that comes after its answer is not mistaken for a head.
#[test]
fn requests_follow_each_other_on_one_connection() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let mut stream = gateway.connect().await;
        for _ in 0..3 {
            stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n").await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(b"#\r\n#\r\n\r\n").await.unwrap();
            read_until(&mut stream, "POST / [#\r\n#\r\n\r\n]").await;
            stream.write_all(b"GET /x?y HTTP/1.1\r\nHo").await.unwrap();
            tokio::task::yield_now().await;
            stream.write_all(b"st: a\r\n\r\n").await.unwrap();
            read_until(&mut stream, "GET /x?y []").await;
        }
        assert_eq!(gateway.counters.accepted(), 1);
    });
}

#[test]
fn oversized_heads_get_431() {
    run(async || {
        let many = |count: usize| {
            let fields: String = (1..count).map(|index| format!("x{index}: y\r\n")).collect();
            format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
        };
        for limit in [5, 100, 150] {
            let gateway = Gateway::start(Limits { header_count: limit, ..Limits::default() }).await;
            let answer = gateway.raw(many(limit + 1)).await;
            assert_eq!(status(&answer), 431, "{limit}: {answer}");
            let mut stream = gateway.connect().await;
            stream.write_all(many(limit).as_bytes()).await.unwrap();
            assert_eq!(status(&read_until(&mut stream, "GET / []").await), 200, "{limit}");
        }
        let gateway = Gateway::start(Limits::default()).await;
        // D6
        assert_eq!(status(&gateway.raw(many(20_000)).await), 431);
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(2_000_000));
        assert_eq!(status(&gateway.raw(long).await), 431);
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(70_000));
        assert_eq!(status(&gateway.raw(long).await), 431);
        let fits =
            format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx: {}\r\n\r\n", "y".repeat(32_000));
        assert_eq!(status(&gateway.raw(fits).await), 200);
    });
}

/// RFC 9112 section 9.6: the answer is not lost in a reset.
#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        for target in ["/early", "/early#x"] {
            let mut stream = gateway.connect().await;
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut reader, mut writer) = stream.into_split();
            let sender = tokio::task::spawn_local(async move {
                // On loopback the answer nearly always outruns the reset; this shows the reset.
                writer.write_all(&vec![b'x'; 4_000_000]).await.expect("no reset while it sends");
                writer
            });
            let mut answer = Vec::new();
            reader.read_to_end(&mut answer).await.unwrap();
            let expected = if target == "/early" { 413 } else { 400 };
            assert_eq!(status(&String::from_utf8_lossy(&answer)), expected);
            sender.await.unwrap();
        }
    });
}
