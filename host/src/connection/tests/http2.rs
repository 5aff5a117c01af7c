//! HTTP/2: what a client library sends, and frames that none will send.

use super::*;

#[test]
fn http2_with_prior_knowledge() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let (mut client, _driver) = http2(&gateway).await;
        let request = Request::post("http://a/x").body(()).unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let mut response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(&response.body_mut().data().await.unwrap().unwrap()[..], b"POST http://a/x [hello]");

        // B5: malformed.
        let differs = Request::get("http://a/").header("host", "b").body(()).unwrap();
        for request in [differs, get("http://u@a/")] {
            let (response, _) = client.send_request(request, true).unwrap();
            let error = response.await.unwrap_err();
            assert!(error.is_reset() && error.is_remote(), "{error:?}");
            assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR));
        }
        // Well-formed, and refused all the same.
        let connect = Request::connect("a:443").body(()).unwrap();
        for (request, status) in [(get("ftp://a/"), 400), (get("http://a,b/"), 400), (connect, 501)] {
            let (response, _) = client.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), status);
        }
        let (response, _) = client.send_request(get("http://a/after"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);

        // Too many fields, too many bytes.
        let mut many = get("http://a/");
        for index in 0..101 {
            let name = http::HeaderName::from_bytes(format!("x{index}").as_bytes()).unwrap();
            many.headers_mut().insert(name, http::HeaderValue::from_static("y"));
        }
        let (response, _) = client.send_request(many, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
        let mut long = get("http://a/");
        long.headers_mut().insert("x", http::HeaderValue::from_str(&"y".repeat(40_000)).unwrap());
        let (response, _) = client.send_request(long, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
        assert_eq!(*gateway.seen.requests.borrow(), ["POST http://a/x", "GET http://a/after"]);
        let told = [
            Fault::HostDisagrees,
            Fault::UserInformation,
            Fault::Scheme,
            Fault::HostInvalid,
            Fault::Connect,
            Fault::FieldCount,
        ];
        assert_eq!(*gateway.seen.refused.borrow(), told);
    });
}

/// Frames by hand, for what no client library will send.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HPACK: GET, http, and the path and authority as literals without indexing.
fn head(path: &str) -> Vec<u8> {
    let mut bytes = vec![0x82, 0x86];
    for (index, text) in [(0x04, path), (0x01, "a")] {
        bytes.push(index);
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sends frames while it reads, until the gateway closes; returns the GOAWAY's error code.
async fn goaway(gateway: &Gateway, frames: Vec<Vec<u8>>) -> Option<u32> {
    let (mut reader, mut writer) = gateway.connect().await.into_split();
    let writing = tokio::task::spawn_local(async move {
        writer.write_all(PREFACE).await.unwrap();
        writer.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        for bytes in frames {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // Kept open: the gateway is to end it.
        writer
    });
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(count @ 1..)) =
        tokio::time::timeout(Duration::from_secs(20), reader.read(&mut chunk)).await
    {
        bytes.extend_from_slice(&chunk[..count]);
    }
    drop(writing.await);
    let mut rest = &bytes[..];
    while rest.len() >= 9 {
        let length = usize::from(rest[0]) << 16 | usize::from(rest[1]) << 8 | usize::from(rest[2]);
        if rest[3] == 7 {
            return Some(u32::from_be_bytes(rest[13..17].try_into().unwrap()));
        }
        rest = rest.get(9 + length..).unwrap_or_default();
    }
    None
}

/// B1: others are served meanwhile, and what was begun is given up.
#[test]
fn rapid_reset_ends_in_goaway() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let frames = (0..500).map(|batch: u32| {
            (0..100)
                .flat_map(|index| {
                    let stream = (batch * 100 + index) * 2 + 1;
                    [frame(1, 0x5, stream, &head("/wait")), frame(3, 0, stream, &8u32.to_be_bytes())].concat()
                })
                .collect()
        });
        let attack = goaway(&gateway, frames.collect());
        let others = async {
            for _ in 0..20 {
                let answer = gateway.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
                assert_eq!(status(&answer), 200);
            }
        };
        let (code, ()) = tokio::join!(attack, others);
        assert_eq!(code, Some(11), "ENHANCE_YOUR_CALM");
        until(|| gateway.seen.waiting.get() == 0 && gateway.counters.active() == 0).await;
        assert!(gateway.seen.most_waiting.get() <= 128, "{}", gateway.seen.most_waiting.get());
    });
}

