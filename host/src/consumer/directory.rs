//! The look-up of callers, by key and by name.
//!
//! Built by `compile` once per configuration, read by all workers without a lock. Of several
//! subscriptions that a caller could use, the first in the configuration's order that grants the
//! API and has quota left is taken; if none is, the refusal that says most is given.

use super::{Consumer, DirectoryError, Identity, KeyHash, Product, ProductQuota, Refusal};
use crate::clock::Clock;
use crate::state::{Counter, Counters};
use foldhash::fast::RandomState;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

/// All consumers, by key and by name.
pub struct Directory {
    /// The APIs that some product grants.
    apis: HashMap<Arc<str>, ApiId, RandomState>,
    products: Box<[Granted]>,
    holders: Box<[Holder]>,
    subscriptions: Box<[Held]>,
    keys: HashMap<KeyHash, SmallVec<[SubscriptionId; 1]>, RandomState>,
    names: HashMap<Arc<str>, HolderId, RandomState>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct ApiId(u32);

#[derive(Clone, Copy)]
struct ProductId(u32);

#[derive(Clone, Copy, PartialEq, Eq)]
struct HolderId(u32);

#[derive(Clone, Copy)]
struct SubscriptionId(u32);

struct Granted {
    name: Arc<str>,
    /// Sorted.
    apis: Box<[ApiId]>,
    quota: Option<ProductQuota>,
}

struct Holder {
    name: Arc<str>,
    subscriptions: std::ops::Range<u32>,
}

struct Held {
    holder: HolderId,
    product: ProductId,
    suspended: bool,
    expires_unix: Option<u64>,
    /// Shared by all subscriptions of this consumer to this product; present if it has a quota.
    counter: Option<Arc<Counter>>,
}

impl Directory {
    pub fn new(
        products: Vec<Product>,
        consumers: Vec<Consumer>,
        counters: &Counters,
    ) -> Result<Directory, DirectoryError> {
        let mut apis = HashMap::default();
        let mut product_ids: HashMap<Arc<str>, ProductId, RandomState> = HashMap::default();
        let mut granted = Vec::with_capacity(products.len());
        for product in products {
            if product_ids.insert(Arc::clone(&product.name), ProductId(index(granted.len()))).is_some() {
                return Err(DirectoryError::TwoProducts { name: product.name });
            }
            let mut ids: Vec<ApiId> = product
                .apis
                .into_iter()
                .map(|api| {
                    let next = ApiId(index(apis.len()));
                    *apis.entry(api).or_insert(next)
                })
                .collect();
            ids.sort_unstable();
            granted.push(Granted { name: product.name, apis: ids.into(), quota: product.quota });
        }

        let mut names = HashMap::with_capacity_and_hasher(consumers.len(), RandomState::default());
        let mut keys = HashMap::with_capacity_and_hasher(consumers.len(), RandomState::default());
        let mut holders: Vec<Holder> = Vec::with_capacity(consumers.len());
        let mut subscriptions: Vec<Held> = Vec::with_capacity(consumers.len());
        for consumer in consumers {
            let holder = HolderId(index(holders.len()));
            if names.insert(Arc::clone(&consumer.name), holder).is_some() {
                return Err(DirectoryError::TwoConsumers { name: consumer.name });
            }
            let first = index(subscriptions.len());
            for subscription in consumer.subscriptions {
                let Some(product) = product_ids.get(&subscription.product).copied() else {
                    let product = subscription.product;
                    return Err(DirectoryError::NoSuchProduct { consumer: consumer.name, product });
                };
                let id = SubscriptionId(index(subscriptions.len()));
                for key in subscription.keys {
                    match keys.entry(KeyHash::from_bytes(key)) {
                        Entry::Vacant(entry) => {
                            entry.insert(SmallVec::from_buf([id]));
                        }
                        Entry::Occupied(mut entry) => {
                            let ids: &mut SmallVec<[SubscriptionId; 1]> = entry.get_mut();
                            let other = ids.iter().find_map(|id| subscriptions.get(id.0 as usize));
                            if let Some(other) = other.filter(|other| other.holder != holder) {
                                let other = Arc::clone(&holders[other.holder.0 as usize].name);
                                return Err(DirectoryError::SharedKey { consumers: [other, consumer.name] });
                            }
                            if ids.last().is_none_or(|last| last.0 != id.0) {
                                ids.push(id);
                            }
                        }
                    }
                }
                let granted = &granted[product.0 as usize];
                let counter = granted
                    .quota
                    .map(|quota| counters.counter(&consumer.name, &granted.name, quota.per))
                    .transpose()
                    .map_err(DirectoryError::State)?;
                subscriptions.push(Held {
                    holder,
                    product,
                    suspended: subscription.suspended,
                    expires_unix: subscription.expires_unix,
                    counter,
                });
            }
            holders.push(Holder { name: consumer.name, subscriptions: first..index(subscriptions.len()) });
        }
        Ok(Directory {
            apis,
            products: granted.into(),
            holders: holders.into(),
            subscriptions: subscriptions.into(),
            keys,
            names,
        })
    }

