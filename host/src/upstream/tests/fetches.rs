//! Fetches in clear: what is bounded, what is refused.

use super::fetch::{FetchError, FetchLimits, get};
use super::*;

const LIMITS: FetchLimits = FetchLimits { timeout: Duration::from_secs(5), bytes: 10 };

async fn fetch(answer: &'static str) -> Result<Bytes, FetchError> {
    let origin = Origin::always(answer).await;
    get(&format!("http://{}/keys?v=1", origin.address), LIMITS, None).await
}

#[test]
fn a_body_is_returned() {
    run(async {
        let origin = Origin::always(OK).await;
        let url = format!("http://{}/keys?v=1", origin.address);
        assert_eq!(get(&url, LIMITS, None).await.expect("fetched"), "ok");
        let head = &origin.heads.borrow()[0];
        assert!(
            head.starts_with(&format!("GET /keys?v=1 HTTP/1.1\r\nhost: {}\r\n", origin.address)),
            "{head}"
        );
    });
}

#[test]
fn what_is_too_large_or_not_there_is_refused() {
    run(async {
        let large = fetch("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world").await;
        assert!(matches!(large, Err(FetchError::TooLarge)), "{large:?}");
        let moved = fetch("HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n").await;
        assert!(matches!(moved, Err(FetchError::Status(StatusCode::FOUND))), "{moved:?}");
        let nonsense = fetch("hello\r\n\r\n").await;
        assert!(matches!(nonsense, Err(FetchError::Broken(_))), "{nonsense:?}");
    });
}

#[test]
fn a_silent_origin_runs_out_of_time() {
    run(async {
        let origin = Origin::new(|_, mut wire| async move { wire.closed().await }).await;
        let limits = FetchLimits { timeout: Duration::from_millis(30), bytes: 10 };
        let fetched = get(&format!("http://{}/", origin.address), limits, None).await;
        assert!(matches!(fetched, Err(FetchError::Timeout)), "{fetched:?}");
    });
}

#[test]
fn only_http_urls_are_fetched() {
    run(async {
        for url in
            ["", "/keys", "ftp://a/", "file:///etc/passwd", "http://user:secret@127.0.0.1/", "https://"]
        {
            let fetched = get(url, LIMITS, None).await;
            assert!(matches!(fetched, Err(FetchError::Url)), "{url}: {fetched:?}");
        }
        let nobody = format!("http://{}/", nobody().await);
        assert!(matches!(get(&nobody, LIMITS, None).await, Err(FetchError::Connect(_))));
    });
}

/// `token` spawns it on the control runtime.
#[test]
fn a_fetch_can_be_spawned() {
    fn is_send(_: impl Send) {}
    is_send(get("http://127.0.0.1/", LIMITS, None));
}
