//! HTTP/1: keep-alive, races, framing, time-outs, early answers, upgrades.

use super::*;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};

#[test]
fn one_connection_serves_one_request_after_another() {
    run(async {
        let origin = Origin::always(OK).await;
        let pool = pool(settings(&[origin.address]));
        for _ in 0..20 {
            ok(&pool, get("/a?b=c")).await;
        }
        assert_eq!(origin.connections.get(), 1);
        assert_eq!(origin.heads.borrow()[0], "GET /a?b=c HTTP/1.1\r\nhost: api.test\r\n\r\n");
        let counters = pool.upstream().counters();
        assert_eq!((count(&counters.requests), count(&counters.connects)), (20, 1));
        assert_eq!(pool.upstream().active(), 0);
    });
}

#[test]
fn a_large_body_gives_its_connection_back_at_its_end() {
    run(async {
        let body = "x".repeat(1_000_000);
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        let origin = Origin::new(move |_, mut wire| {
            let (answer, chunked) = (answer.clone(), chunked.clone());
            async move {
                while let Some(head) = wire.head().await {
                    wire.say(if head.contains("/chunked") { &chunked } else { &answer }).await;
                }
            }
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        for path in ["/", "/chunked", "/", "/chunked"] {
            let response = send(&pool, get(path)).await.expect("a response");
            assert_eq!(pool.upstream().active(), 1);
            let (_, read) = read(response).await;
            assert_eq!(read.expect("whole").len(), body.len());
            assert_eq!(pool.upstream().active(), 0);
        }
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn a_body_dropped_early_closes_its_connection() {
    run(async {
        let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
        let origin = Origin::new(move |number, mut wire| {
            let closed = closed.clone();
            async move {
                wire.head().await;
                if number == 0 {
                    wire.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nstart").await;
                    wire.closed().await;
                    let _ = closed.send(());
                } else {
                    wire.say(OK).await;
                }
            }
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        drop(send(&pool, get("/")).await.expect("a response"));
        was_closed.recv().await.expect("closed");
        assert_eq!(pool.upstream().active(), 0);
        ok(&pool, get("/")).await;
        assert_eq!(origin.connections.get(), 2);
    });
}

#[test]
fn a_cancelled_request_closes_its_connection() {
    run(async {
        let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
        let origin = Origin::new(move |_, mut wire| {
            let closed = closed.clone();
            async move {
                wire.head().await;
                let _ = closed.send("asked");
                wire.closed().await;
                let _ = closed.send("closed");
            }
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        let task = tokio::task::spawn_local({
            let pool = pool.clone();
            async move { send(&pool, get("/")).await.map(drop) }
        });
        assert_eq!(was_closed.recv().await, Some("asked"));
        assert_eq!(pool.upstream().active(), 1);
        task.abort();
        assert_eq!(was_closed.recv().await, Some("closed"));
        assert_eq!(pool.upstream().active(), 0);
    });
}

/// K1, the half that is always safe: the peer closed the idle connection and this side has not
/// looked since. Even a POST goes out again, for it never went out at all.
#[test]
fn a_request_that_found_its_connection_dead_is_sent_anew() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let (close, told_to_close) = std::sync::mpsc::channel::<()>();
    let (closed, is_closed) = std::sync::mpsc::channel::<()>();
    let origin = std::thread::spawn(move || {
        use std::io::{Read, Write};
        for round in 0..2 {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut read = [0; 1024];
            let length = stream.read(&mut read).expect("read");
            assert!(length > 0, "round {round}");
            stream.write_all(OK.as_bytes()).expect("write");
            if round == 0 {
                told_to_close.recv().expect("told");
                drop(stream);
                closed.send(()).expect("heard");
            }
        }
    });
    run(async {
        let mut settings = settings(&[address]);
        // Not even a retry: nothing was sent.
        settings.retry.attempts = 0;
        let pool = pool(settings);
        ok(&pool, get("/")).await;
        // The runtime stands still while the origin closes, so nothing here can have noticed.
        close.send(()).expect("sent");
        is_closed.recv().expect("closed");
        let mut call = Call::default();
        let post = request(Method::POST, "/", Body::full("data"));
        let response = pool.send(post, &mut call).await.expect("a response");
        assert_eq!((response.status(), call.attempts), (StatusCode::OK, 1));
        assert_eq!(count(&pool.upstream().counters().retries), 0);
    });
    origin.join().expect("origin");
}

/// A connection that has served once, reads the next request and dies.
async fn dies_on_second() -> Origin {
    Origin::new(|number, mut wire| async move {
        wire.head().await;
        wire.say(OK).await;
        if number == 0 {
            wire.head().await;
            return;
        }
        while wire.head().await.is_some() {
            wire.say(OK).await;
        }
    })
    .await
}

#[test]
fn an_idempotent_request_survives_a_used_connection_that_dies() {
    run(async {
        let origin = dies_on_second().await;
        let pool = pool(settings(&[origin.address]));
        ok(&pool, get("/")).await;
        let mut call = Call::default();
        let response = pool.send(get("/again"), &mut call).await.expect("a response");
        assert_eq!((response.status(), call.attempts), (StatusCode::OK, 2));
        let heads = origin.heads.borrow();
        assert_eq!(heads[1], heads[2]);
        assert!(heads[1].starts_with("GET /again "));
    });
}

/// J1.
#[test]
fn a_post_is_never_sent_again_once_it_went_out() {
    run(async {
        let origin = dies_on_second().await;
        let mut settings = settings(&[origin.address]);
        settings.retry.attempts = 3;
        let pool = pool(settings);
        ok(&pool, get("/")).await;
        let failure = send(&pool, request(Method::POST, "/pay", Body::Empty)).await.expect_err("no response");
        assert_eq!(failure.reason(), crate::telemetry::reason::Reason::UpstreamReset);
        assert_eq!(origin.heads(), 2);
    });
}

#[test]
fn a_new_connection_that_dies_is_no_reason_to_try_again() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.head().await;
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        let failure = send(&pool, get("/")).await.expect_err("no response");
        assert!(matches!(failure, Failure::Reset(_)), "{failure:?}");
        assert_eq!(origin.heads(), 1);
    });
}

/// K1 at large: connections that close after an answer, at any moment of the next request.
#[test]
fn connections_that_close_when_they_like_lose_no_get() {
    run(async {
        let origin = Origin::new(|number, mut wire| async move {
            for _ in 0..=number % 3 {
                if wire.head().await.is_none() {
                    return;
                }
                wire.say(OK).await;
            }
            for _ in 0..number % 5 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        for _ in 0..1_000 {
            ok(&pool, get("/")).await;
        }
    });
}

/// J2.
#[test]
fn a_retry_on_a_status_sends_the_same_bytes() {
    run(async {
        let bodies = Rc::new(RefCell::new(Vec::new()));
        let script = |answer: &'static str, bodies: &Rc<RefCell<Vec<Vec<u8>>>>| {
            let bodies = bodies.clone();
            move |_, mut wire: Wire| {
                let bodies = bodies.clone();
                async move {
                    while wire.head().await.is_some() {
                        let body = wire.body(1_000_000).await.expect("body");
                        bodies.borrow_mut().push(body);
                        wire.say(answer).await;
                    }
                }
            }
        };
        let busy = Origin::new(script(UNAVAILABLE, &bodies)).await;
        let well = Origin::new(script(OK, &bodies)).await;
        let mut settings = settings(&[busy.address, well.address]);
        settings.retry.statuses = vec![503];
        let pool = pool(settings);
        let data: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        for _ in 0..4 {
            ok(&pool, request(Method::PUT, "/", Body::full(data.clone()))).await;
        }
        assert!(bodies.borrow().iter().all(|body| *body == data));
        // Round robin: every other request met the busy one first.
        assert_eq!((busy.heads(), well.heads()), (2, 4));
        assert_eq!(busy.heads.borrow()[0], well.heads.borrow()[0]);
        assert!(well.heads.borrow()[0].contains("content-length: 1000000"));
    });
}

#[test]
fn what_cannot_be_replayed_gets_the_status_as_it_is() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            while let Some(head) = wire.head().await {
                if head.contains("chunked") {
                    while !wire.read.ends_with(b"0\r\n\r\n") {
                        wire.more().await.expect("body");
                    }
                    wire.read.clear();
                }
                wire.say(UNAVAILABLE).await;
            }
        })
        .await;
        let mut settings = settings(&[origin.address]);
        settings.retry.statuses = vec![503];
        settings.retry.attempts = 5;
        let pool = pool(settings);
        // Not idempotent; then idempotent with a body that streams.
        let (sender, body) = channel();
        sender.send(Ok("data")).expect("sent");
        drop(sender);
        for request in [request(Method::POST, "/", Body::Empty), request(Method::PUT, "/", body)] {
            let mut call = Call::default();
            let (status, body) = read(pool.send(request, &mut call).await.expect("a response")).await;
            assert_eq!((status.as_u16(), &body.expect("body")[..], call.attempts), (503, &b"busy"[..], 1));
        }
        // Tries are bounded.
        let mut call = Call::default();
        let response = pool.send(get("/"), &mut call).await.expect("a response");
        assert_eq!((response.status().as_u16(), call.attempts), (503, 6));
    });
}

/// J3 with sockets: everything answers 503, and the retries stay within their share.
#[test]
fn retries_stop_when_their_budget_is_spent() {
    run(async {
        let origin = Origin::always(UNAVAILABLE).await;
        let mut settings = settings(&[origin.address]);
        settings.retry.statuses = vec![503];
        settings.retry.attempts = 3;
        let pool = Pool::new(Upstream::new(settings).expect("settings"), Clock::manual(Duration::ZERO));
        for _ in 0..500 {
            send(&pool, get("/")).await.expect("a response");
        }
        let extra = origin.heads() - 500;
        assert!((90..=100).contains(&extra), "{extra}");
        assert!(count(&pool.upstream().counters().budget_exhausted) > 300);
    });
}

/// K3.
#[test]
fn bytes_after_a_bodyless_answer_reach_nobody() {
    let answers = [
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\nhello"),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nhello"),
        (
            Method::GET,
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
    ];
    for (method, answer) in answers {
        run(async {
            let origin = Origin::new(move |number, mut wire| async move {
                while wire.head().await.is_some() {
                    wire.say(if number == 0 { answer } else { OK }).await;
                }
            })
            .await;
            let pool = pool(settings(&[origin.address]));
            let response = send(&pool, request(method.clone(), "/", Body::Empty)).await.expect("a response");
            let (_, body) = read(response).await;
            assert!(body.expect("no body").is_empty());
            ok(&pool, get("/next")).await;
            assert_eq!(origin.connections.get(), 2, "{answer:?}");
        });
    }
}

/// K4.
#[test]
fn an_upstream_that_dies_in_a_body_is_an_error_in_the_body() {
    let answers = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
    ];
    for answer in answers {
        run(async {
            let origin = Origin::new(move |_, mut wire| async move {
                wire.head().await;
                wire.say(answer).await;
            })
            .await;
            let pool = pool(settings(&[origin.address]));
            let (status, body) = read(send(&pool, get("/")).await.expect("a head")).await;
            assert_eq!(status, StatusCode::OK);
            assert!(body.is_err(), "{answer:?}");
            assert_eq!(pool.upstream().active(), 0);
        });
    }
}

