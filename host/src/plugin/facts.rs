//! What host imports may see and set of the exchange that a hook serves.
//!
//! `chain` lends it to an instance for one call and takes it back; only policies whose component
//! imports something that needs it are lent it. Never outlives its exchange in a guest.

use crate::consumer::{Directory, Identity};
use crate::token::Claims;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

use super::bindings::witgate::policy::http_client::{FetchError, FetchRequest, FetchResponse};

/// Calls that one exchange may make in all, over all its policies.
pub const FETCHES_MAX: u32 = 64;

pub struct Facts {
    /// Name of the API that the exchange belongs to.
    pub api: Arc<str>,
    pub directory: Arc<Directory>,
    /// Who calls, if the guest found out during this call.
    pub identity: Option<Identity>,
    /// When the quota that refused the last look-up of this exchange begins anew.
    pub retry_after: Option<Duration>,
    /// Of the token that the guest had verified during this call.
    pub claims: Option<Arc<Claims>>,
    /// The headers of the message in hand, copied only for a policy that reads `headers:*`.
    pub headers: HeaderMap,
    pub fetches_left: u32,
    pub port: FetchPort,
}

/// The way to a worker's upstream pools from a guest's fiber.
#[derive(Clone, Debug)]
pub struct FetchPort(pub mpsc::UnboundedSender<FetchJob>);

/// One call to an upstream for a guest. Bounded by `fetches_left` of each exchange, so that the
/// channel needs no bound of its own.
#[derive(Debug)]
pub struct FetchJob {
    pub request: FetchRequest,
    /// The most bytes of a body that may come back.
    pub bytes_max: usize,
    pub reply: oneshot::Sender<Result<FetchResponse, FetchError>>,
}
