//! Who calls, and what they may call: consumers, their subscriptions, and products.
//!
//! A `Directory` is made by `compile` and is part of a snapshot; the `consumers` import of
//! `plugin` asks it on the request path. Immutable: only the quota counters that it refers to
//! change. Never sees a key but to hash it, and never logs one.

mod directory;
mod key;

pub use directory::Directory;
pub use key::KeyHash;

use crate::state::StateError;
use crate::state::counter::Exceeded;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A set of APIs that are granted together.
#[derive(Clone, Debug)]
pub struct Product {
    pub name: Arc<str>,
    pub apis: Vec<Arc<str>>,
    pub quota: Option<ProductQuota>,
}

/// How many requests each consumer may make under a product; see `state::counter` for when a
/// period begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductQuota {
    pub requests: u64,
    pub per: Duration,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    pub name: Arc<str>,
    pub subscriptions: Vec<Subscription>,
}

/// A consumer's right to a product.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub product: Arc<str>,
    /// SHA-256 of each key.
    pub keys: Vec<[u8; 32]>,
    pub suspended: bool,
    /// Seconds since the Unix epoch; from then on the subscription grants nothing.
    pub expires_unix: Option<u64>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub consumer: Arc<str>,
    pub product: Option<Arc<str>>,
}

/// Why a caller is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unknown,
    Suspended,
    Expired,
    NotSubscribed,
    QuotaExceeded(Exceeded),
}

/// What is wrong with a list of consumers and products.
#[derive(Debug)]
pub enum DirectoryError {
    TwoConsumers {
        name: Arc<str>,
    },
    TwoProducts {
        name: Arc<str>,
    },
    NoSuchProduct {
        consumer: Arc<str>,
        product: Arc<str>,
    },
    /// A key says who calls, so it can belong to one consumer only.
    SharedKey {
        consumers: [Arc<str>; 2],
    },
    State(StateError),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DirectoryError::TwoConsumers { name } => write!(f, "two consumers are named `{name}`"),
            DirectoryError::TwoProducts { name } => write!(f, "two products are named `{name}`"),
            DirectoryError::NoSuchProduct { consumer, product } => {
                write!(f, "consumer `{consumer}` subscribes to `{product}`, which is no product")
            }
            DirectoryError::SharedKey { consumers: [one, other] } => {
                write!(f, "consumers `{one}` and `{other}` have a subscription key in common")
            }
            DirectoryError::State(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DirectoryError {}