#[test]
fn nonsense_is_refused() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(2_000_000));
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n".to_owned(),
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\n bad: folded\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_owned(),
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        many,
        long,
    ];
    for answer in answers {
        run(async {
            let sent = answer.clone();
            let origin = Origin::new(move |_, mut wire| {
                let sent = sent.clone();
                async move {
                    wire.head().await;
                    wire.say(&sent).await;
                    wire.closed().await;
                }
            })
            .await;
            let pool = pool(settings(&[origin.address]));
            let failure = send(&pool, get("/")).await.expect_err("no response");
            assert!(
                matches!(failure, Failure::Protocol(_)),
                "{failure:?}: {}",
                &answer[..answer.len().min(80)]
            );
            assert_eq!(origin.heads(), 1);
        });
    }
}

#[test]
fn interim_responses_are_skipped() {
    run(async {
        let origin = Origin::always(concat!(
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        ))
        .await;
        let pool = pool(settings(&[origin.address]));
        ok(&pool, get("/")).await;
        ok(&pool, get("/")).await;
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn a_body_without_a_length_goes_to_the_connections_end() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.head().await;
            wire.say("HTTP/1.0 200 OK\r\n\r\nok").await;
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        ok(&pool, get("/")).await;
        ok(&pool, get("/")).await;
        assert_eq!(origin.connections.get(), 2);
    });
}

