//! HTTP/2 in clear: multiplexing, trailers, refused streams.

use super::*;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue};
use std::pin::Pin;

type Served = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// An origin that answers each stream by a script, which gets the stream's number over all
/// connections.
async fn origin<S, F>(script: S) -> (SocketAddr, Rc<Cell<usize>>)
where
    S: Fn(usize, Served) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let connections = Rc::new(Cell::new(0));
    tokio::task::spawn_local({
        let connections = connections.clone();
        async move {
            let (script, streams) = (Rc::new(script), Rc::new(Cell::new(0)));
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let (script, streams) = (script.clone(), streams.clone());
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.expect("handshake");
                    while let Some(Ok(served)) = connection.accept().await {
                        let number = streams.replace(streams.get() + 1);
                        tokio::task::spawn_local(script(number, served));
                    }
                });
            }
        }
    });
    (address, connections)
}

fn http2(address: SocketAddr) -> Settings {
    let mut settings = settings(&[address]);
    settings.protocol = Protocol::Http2;
    settings
}

async fn answer((_, mut respond): Served) {
    let mut body = respond.send_response(Response::new(()), false).expect("head");
    body.send_data(Bytes::from_static(b"ok"), true).expect("body");
}

#[test]
fn many_requests_share_a_connection() {
    run(async {
        let (address, connections) = origin(|_, served| answer(served)).await;
        let pool = pool(http2(address));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let pool = pool.clone();
                tokio::task::spawn_local(async move { ok(&pool, get("/")).await })
            })
            .collect();
        for task in tasks {
            task.await.expect("answered");
        }
        assert_eq!(connections.get(), 1);
        assert_eq!(pool.upstream().active(), 0);
    });
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    run(async {
        let (address, _) = origin(|_, (mut request, mut respond)| async move {
            assert_eq!(request.uri().to_string(), "http://api.test/pkg.Service/Call?x=1");
            assert!(request.headers().get("host").is_none());
            let mut said = Vec::new();
            while let Some(chunk) = request.body_mut().data().await {
                said.extend_from_slice(&chunk.expect("chunk"));
            }
            let trailers = request.body_mut().trailers().await.expect("trailers").expect("some");
            assert_eq!(trailers["x-sent"], "yes");
            let mut body = respond.send_response(Response::new(()), false).expect("head");
            body.send_data(said.into(), false).expect("body");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            body.send_trailers(trailers).expect("trailers");
        })
        .await;
        let pool = pool(http2(address));
        let mut sent = HeaderMap::new();
        sent.insert("x-sent", HeaderValue::from_static("yes"));
        let body = http_body_util::Full::new(Bytes::from_static(b"message"))
            .with_trailers(async { Some(Ok(sent)) })
            .map_err(|never| match never {});
        let request = request(Method::POST, "/pkg.Service/Call?x=1", Body::wrap(body));
        let response = send(&pool, request).await.expect("a response");
        let collected = response.into_body().collect().await.expect("a whole body");
        assert_eq!(collected.trailers().expect("trailers")["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "message");
    });
}

/// K5.
#[test]
fn a_trailers_only_answer_keeps_its_status() {
    run(async {
        let (address, _) = origin(|_, (_, mut respond)| async move {
            let response = Response::builder().header("grpc-status", "5").body(()).expect("response");
            respond.send_response(response, true).expect("head");
        })
        .await;
        let pool = pool(http2(address));
        let response = send(&pool, request(Method::POST, "/", Body::full("x"))).await.expect("a response");
        assert_eq!(response.headers()["grpc-status"], "5");
        assert!(http_body::Body::is_end_stream(response.body()));
    });
}

#[test]
fn bodies_that_nobody_reads_hold_up_no_other_stream() {
    run(async {
        let (address, connections) = origin(|_, (request, mut respond)| async move {
            let mut body = respond.send_response(Response::new(()), false).expect("head");
            let small = request.uri().path() == "/small";
            let length = if small { 20_000 } else { 512 * 1024 };
            body.send_data(Bytes::from(vec![b'x'; length]), small).expect("body");
            // Reset when it is dropped, so held until the peer lets go.
            let _ = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
        })
        .await;
        let pool = pool(http2(address));
        let mut stalled = Vec::new();
        for _ in 1..crate::upstream::http2::STREAMS_MAX {
            stalled.push(send(&pool, get("/large")).await.expect("a head"));
        }
        let (status, body) = read(send(&pool, get("/small")).await.expect("a head")).await;
        assert_eq!((status, body.expect("a whole body").len()), (StatusCode::OK, 20_000));
        assert_eq!((connections.get(), stalled.len()), (1, 99));
    });
}

#[test]
fn a_refused_stream_was_never_served_and_goes_out_again() {
    run(async {
        let (address, _) = origin(|number, (request, mut respond)| async move {
            if number == 0 {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                assert_eq!(request.method(), Method::POST);
                answer((request, respond)).await;
            }
        })
        .await;
        let pool = pool(http2(address));
        let mut call = Call::default();
        let post = request(Method::POST, "/", Body::full("data"));
        let response = pool.send(post, &mut call).await.expect("a response");
        assert_eq!((response.status(), call.attempts), (StatusCode::OK, 2));
    });
}

#[test]
fn what_a_goaway_leaves_out_goes_out_again_whatever_its_code() {
    /// Whether the frames behind the preface have a HEADERS among them.
    fn has_head(read: &[u8]) -> bool {
        let mut rest = read.get(24..).unwrap_or_default();
        while let [a, b, c, kind, ..] = rest {
            if *kind == 1 {
                return true;
            }
            let length = u32::from_be_bytes([0, *a, *b, *c]);
            rest = rest.get(9 + length as usize..).unwrap_or_default();
        }
        false
    }
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::task::spawn_local(async move {
            let (mut first, _) = listener.accept().await.expect("a connection");
            first.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("settings");
            let mut read = Vec::new();
            while !has_head(&read) {
                assert_ne!(first.read_buf(&mut read).await.expect("a request"), 0);
            }
            // No stream was taken up; ENHANCE_YOUR_CALM.
            let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
            first.write_all(&goaway).await.expect("goaway");
            let (second, _) = listener.accept().await.expect("another connection");
            let mut connection = h2::server::handshake(second).await.expect("handshake");
            while let Some(Ok(served)) = connection.accept().await {
                tokio::task::spawn_local(answer(served));
            }
        });
        let pool = pool(http2(address));
        let mut call = Call::default();
        let post = request(Method::POST, "/", Body::full("data"));
        let response = pool.send(post, &mut call).await.expect("a response");
        assert_eq!((response.status(), call.attempts), (StatusCode::OK, 2));
    });
}

