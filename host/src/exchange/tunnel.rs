//! After a 101: bytes both ways until either side has enough.
//!
//! Opened by the exchange, lives in a task of its own beside the connections that it took over.
//! A drain ends it: first the peers are given time, then it is cut.

use crate::listener::DrainGuard;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

pub fn open(client: OnUpgrade, upstream: OnUpgrade, guard: DrainGuard) {
    tokio::task::spawn_local(async move {
        let cut = guard.drain().cut();
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => {
                tracing::debug!(%error, "an upgrade came to nothing");
                return;
            }
        };
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        tokio::select! {
            result = copy_bidirectional(&mut client, &mut upstream) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a tunnel broke");
                }
            }
            () = cut => {}
        }
        drop(guard);
    });
}