/// K2: the client's body has not ended, and never will.
#[test]
fn an_early_answer_does_not_wait_for_the_requests_body() {
    run(async {
        let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
        let origin = Origin::new(move |_, mut wire| {
            let closed = closed.clone();
            async move {
                wire.head().await;
                wire.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
                wire.closed().await;
                let _ = closed.send(());
            }
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        let (sender, body) = channel();
        sender.send(Ok("start")).expect("sent");
        let mut call = Call::default();
        let response = pool.send(request(Method::POST, "/", body), &mut call).await.expect("a response");
        assert!(call.body_started);
        let (status, body) = read(response).await;
        assert_eq!((status.as_u16(), &body.expect("whole")[..]), (413, &b"big"[..]));
        // Nobody reads the request's body any more, and its connection is not used again.
        was_closed.recv().await.expect("closed");
        sender.closed().await;
        assert_eq!(pool.upstream().active(), 0);
    });
}

#[test]
fn an_early_answer_survives_the_close_that_follows_it() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.head().await;
            wire.say("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        for _ in 0..50 {
            let (sender, body) = channel();
            for _ in 0..100 {
                sender.send(Ok("more and more and more")).expect("sent");
            }
            let response = send(&pool, request(Method::POST, "/", body)).await.expect("a response");
            let (status, body) = read(response).await;
            assert_eq!((status.as_u16(), &body.expect("whole")[..]), (413, &b"big"[..]));
        }
    });
}