    /// Who has this subscription key. A key grants the APIs of its subscription's product and
    /// nothing else, so an API that no product lists is closed to all keys. Charges the quota.
    pub fn by_key(&self, key: &str, api: &str, clock: &Clock) -> Result<Identity, Refusal> {
        let hash = KeyHash::of(key).ok_or(Refusal::Unknown)?;
        let ids = self.keys.get(&hash).ok_or(Refusal::Unknown)?;
        let api = self.apis.get(api).copied();
        self.first_usable(ids.iter().copied(), api, clock.unix())
    }

    /// The consumer of this name, which a verified token or certificate gave. An API that some
    /// product lists needs a subscription that grants it; one that no product lists is open to
    /// every consumer by name, without a product or a quota. Charges the quota.
    pub fn by_name(&self, name: &str, api: &str, clock: &Clock) -> Result<Identity, Refusal> {
        let holder = self.names.get(name).ok_or(Refusal::Unknown)?;
        let holder = &self.holders[holder.0 as usize];
        let Some(api) = self.apis.get(api).copied() else {
            return Ok(Identity { consumer: Arc::clone(&holder.name), product: None });
        };
        let ids = holder.subscriptions.clone().map(SubscriptionId);
        self.first_usable(ids, Some(api), clock.unix())
    }

    fn first_usable(
        &self,
        ids: impl Iterator<Item = SubscriptionId>,
        api: Option<ApiId>,
        now: Duration,
    ) -> Result<Identity, Refusal> {
        let mut refusal = Refusal::NotSubscribed;
        for id in ids {
            let subscription = &self.subscriptions[id.0 as usize];
            match self.use_subscription(subscription, api, now) {
                Ok(()) => {
                    return Ok(Identity {
                        consumer: Arc::clone(&self.holders[subscription.holder.0 as usize].name),
                        product: Some(Arc::clone(&self.products[subscription.product.0 as usize].name)),
                    });
                }
                Err(other) => refusal = nearer(refusal, other),
            }
        }
        Err(refusal)
    }

    fn use_subscription(
        &self,
        subscription: &Held,
        api: Option<ApiId>,
        now: Duration,
    ) -> Result<(), Refusal> {
        let product = &self.products[subscription.product.0 as usize];
        if api.is_none_or(|api| product.apis.binary_search(&api).is_err()) {
            return Err(Refusal::NotSubscribed);
        }
        if subscription.suspended {
            return Err(Refusal::Suspended);
        }
        if subscription.expires_unix.is_some_and(|expires| now.as_secs() >= expires) {
            return Err(Refusal::Expired);
        }
        if let (Some(counter), Some(quota)) = (&subscription.counter, product.quota) {
            counter.charge(quota.requests, now).map_err(Refusal::QuotaExceeded)?;
        }
        Ok(())
    }
}

/// Of two refusals the one with which the caller was nearer to being let through.
fn nearer(one: Refusal, other: Refusal) -> Refusal {
    match (one, other) {
        (Refusal::QuotaExceeded(one), Refusal::QuotaExceeded(other)) => {
            Refusal::QuotaExceeded(if other.retry_after < one.retry_after { other } else { one })
        }
        _ if weight(other) > weight(one) => other,
        _ => one,
    }
}

fn weight(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::Unknown => 0,
        Refusal::NotSubscribed => 1,
        Refusal::Suspended => 2,
        Refusal::Expired => 3,
        Refusal::QuotaExceeded(_) => 4,
    }
}

