//! Products and their quotas: counted per period, kept over a restart.

use crate::fixture::{assert_contains, echo, key_hash, setup};
use serde_json::{Value, json};
use witgate_test_support::{Gateway, Origin, Request, eventually};

const KEY: &str = "wg_quota_key";

fn config(origin: &Origin, quota: Value, file: Option<&str>) -> String {
    let config = echo(origin, json!([{"plugin": "api-key"}]))
        .set("products", json!([{"name": "starter", "apis": ["echo"], "quota": quota}]))
        .set(
            "consumers",
            json!([{"name": "mobile", "subscriptions": [{"product": "starter", "keys": [key_hash(KEY)]}]}]),
        );
    match file {
        Some(file) => config.set("state", json!({"file": file})).text(),
        None => config.text(),
    }
}

fn ask(gateway: &Gateway) -> u16 {
    gateway.send(Request::get("/echo").header("Ocp-Apim-Subscription-Key", KEY)).status
}

#[test]
fn a_quota_ends() {
    let origin = Origin::named("a");
    let gateway = setup().start(&config(&origin, json!({"requests": 3, "per": "30d"}), None));
    assert_eq!([ask(&gateway), ask(&gateway), ask(&gateway)], [200; 3]);
    assert!(matches!(ask(&gateway), 403 | 429));
    assert_eq!(origin.count(), 3);
}

#[test]
fn a_quota_survives_a_restart() {
    let origin = Origin::named("a");
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("state.redb");
    let text = config(&origin, json!({"requests": 5, "per": "30d"}), file.to_str());
    let gateway = setup().start(&text);
    assert_eq!([ask(&gateway), ask(&gateway), ask(&gateway)], [200; 3]);
    assert!(gateway.stop().success());
    let gateway = setup().start(&text);
    assert_eq!([ask(&gateway), ask(&gateway)], [200; 2]);
    assert!(matches!(ask(&gateway), 403 | 429));
}

#[test]
fn a_killed_gateway_loses_a_second_at_most() {
    let origin = Origin::named("a");
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("state.redb");
    let text = config(&origin, json!({"requests": 3, "per": "30d"}), file.to_str());
    let gateway = setup().start(&text);
    assert_eq!([ask(&gateway), ask(&gateway), ask(&gateway)], [200; 3]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    drop(gateway);
    let gateway = setup().start(&text);
    assert!(matches!(ask(&gateway), 403 | 429));
}

#[test]
fn consumer_and_product_reach_log_and_metrics() {
    let origin = Origin::mirror();
    let gateway = setup().start(&config(&origin, json!({"requests": 100, "per": "1h"}), None));
    gateway.send(Request::get("/echo/seen").header("Ocp-Apim-Subscription-Key", KEY)).expect(200);
    let entry = gateway.logged("/echo/seen");
    assert_eq!((&entry["consumer"], &entry["product"]), (&json!("mobile"), &json!("starter")));
    eventually("the metric", || gateway.admin("/metrics").text().contains("mobile"));
    assert_contains(gateway.admin("/metrics").text(), "starter");
}

#[test]
fn a_reload_takes_a_key_away_and_keeps_the_count() {
    let origin = Origin::named("a");
    let text = config(&origin, json!({"requests": 3, "per": "30d"}), None);
    let gateway = setup().start(&text);
    assert_eq!([ask(&gateway), ask(&gateway)], [200; 2]);
    gateway.reload(&text.replace(&key_hash(KEY), &key_hash("another")));
    eventually("the key's end", || ask(&gateway) == 401);
    gateway.reload(&text);
    eventually("the key's return", || ask(&gateway) == 200);
    assert!(matches!(ask(&gateway), 403 | 429), "the count went on");
}