#[test]
fn a_reset_stream_is_a_reset() {
    run(async {
        let (address, _) = origin(|_, (_, mut respond)| async move {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
        })
        .await;
        let pool = pool(http2(address));
        let failure = send(&pool, get("/")).await.expect_err("no response");
        assert!(matches!(failure, Failure::Reset(_)), "{failure:?}");
    });
}

#[test]
fn a_body_cut_off_is_an_error() {
    run(async {
        let cut = Rc::new(tokio::sync::Notify::new());
        let told = cut.clone();
        let (address, _) = origin(move |_, (_, mut respond)| {
            let told = told.clone();
            async move {
                let mut body = respond.send_response(Response::new(()), false).expect("head");
                body.send_data(Bytes::from_static(b"half"), false).expect("body");
                told.notified().await;
                body.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        })
        .await;
        let pool = pool(http2(address));
        let mut body = send(&pool, get("/")).await.expect("a head").into_body();
        let half = body.frame().await.expect("a frame").expect("half");
        assert_eq!(half.into_data().expect("data"), "half");
        cut.notify_one();
        assert!(body.frame().await.expect("a frame").is_err());
        assert_eq!(pool.upstream().active(), 0);
    });
}

#[test]
fn time_runs_out_for_a_stream_alone() {
    run(async {
        let (address, connections) = origin(|number, served| async move {
            if number == 0 {
                // Holds the stream until it is reset.
                let (mut request, respond) = served;
                let _ = request.body_mut().data().await;
                std::future::pending::<()>().await;
                drop(respond);
            } else {
                answer(served).await;
            }
        })
        .await;
        let mut settings = http2(address);
        settings.timeouts.response = Duration::from_millis(30);
        let pool = pool(settings);
        let failure = send(&pool, get("/")).await.expect_err("no response");
        assert!(matches!(failure, Failure::ResponseTimeout), "{failure:?}");
        ok(&pool, get("/")).await;
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn a_peer_that_says_goodbye_is_followed_by_a_new_connection() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.expect("handshake");
                    // One request for each connection.
                    if let Some(Ok(served)) = connection.accept().await {
                        answer(served).await;
                    }
                    connection.graceful_shutdown();
                    while connection.accept().await.is_some() {}
                });
            }
        });
        let pool = pool(http2(address));
        for _ in 0..20 {
            ok(&pool, get("/")).await;
        }
        assert_eq!(count(&pool.upstream().counters().failures), 0);
    });
}

#[test]
fn an_upgrade_is_a_plain_request_and_nobodys_failure() {
    run(async {
        let (address, _) = origin(|_, (request, respond)| async move {
            assert!(request.headers().get("upgrade").is_none());
            assert!(request.headers().get("connection").is_none());
            answer((request, respond)).await;
        })
        .await;
        let pool = pool(http2(address));
        let mut request = get("/");
        request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
        request.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
        let mut call = Call { upgrade: true, ..Call::default() };
        let response = pool.send(request, &mut call).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(count(&pool.upstream().counters().failures), 0);
    });
}

#[test]
fn an_http1_origin_is_no_http2_upstream() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move {
            wire.more().await;
            wire.say("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        })
        .await;
        let pool = pool(http2(origin.address));
        let failure = send(&pool, get("/")).await.expect_err("no response");
        // Which of them depends on whether its answer or its end is seen first.
        assert_eq!(failure.reason().fault(), crate::telemetry::reason::Fault::Upstream, "{failure:?}");
    });
}

#[test]
fn a_cancelled_request_resets_its_stream() {
    run(async {
        let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
        let (address, _) = origin(move |_, (_, mut respond)| {
            let told = told.clone();
            async move {
                let _ = told.send(None);
                let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                let _ = told.send(Some(reset.expect("reset")));
            }
        })
        .await;
        let pool = pool(http2(address));
        let mut sending: Pin<Box<dyn Future<Output = _>>> = Box::pin(send(&pool, get("/")));
        tokio::select! {
            _ = &mut sending => panic!("nobody answers"),
            _ = hears.recv() => {}
        }
        drop(sending);
        assert_eq!(hears.recv().await, Some(Some(h2::Reason::CANCEL)));
        assert_eq!(pool.upstream().active(), 0);
    });
}
