//! Tunnels between two ends in memory: bytes, ends, and goodbyes between frames.

use super::*;
use crate::listener::DrainControl;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

/// A tunnel with both its ends.
struct Both {
    client: DuplexStream,
    upstream: DuplexStream,
    control: DrainControl,
    carried: JoinHandle<io::Result<()>>,
}

fn both(spoken: Spoken, farewell: Duration) -> Both {
    let (client, near) = duplex(64);
    let (upstream, far) = duplex(64);
    let control = DrainControl::new();
    let draining = control.drain().draining();
    let carried = tokio::spawn(Tunnel::new(near, far, spoken).carry(draining, farewell));
    Both { client, upstream, control, carried }
}

const LONG: Duration = Duration::from_secs(60);

async fn read(stream: &mut DuplexStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn rest(mut stream: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn both_directions_flow_and_end_by_themselves() {
    let Both { mut client, mut upstream, carried, .. } = both(Spoken::Other, LONG);
    let long: Vec<u8> = (0..100_000_u32).map(|index| (index % 251) as u8).collect();
    let sent = long.clone();
    let echo = tokio::spawn(async move {
        let mut bytes = [0; 1000];
        while let Ok(count @ 1..) = upstream.read(&mut bytes).await {
            upstream.write_all(&bytes[..count]).await.unwrap();
        }
    });
    let (mut reader, mut writer) = tokio::io::split(client);
    let writing = async move {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut echoed = Vec::new();
    let (_, result) = tokio::join!(writing, reader.read_to_end(&mut echoed));
    assert_eq!(result.unwrap(), long.len());
    assert!(echoed == long);
    carried.await.unwrap().unwrap();
    echo.await.unwrap();
    client = duplex(1).0;
    drop(client);
}

#[tokio::test]
async fn a_client_is_told_between_two_frames_and_its_answer_goes_on() {
    let Both { mut client, mut upstream, control, carried } = both(Spoken::WebSocket, LONG);
    upstream.write_all(b"\x81\x05hel").await.unwrap();
    assert_eq!(read(&mut client, 5).await, b"\x81\x05hel");
    control.start();
    client.write_all(b"\x81\x81mask1").await.unwrap();
    assert_eq!(read(&mut upstream, 7).await, b"\x81\x81mask1");
    // In one piece: the end of one frame, and another that comes too late.
    upstream.write_all(b"lo\x81\x04late").await.unwrap();
    assert_eq!(read(&mut client, 6).await, b"lo\x88\x02\x03\xe9");
    client.write_all(b"\x88\x82mask\x6e\x88").await.unwrap();
    assert_eq!(rest(upstream).await, b"\x88\x82mask\x6e\x88");
    assert_eq!(rest(client).await, b"");
    carried.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_client_is_told_at_once_and_need_not_answer() {
    let Both { client, upstream, control, carried } = both(Spoken::WebSocket, Duration::from_millis(20));
    control.start();
    let (told, sent) = tokio::join!(rest(client), rest(upstream));
    assert_eq!((told.as_slice(), sent.as_slice()), (&GOING_AWAY[..], &b""[..]));
    carried.await.unwrap().unwrap();
}

#[tokio::test]
async fn nothing_follows_an_upstreams_own_close() {
    let Both { mut client, mut upstream, control, carried } = both(Spoken::WebSocket, LONG);
    upstream.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    assert_eq!(read(&mut client, 4).await, b"\x88\x02\x03\xe8");
    control.start();
    client.write_all(b"\x88\x82mask\x6e\x89").await.unwrap();
    assert_eq!(read(&mut upstream, 8).await, b"\x88\x82mask\x6e\x89");
    drop(upstream);
    client.shutdown().await.unwrap();
    assert_eq!(rest(client).await, b"");
    carried.await.unwrap().unwrap();
}

#[tokio::test]
async fn another_protocol_is_left_alone() {
    let Both { mut client, mut upstream, control, carried } = both(Spoken::Other, LONG);
    control.start();
    upstream.write_all(b"one").await.unwrap();
    assert_eq!(read(&mut client, 3).await, b"one");
    client.write_all(b"two").await.unwrap();
    assert_eq!(read(&mut upstream, 3).await, b"two");
    drop((client, upstream));
    let _ = carried.await.unwrap();
}

#[test]
fn the_protocol_is_told_by_its_name() {
    assert_eq!(Spoken::of(b"WebSocket"), Spoken::WebSocket);
    assert_eq!(Spoken::of(b"h2c"), Spoken::Other);
}
