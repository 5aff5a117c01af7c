//! Several endpoints: who gets what when some of them are unwell.

use super::*;
use crate::telemetry::reason::Reason;

fn ejecting(origins: &[SocketAddr]) -> Settings {
    let mut settings = settings(origins);
    settings.ejection =
        Some(EjectionSettings { failures: 3, period: Duration::from_secs(10), max_percent: 50 });
    settings.retry.statuses = vec![503];
    settings
}

#[test]
fn a_dead_endpoint_costs_a_retry_and_then_nothing() {
    run(async {
        let (origin, dead) = (Origin::always(OK).await, nobody().await);
        let clock = Clock::manual(Duration::ZERO);
        let pool =
            Pool::new(Upstream::new(ejecting(&[dead, origin.address])).expect("settings"), clock.clone());
        let counters = pool.upstream().counters();
        for _ in 0..20 {
            ok(&pool, get("/")).await;
        }
        // Three failures, each made good by a retry; then the dead one is left alone.
        assert_eq!((count(&counters.connect_failures), count(&counters.ejections)), (3, 1));
        let ejected: Vec<_> = pool.upstream().endpoints().map(|endpoint| endpoint.ejected).collect();
        assert_eq!(ejected, [true, false]);
        // Its time over, it is tried again, and stays out twice as long.
        clock.advance(Duration::from_secs(10));
        for _ in 0..20 {
            ok(&pool, get("/")).await;
        }
        assert_eq!((count(&counters.connect_failures), count(&counters.ejections)), (6, 2));
        clock.advance(Duration::from_secs(19));
        ok(&pool, get("/")).await;
        ok(&pool, get("/")).await;
        assert_eq!(count(&counters.connect_failures), 6);
        clock.advance(Duration::from_secs(1));
        ok(&pool, get("/")).await;
        ok(&pool, get("/")).await;
        assert_eq!(count(&counters.connect_failures), 7);
        assert_eq!(count(&counters.failures), 0);
    });
}

#[test]
fn an_endpoint_that_recovers_gets_its_share_back() {
    run(async {
        let well = Rc::new(Cell::new(false));
        let sick = {
            let well = well.clone();
            Origin::new(move |_, mut wire| {
                let well = well.clone();
                async move {
                    while wire.head().await.is_some() {
                        wire.say(if well.get() { OK } else { UNAVAILABLE }).await;
                    }
                }
            })
            .await
        };
        let other = Origin::always(OK).await;
        let clock = Clock::manual(Duration::ZERO);
        let upstream = Upstream::new(ejecting(&[sick.address, other.address])).expect("settings");
        let pool = Pool::new(upstream, clock.clone());
        for _ in 0..20 {
            ok(&pool, get("/")).await;
        }
        assert_eq!(sick.heads(), 3);
        well.set(true);
        clock.advance(Duration::from_secs(10));
        for _ in 0..20 {
            ok(&pool, get("/")).await;
        }
        assert!((12..=14).contains(&sick.heads()), "{}", sick.heads());
    });
}

#[test]
fn when_all_are_under_suspicion_all_are_used() {
    run(async {
        let origins = [Origin::always(UNAVAILABLE).await, Origin::always(UNAVAILABLE).await];
        let mut settings = ejecting(&[origins[0].address, origins[1].address]);
        settings.ejection =
            Some(EjectionSettings { failures: 1, period: Duration::from_secs(10), max_percent: 100 });
        settings.retry.attempts = 0;
        let pool = Pool::new(Upstream::new(settings).expect("settings"), Clock::manual(Duration::ZERO));
        for _ in 0..20 {
            assert_eq!(send(&pool, get("/")).await.expect("a response").status().as_u16(), 503);
        }
        assert!(pool.upstream().endpoints().all(|endpoint| endpoint.ejected));
        assert_eq!((origins[0].heads(), origins[1].heads()), (10, 10));
    });
}

#[test]
fn no_more_are_ejected_than_their_share() {
    run(async {
        let mut origins = Vec::new();
        for _ in 0..4 {
            origins.push(Origin::always(UNAVAILABLE).await);
        }
        let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
        let mut settings = ejecting(&addresses);
        settings.retry.attempts = 0;
        let pool = Pool::new(Upstream::new(settings).expect("settings"), Clock::manual(Duration::ZERO));
        for _ in 0..100 {
            send(&pool, get("/")).await.expect("a response");
        }
        assert_eq!(pool.upstream().endpoints().filter(|endpoint| endpoint.ejected).count(), 2);
    });
}