/// B1, at a pace that lets each stream be accepted; whole answers in between buy no resets.
#[test]
fn paced_resets_end_in_goaway() {
    /// Like `until`, without a pause.
    async fn soon(what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < Duration::from_secs(20), "it never came true");
            tokio::task::yield_now().await;
        }
    }
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        let closed = || gateway.counters.active() == 0;
        let waiting = || gateway.seen.waiting.get();
        for answers in [false, true] {
            let (mut client, driver) = http2(&gateway).await;
            soon(|| !closed()).await;
            let mut reset = 0_usize;
            while let Ok((response, mut stream)) = client.send_request(get("http://a/wait"), true)
                && !closed()
                && reset < 1000
            {
                soon(|| waiting() == 1 || closed()).await;
                stream.send_reset(h2::Reason::CANCEL);
                drop(response);
                // What was begun is given up at once.
                soon(|| waiting() == 0).await;
                reset += 1;
                if answers && let Ok((response, _)) = client.send_request(get("http://a/"), true) {
                    // The connection may end under it, which is what this is about.
                    let _ = response.await;
                }
            }
            assert!((200..400).contains(&reset), "{reset}, with answers: {answers}");
            let error = driver.await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error:?}");
            soon(closed).await;
        }
    });
}

/// B2
#[test]
fn endless_continuation_ends_the_connection() {
    run(async || {
        for payload in [&b""[..], b"\x82"] {
            let gateway = Gateway::start(Limits::default()).await;
            let mut frames = vec![frame(1, 0x1, 1, &head("/"))];
            frames.extend((0..20_000).map(|_| frame(9, 0, 1, payload)));
            goaway(&gateway, frames).await;
            until(|| gateway.counters.accepted() == 1 && gateway.counters.active() == 0).await;
            assert!(gateway.seen.requests.borrow().is_empty());
        }
    });
}

/// B3: the client's errors make the server reset.
#[test]
fn resets_provoked_by_the_client_are_counted() {
    run(async || {
        let gateway = Gateway::start(Limits::default()).await;
        // No increment ends the connection at once, too great a window resets the stream.
        for (increment, code) in [(0, 1), (i32::MAX.cast_unsigned(), 11)] {
            let frames = (0..10_000u32).map(|index| {
                let stream = index * 2 + 1;
                let update = frame(8, 0, stream, &increment.to_be_bytes());
                [frame(1, 0x5, stream, &head("/wait")), update.clone(), update].concat()
            });
            assert_eq!(goaway(&gateway, frames.collect()).await, Some(code));
            until(|| gateway.seen.waiting.get() == 0 && gateway.counters.active() == 0).await;
            assert!(gateway.seen.requests.borrow().len() < 1000);
        }
    });
}

/// B4, B6: never handed on.
#[test]
fn malformed_http2_heads_are_refused() {
    let literal = |name: &[u8], value: &[u8]| {
        let mut bytes = vec![0, u8::try_from(name.len()).unwrap()];
        bytes.extend(name);
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend(value);
        bytes
    };
    let fields: &[(&[u8], &[u8])] = &[
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"x"),
        (b"te", b"gzip"),
        (b"upgrade", b"h2c"),
        (b"X", b"y"),
        (b"x y", b"z"),
        (b"x\r\n", b"z"),
        (b"x", b"y\r\nz: 1"),
        (b"x", b"y\0"),
        (b"content-length", b"5"),
        (b"content-length", b"+5"),
        (b"host", b"b"),
        (b":path", b"/second"),
        (b":unknown", b"x"),
    ];
    run(async || {
        let gateway = Rc::new(Gateway::start(short()).await);
        let fields = fields
            .iter()
            .enumerate()
            .map(|(index, (name, value))| [head(&format!("/field-{index}")), literal(name, value)].concat());
        let paths = ["", "x", "/ x", "/\r\n", "/\0", "*"].map(head);
        // At once: a client that answers no PING has two seconds to go.
        let tasks: Vec<_> = fields
            .chain(paths)
            .map(|block| {
                let gateway = Rc::clone(&gateway);
                tokio::task::spawn_local(async move {
                    goaway(&gateway, vec![frame(1, 0x5, 1, &block)]).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*gateway.seen.requests.borrow(), [""; 0]);
    });
}