#[test]
fn a_streaming_body_arrives_chunked_even_with_get() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            while let Some(head) = wire.head().await {
                assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
                let sent = wire.body("5\r\nhello\r\n0\r\n\r\n".len()).await.expect("body");
                assert_eq!(String::from_utf8_lossy(&sent), "5\r\nhello\r\n0\r\n\r\n");
                wire.say(OK).await;
            }
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        for method in [Method::GET, Method::POST] {
            let (sender, body) = channel();
            sender.send(Ok("hello")).expect("sent");
            drop(sender);
            ok(&pool, request(method, "/", body)).await;
        }
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn a_length_that_lies_is_put_right() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            while let Some(head) = wire.head().await {
                let length = if head.starts_with("PUT") { 4 } else { 0 };
                assert!(head.contains(&format!("content-length: {length}\r\n")), "{head}");
                wire.body(length).await;
                wire.say(OK).await;
            }
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        for (method, body) in [(Method::PUT, Body::full("data")), (Method::POST, Body::Empty)] {
            let mut request = request(method, "/", body);
            request.headers_mut().insert(CONTENT_LENGTH, http::HeaderValue::from(30));
            ok(&pool, request).await;
        }
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn a_client_whose_body_breaks_is_not_the_upstreams_fault() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.head().await;
            wire.closed().await;
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        let (sender, body) = channel();
        sender.send(Ok("start")).expect("sent");
        sender.send(Err("gone")).expect("sent");
        let failure = send(&pool, request(Method::PUT, "/", body)).await.expect_err("no response");
        assert!(matches!(failure, Failure::RequestBody), "{failure:?}");
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn a_silent_upstream_runs_out_of_time() {
    run(async {
        let origin = Origin::new(|number, mut wire| async move {
            while let Some(head) = wire.head().await {
                if number == 0 && head.starts_with("GET /slow") {
                    wire.closed().await;
                    return;
                }
                wire.say(OK).await;
            }
        })
        .await;
        let mut settings = settings(&[origin.address]);
        settings.timeouts.response = Duration::from_millis(30);
        let pool = pool(settings);
        // Also on a connection whose timer was set for something later.
        ok(&pool, get("/")).await;
        let failure = send(&pool, get("/slow")).await.expect_err("no response");
        assert!(matches!(failure, Failure::ResponseTimeout), "{failure:?}");
        assert_eq!((origin.heads(), pool.upstream().active()), (2, 0));
        // A call's own time-out goes first.
        let mut call = Call { timeout: Some(Duration::ZERO), ..Call::default() };
        assert!(pool.send(get("/"), &mut call).await.is_ok());
    });
}

#[test]
fn waiting_for_the_client_is_not_the_upstreams_time() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.head().await;
            while !wire.read.ends_with(b"0\r\n\r\n") {
                wire.more().await.expect("body");
            }
            wire.closed().await;
        })
        .await;
        let mut settings = settings(&[origin.address]);
        settings.timeouts.response = Duration::from_millis(40);
        let pool = pool(settings);
        let (sender, body) = channel();
        sender.send(Ok("start")).expect("sent");
        let sending = send(&pool, request(Method::POST, "/", body));
        let mut sending = std::pin::pin!(sending);
        // The client takes three times as long as the upstream may.
        assert!(tokio::time::timeout(Duration::from_millis(120), &mut sending).await.is_err());
        drop(sender);
        let failure = sending.await.expect_err("no response");
        assert!(matches!(failure, Failure::ResponseTimeout), "{failure:?}");
    });
}