/// J3: all of them are down.
#[test]
fn an_outage_fails_with_its_reason_and_few_tries() {
    run(async {
        let (one, other) = (nobody().await, nobody().await);
        let mut settings = ejecting(&[one, other]);
        settings.retry.attempts = 3;
        let pool = Pool::new(Upstream::new(settings).expect("settings"), Clock::manual(Duration::ZERO));
        for _ in 0..200 {
            let failure = send(&pool, get("/")).await.expect_err("no response");
            assert_eq!(failure.reason(), Reason::ConnectFailed);
        }
        let counters = pool.upstream().counters();
        assert_eq!((count(&counters.requests), count(&counters.failures)), (200, 200));
        assert!(count(&counters.connects) <= 240, "{}", count(&counters.connects));
    });
}

#[test]
fn weight_zero_takes_no_traffic() {
    run(async {
        let (one, other) = (Origin::always(OK).await, Origin::always(OK).await);
        let mut settings = settings(&[one.address, other.address]);
        settings.endpoints[0].weight = 0;
        let pool = pool(settings);
        for _ in 0..10 {
            ok(&pool, get("/")).await;
        }
        assert_eq!((one.heads(), other.heads()), (0, 10));
    });
}

#[test]
fn a_connect_that_takes_too_long_says_so() {
    run(async {
        // A listener whose queue is full lets nobody in, and refuses nobody either.
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("address").into()).expect("bind");
        socket.listen(0).expect("listen");
        let address = socket.local_addr().expect("address").as_socket().expect("address");
        let mut queued = Vec::new();
        loop {
            let attempt = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await;
            match attempt {
                Ok(stream) => queued.push(stream.expect("connect")),
                Err(_) => break,
            }
        }
        let mut settings = settings(&[address]);
        settings.timeouts.connect = Duration::from_millis(30);
        let pool = pool(settings);
        let mut call = Call::default();
        let failure = pool.send(get("/"), &mut call).await.expect_err("no response");
        assert!(matches!(failure, Failure::ConnectTimeout), "{failure:?}");
        assert_eq!(call.attempts, 2);
        assert!(call.connect >= Duration::from_millis(60));
    });
}

#[test]
fn active_checks_take_an_endpoint_out_and_bring_it_back() {
    run(async {
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("control runtime");
        let well = Rc::new(Cell::new(false));
        let origin = {
            let well = well.clone();
            Origin::new(move |_, mut wire| {
                let well = well.clone();
                async move {
                    while wire.head().await.is_some() {
                        wire.say(if well.get() { OK } else { UNAVAILABLE }).await;
                    }
                }
            })
            .await
        };
        let mut settings = settings(&[origin.address]);
        settings.host = HostField::Fixed("inner.test".into());
        settings.health = Some(HealthSettings {
            path: "/healthz?deep".into(),
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(5),
            unhealthy_after: 2,
            healthy_after: 2,
        });
        let pool = pool(settings);
        let healthy = || pool.upstream().endpoints().all(|endpoint| endpoint.healthy);
        assert!(healthy());
        spawn_health(pool.upstream(), control.handle());
        until(|| !healthy()).await;
        assert!(origin.heads.borrow()[0].starts_with("GET /healthz?deep HTTP/1.1\r\nhost: inner.test\r\n"));
        let failure = send(&pool, get("/")).await.expect_err("nobody to ask");
        assert_eq!(failure.reason(), Reason::NoHealthyEndpoint);
        well.set(true);
        until(healthy).await;
        ok(&pool, get("/")).await;
        // With the upstream gone the checks end.
        let upstream = Arc::downgrade(pool.upstream());
        drop(pool);
        until(|| upstream.strong_count() == 0).await;
        let alive = || control.metrics().num_alive_tasks();
        until(|| alive() == 0).await;
        control.shutdown_background();
    });
}

#[test]
fn settings_that_cannot_be_carried_out_are_refused() {
    let address = "127.0.0.1:1".parse().expect("address");
    let missing = Some(std::path::PathBuf::from("/nonexistent/ca.pem"));
    let check = |change: &dyn Fn(&mut Settings), expected: &str| {
        let mut settings = settings(&[address]);
        settings.endpoints[0].https = true;
        change(&mut settings);
        let error = Upstream::new(settings).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|settings| settings.endpoints.clear(), "needs an endpoint");
    check(&|settings| settings.host = HostField::Fixed("a b\r\n".into()), "is not a host");
    check(&|settings| settings.host = HostField::Fixed("user@host".into()), "is not a host");
    check(&|settings| settings.tls.ca = missing.clone(), "/nonexistent/ca.pem: ");
    check(&|settings| settings.tls.client_key = missing.clone(), "given together");
    check(&|settings| settings.tls.server_name = Some("not a name".into()), "not a name");
    let file = tempfile::NamedTempFile::new().expect("file");
    check(&|settings| settings.tls.ca = Some(file.path().into()), "no certificate in it");
}
