//! The host of a unit test, set up by the test and asked afterwards.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::state::{Metric, State, install};
use crate::consumers::{Consumer, Refusal};
use crate::http::{FetchError, FetchRequest, FetchResponse};
use crate::log::Level;
use crate::token::{Rules, TokenFault};

/// A host that holds what the test gives it. It belongs to the test's thread until another is made
/// there; keep it in a variable while the policy runs.
///
/// Its clock stands still until [`advance`](Host::advance), its chance repeats itself, its limiters
/// and buckets are real, and everything it was not told about is refused.
pub struct Host(Rc<RefCell<State>>);

impl Host {
    #[expect(clippy::new_without_default, reason = "making one has an effect: it becomes the thread's host")]
    pub fn new() -> Self {
        let state = Rc::default();
        install(&state);
        Host(state)
    }

    /// A subscription key that is good.
    #[must_use]
    pub fn consumer_key(self, key: &str, consumer: &str, product: Option<&str>) -> Self {
        let consumer = Consumer { name: consumer.into(), product: product.map(String::from) };
        self.change(|state| state.consumer_keys.insert(key.into(), Ok(consumer)))
    }

    /// A subscription key that is refused. A quota that is used up begins anew in a minute.
    #[must_use]
    pub fn refused_key(self, key: &str, refusal: Refusal) -> Self {
        self.change(|state| state.consumer_keys.insert(key.into(), Err(refusal)))
    }

    /// A consumer that is known by name.
    #[must_use]
    pub fn consumer(self, name: &str, product: Option<&str>) -> Self {
        let consumer = Consumer { name: name.into(), product: product.map(String::from) };
        self.change(|state| state.consumer_names.insert(name.into(), Ok(consumer)))
    }

    /// A consumer that is refused.
    #[must_use]
    pub fn refused_consumer(self, name: &str, refusal: Refusal) -> Self {
        self.change(|state| state.consumer_names.insert(name.into(), Err(refusal)))
    }

    /// A token that verifies, with its claims.
    #[must_use]
    pub fn token(self, token: &str, claims: serde_json::Value) -> Self {
        self.change(|state| state.tokens.insert(token.into(), Ok(claims.to_string())))
    }

    /// A token that does not. Those that were not named have a bad signature.
    #[must_use]
    pub fn bad_token(self, token: &str, fault: TokenFault) -> Self {
        self.change(|state| state.tokens.insert(token.into(), Err(fault)))
    }

    #[must_use]
    pub fn secret(self, name: &str, bytes: &[u8]) -> Self {
        self.change(|state| state.secrets.insert(name.into(), bytes.to_vec()))
    }

    /// The password that this PHC string stands for.
    #[must_use]
    pub fn password(self, phc: &str, password: &str) -> Self {
        self.change(|state| state.passwords.insert(phc.into(), password.into()))
    }

    /// What an upstream answers at a path (with its query).
    #[must_use]
    pub fn answer(self, upstream: &str, path: &str, status: u16, body: &str) -> Self {
        let response = FetchResponse { status, headers: Vec::new(), body: body.into() };
        self.change(|state| state.answers.insert((upstream.into(), path.into()), Ok(response)))
    }

    /// How a call to an upstream fails. Those that were not named have no healthy endpoint.
    #[must_use]
    pub fn failure(self, upstream: &str, path: &str, error: FetchError) -> Self {
        self.change(|state| state.answers.insert((upstream.into(), path.into()), Err(error)))
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.0.borrow_mut().now_millis += time.as_millis() as u64;
    }

    /// The calls to upstreams so far.
    pub fn fetches(&self) -> Vec<FetchRequest> {
        self.0.borrow().fetches.clone()
    }

    /// The log lines so far.
    pub fn logs(&self) -> Vec<(Level, String)> {
        self.0.borrow().logs.clone()
    }

    /// The metrics as they stand.
    pub fn metrics(&self) -> Vec<Metric> {
        self.0.borrow().metrics.clone()
    }

    /// The rules of the verifiers that were made.
    pub fn rules(&self) -> Vec<Rules> {
        self.0.borrow().rules.clone()
    }

    fn change<T>(self, change: impl FnOnce(&mut State) -> T) -> Self {
        change(&mut self.0.borrow_mut());
        self
    }
}