#[test]
fn silence_within_a_body_ends_it() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.head().await;
            wire.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
            wire.closed().await;
        })
        .await;
        let mut settings = settings(&[origin.address]);
        settings.timeouts.idle = Duration::from_millis(30);
        let pool = pool(settings);
        let (_, body) = read(send(&pool, get("/")).await.expect("a head")).await;
        assert!(body.expect_err("stalled").to_string().contains("silent"));
        assert_eq!(pool.upstream().active(), 0);
    });
}

/// K6: the first frame comes in the same segment as the 101.
#[test]
fn an_upgrade_hands_over_the_stream_and_what_was_read_of_it() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.head().await;
            wire.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello")
                .await;
            let said = wire.body(4).await.expect("said");
            wire.stream.write_all(&said).await.expect("write");
        })
        .await;
        let pool = pool(settings(&[origin.address]));
        let mut call = Call { upgrade: true, ..Call::default() };
        let mut request = get("/ws");
        request.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, http::HeaderValue::from_static("echo"));
        let mut response = pool.send(request, &mut call).await.expect("a response");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let upgraded = hyper::upgrade::on(&mut response).await.expect("upgraded");
        let mut stream = hyper_util::rt::TokioIo::new(upgraded);
        stream.write_all(b"ping").await.expect("write");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.expect("read");
        assert_eq!(said, b"helloping");
    });
}

#[test]
fn an_upgrade_that_is_declined_is_an_ordinary_answer() {
    run(async {
        let origin = Origin::always(OK).await;
        let pool = pool(settings(&[origin.address]));
        let mut call = Call { upgrade: true, ..Call::default() };
        let (status, body) = read(pool.send(get("/ws"), &mut call).await.expect("a response")).await;
        assert_eq!((status, &body.expect("body")[..]), (StatusCode::OK, &b"ok"[..]));
        ok(&pool, get("/")).await;
        assert_eq!(origin.connections.get(), 1);
    });
}

#[test]
fn no_more_idle_connections_are_kept_than_wanted() {
    run(async {
        let (answer, answered) = tokio::sync::watch::channel(false);
        let origin = Origin::new(move |_, mut wire| {
            let mut answered = answered.clone();
            async move {
                while wire.head().await.is_some() {
                    let _ = answered.wait_for(|answered| *answered).await;
                    wire.say(OK).await;
                }
            }
        })
        .await;
        let mut settings = settings(&[origin.address]);
        settings.idle_connections = 3;
        let pool = pool(settings);
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let pool = pool.clone();
                tokio::task::spawn_local(async move { ok(&pool, get("/")).await })
            })
            .collect();
        until(|| origin.heads() == 10).await;
        answer.send(true).expect("sent");
        for task in tasks {
            task.await.expect("answered");
        }
        let idle = std::iter::from_fn(|| pool.local(0)?.take_idle()).count();
        assert_eq!(idle, 3);
    });
}

#[test]
fn the_host_is_who_the_operator_says() {
    run(async {
        let origin = Origin::always(OK).await;
        let hosts = [
            (HostField::Preserve, "api.test".to_owned()),
            (HostField::Endpoint, origin.address.to_string()),
            (HostField::Fixed("inner.test:81".into()), "inner.test:81".to_owned()),
        ];
        for (index, (host, expected)) in hosts.into_iter().enumerate() {
            let mut settings = settings(&[origin.address]);
            settings.host = host;
            ok(&pool(settings), get("/")).await;
            let head = &origin.heads.borrow()[index];
            assert!(head.contains(&format!("host: {expected}\r\n")), "{head}");
        }
        // A request that has none still needs one.
        let mut request = get("/");
        request.headers_mut().clear();
        ok(&pool(settings(&[origin.address])), request).await;
        assert!(origin.heads.borrow()[3].contains(&format!("host: {}\r\n", origin.address)));
    });
}

/// Every exchange holds one of these, so growth is paid for by every exchange.
#[test]
fn a_requests_future_stays_small() {
    run(async {
        let pool = pool(settings(&[nobody().await]));
        let mut call = Call::default();
        let bytes = size_of_val(&pool.send(get("/"), &mut call));
        assert!(bytes <= 2_304, "{bytes}");
    });
}