/// A configuration of four billion entries does not fit into memory.
fn index(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::Subscription;
    use super::*;
    use crate::state::counter::Exceeded;

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn hash(key: &str) -> [u8; 32] {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes()).as_ref().try_into().unwrap()
    }

    fn product(name: &str, apis: &[&str], quota: Option<u64>) -> Product {
        Product {
            name: name.into(),
            apis: apis.iter().map(|api| (*api).into()).collect(),
            quota: quota.map(|requests| ProductQuota { requests, per: Duration::from_secs(3600) }),
        }
    }

    fn subscription(product: &str, keys: &[&str]) -> Subscription {
        Subscription {
            product: product.into(),
            keys: keys.iter().map(|key| hash(key)).collect(),
            suspended: false,
            expires_unix: None,
        }
    }

    fn consumer(name: &str, subscriptions: Vec<Subscription>) -> Consumer {
        Consumer { name: name.into(), subscriptions }
    }

    struct Desk {
        clock: Clock,
        counters: Counters,
    }

    impl Desk {
        fn new() -> Desk {
            let clock = Clock::manual(NOW);
            Desk { counters: Counters::open(None, clock.clone()).unwrap(), clock }
        }
        fn directory(&self, products: Vec<Product>, consumers: Vec<Consumer>) -> Directory {
            Directory::new(products, consumers, &self.counters).unwrap()
        }
        fn key(&self, directory: &Directory, key: &str, api: &str) -> Result<String, Refusal> {
            directory.by_key(key, api, &self.clock).map(show)
        }
        fn name(&self, directory: &Directory, name: &str, api: &str) -> Result<String, Refusal> {
            directory.by_name(name, api, &self.clock).map(show)
        }
    }

    fn show(identity: Identity) -> String {
        format!("{}/{}", identity.consumer, identity.product.as_deref().unwrap_or("-"))
    }

    #[test]
    fn a_key_grants_the_apis_of_its_product() {
        let desk = Desk::new();
        let directory = desk.directory(
            vec![product("starter", &["employees"], None), product("pro", &["flights"], None)],
            vec![
                consumer("app", vec![subscription("starter", &["k1", "k2"])]),
                consumer("site", vec![subscription("pro", &["k3"])]),
            ],
        );
        assert_eq!(desk.key(&directory, "k1", "employees").unwrap(), "app/starter");
        assert_eq!(desk.key(&directory, "k2", "employees").unwrap(), "app/starter");
        assert_eq!(desk.key(&directory, "k3", "flights").unwrap(), "site/pro");
        assert_eq!(desk.key(&directory, "k1", "flights"), Err(Refusal::NotSubscribed));
        assert_eq!(desk.key(&directory, "k1", "unlisted"), Err(Refusal::NotSubscribed));
        for unknown in ["", "K1", "k1 ", "k4", &"k".repeat(100_000)] {
            assert_eq!(desk.key(&directory, unknown, "employees"), Err(Refusal::Unknown));
        }
    }

    #[test]
    fn the_hash_of_nothing_is_no_key() {
        let desk = Desk::new();
        let directory = desk.directory(
            vec![product("starter", &["employees"], None)],
            vec![consumer("app", vec![subscription("starter", &[""])])],
        );
        assert_eq!(desk.key(&directory, "", "employees"), Err(Refusal::Unknown));
    }

    #[test]
    fn a_name_picks_the_subscription_that_grants_the_api() {
        let desk = Desk::new();
        let directory = desk.directory(
            vec![product("starter", &["employees"], None), product("pro", &["flights"], None)],
            vec![
                consumer("app", vec![subscription("starter", &[]), subscription("pro", &[])]),
                consumer("bare", vec![]),
            ],
        );
        assert_eq!(desk.name(&directory, "app", "flights").unwrap(), "app/pro");
        assert_eq!(desk.name(&directory, "app", "unlisted").unwrap(), "app/-");
        assert_eq!(desk.name(&directory, "bare", "unlisted").unwrap(), "bare/-");
        assert_eq!(desk.name(&directory, "bare", "flights"), Err(Refusal::NotSubscribed));
        assert_eq!(desk.name(&directory, "nobody", "unlisted"), Err(Refusal::Unknown));
    }

    #[test]
    fn suspended_and_expired_subscriptions_grant_nothing() {
        let desk = Desk::new();
        let suspended = Subscription { suspended: true, ..subscription("starter", &["k1"]) };
        let ends = NOW.as_secs() + 10;
        let expires = Subscription { expires_unix: Some(ends), ..subscription("starter", &["k2"]) };
        let directory = desk.directory(
            vec![product("starter", &["employees"], None)],
            vec![consumer("app", vec![suspended, expires])],
        );
        assert_eq!(desk.key(&directory, "k1", "employees"), Err(Refusal::Suspended));
        assert!(desk.key(&directory, "k2", "employees").is_ok());
        assert!(desk.name(&directory, "app", "employees").is_ok());
        desk.clock.advance(Duration::from_secs(10));
        assert_eq!(desk.key(&directory, "k2", "employees"), Err(Refusal::Expired));
        assert_eq!(desk.name(&directory, "app", "employees"), Err(Refusal::Expired));
    }

    #[test]
    fn quotas_are_charged_on_success_and_live_across_directories() {
        let desk = Desk::new();
        let products =
            || vec![product("starter", &["employees"], Some(3)), product("pro", &["flights"], None)];
        let consumers = || vec![consumer("app", vec![subscription("starter", &["k1", "k2"])])];
        let directory = desk.directory(products(), consumers());
        assert!(desk.key(&directory, "k1", "employees").is_ok());
        assert_eq!(desk.key(&directory, "k1", "flights"), Err(Refusal::NotSubscribed));
        let reloaded = desk.directory(products(), consumers());
        assert!(desk.key(&reloaded, "k2", "employees").is_ok());
        assert!(desk.name(&directory, "app", "employees").is_ok());
        let refused = desk.key(&reloaded, "k1", "employees");
        let left = Duration::from_secs(3600 - NOW.as_secs() % 3600);
        assert_eq!(refused, Err(Refusal::QuotaExceeded(Exceeded { retry_after: left })));
        desk.clock.advance(Duration::from_secs(3600));
        assert!(desk.key(&reloaded, "k1", "employees").is_ok());
    }

    #[test]
    fn one_key_may_serve_two_products_of_one_consumer() {
        let desk = Desk::new();
        let directory = desk.directory(
            vec![
                product("small", &["employees"], Some(1)),
                product("large", &["employees", "flights"], None),
            ],
            vec![consumer("app", vec![subscription("small", &["k"]), subscription("large", &["k", "k"])])],
        );
        assert_eq!(desk.key(&directory, "k", "employees").unwrap(), "app/small");
        assert_eq!(desk.key(&directory, "k", "employees").unwrap(), "app/large", "the first is used up");
        assert_eq!(desk.key(&directory, "k", "flights").unwrap(), "app/large");
    }

    #[test]
    fn ambiguous_lists_are_refused() {
        let desk = Desk::new();
        let refused = |products, consumers| {
            Directory::new(products, consumers, &desk.counters).map(|_| ()).unwrap_err().to_string()
        };
        let one = || product("one", &["a"], None);
        assert_eq!(refused(vec![one(), one()], vec![]), "two products are named `one`");
        assert_eq!(
            refused(vec![], vec![consumer("x", vec![]), consumer("x", vec![])]),
            "two consumers are named `x`"
        );
        assert_eq!(
            refused(vec![], vec![consumer("x", vec![subscription("two", &[])])]),
            "consumer `x` subscribes to `two`, which is no product"
        );
        let holder = |name| consumer(name, vec![subscription("one", &["k"])]);
        assert_eq!(
            refused(vec![one()], vec![holder("x"), holder("y")]),
            "consumers `x` and `y` have a subscription key in common"
        );
    }

    #[test]
    fn a_hundred_thousand_consumers() {
        let desk = Desk::new();
        let consumers = (0..100_000)
            .map(|n| consumer(&format!("c{n}"), vec![subscription("starter", &[&format!("key-{n}")])]))
            .collect();
        let directory = desk.directory(vec![product("starter", &["employees"], Some(10))], consumers);
        assert_eq!(desk.key(&directory, "key-77777", "employees").unwrap(), "c77777/starter");
        assert_eq!(desk.name(&directory, "c5", "employees").unwrap(), "c5/starter");
    }
}
