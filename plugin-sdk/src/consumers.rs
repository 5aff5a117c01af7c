//! Who calls, by the gateway's own list of consumers and their subscriptions.

use crate::host::consumers;

pub use crate::bindings::imports::witgate::policy::consumers::{Consumer, Refusal};

/// Looks a subscription key up for the API in hand and charges the quota of its product. On
/// success the request has a consumer.
pub fn identify_by_key(key: &str) -> Result<Consumer, Refusal> {
    consumers::identify_by_key(key)
}

/// The same by a name that a verified token or certificate gave.
pub fn identify_by_name(name: &str) -> Result<Consumer, Refusal> {
    consumers::identify_by_name(name)
}

/// After [`Refusal::QuotaExceeded`]: in how many seconds the quota's next period begins, rounded up.
pub fn retry_after() -> Option<u32> {
    consumers::retry_after()
}
