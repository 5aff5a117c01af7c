//! The host's functions for unit tests: each asks the [`testing::Host`](crate::testing::Host) of
//! its thread.

use crate::testing::state::with;

pub(crate) mod plan {
    use super::with;
    use crate::{BodyMode, Fallback};

    pub(crate) fn request_reads(names: &[String]) {
        with(|state| state.plan.request_reads = names.to_vec());
    }

    pub(crate) fn response_reads(names: &[String]) {
        with(|state| state.plan.response_reads = names.to_vec());
    }

    pub(crate) fn log_reads(names: &[String]) {
        with(|state| state.plan.log_reads = names.to_vec());
    }

    pub(crate) fn writes(names: &[String]) {
        with(|state| state.plan.writes = names.to_vec());
    }

    pub(crate) fn request_body(mode: BodyMode, limit: u32) {
        with(|state| state.plan.request_body = Some((mode, limit)));
    }

    pub(crate) fn response_body(mode: BodyMode, limit: u32) {
        with(|state| state.plan.response_body = Some((mode, limit)));
    }

    pub(crate) fn on_error(action: Fallback) {
        with(|state| state.plan.on_error = Some(action));
    }

    pub(crate) fn tick_millis(period: u32) {
        with(|state| state.plan.tick_millis = Some(period));
    }
}

pub(crate) mod env {
    use super::with;

    pub(crate) fn unix_millis() -> u64 {
        with(|state| state.now_millis)
    }

    pub(crate) fn unix_nanos() -> u64 {
        with(|state| state.now_millis * 1_000_000)
    }

    pub(crate) fn monotonic_nanos() -> u64 {
        unix_nanos()
    }

    pub(crate) fn random_u64() -> u64 {
        with(|state| state.random())
    }

    pub(crate) fn random_bytes(len: u32) -> Vec<u8> {
        with(|state| (0..len).map(|_| state.random() as u8).collect())
    }
}

pub(crate) mod log {
    use super::with;
    use crate::log::Level;

    pub(crate) fn max_level() -> Level {
        Level::Trace
    }

    pub(crate) fn write(level: Level, message: &str) {
        with(|state| state.logs.push((level, message.into())));
    }
}

pub(crate) mod metrics {
    use super::with;
    use crate::bindings::imports::witgate::policy::metrics::Kind;

    pub(crate) fn define(kind: Kind, name: &str, labels: &[(String, String)]) -> Result<u32, String> {
        with(|state| state.define_metric(kind, name, labels))
    }

    pub(crate) fn add(metric: u32, delta: f64) {
        with(|state| state.metric(metric).value += delta);
    }

    pub(crate) fn observe(metric: u32, value: f64) {
        with(|state| {
            let metric = state.metric(metric);
            metric.value = value;
            metric.observations.push(value);
        });
    }
}

pub(crate) mod message {
    use super::with;

    pub(crate) fn headers() -> Vec<(String, String)> {
        with(|state| {
            assert!(
                state.headers_granted,
                "message.headers was called, but the plan of this hook does not read `headers:*`"
            );
            state.headers.clone()
        })
    }
}

pub(crate) mod shared_state {
    use super::with;

    pub(crate) struct Bucket(String);

    impl Bucket {
        pub(crate) fn open(name: &str) -> Result<Bucket, String> {
            with(|state| state.must_be_configuring("a bucket"));
            Ok(Bucket(name.into()))
        }

        pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
            with(|state| state.bucket_get(&self.0, key))
        }

        pub(crate) fn set(&self, key: &str, value: &[u8], ttl_millis: u32) -> bool {
            with(|state| state.bucket_set(&self.0, key, value, ttl_millis));
            true
        }

        pub(crate) fn remove(&self, key: &str) {
            with(|state| state.bucket_remove(&self.0, key));
        }

        pub(crate) fn increment(&self, key: &str, delta: i64, ttl_millis: u32) -> i64 {
            with(|state| {
                let known = state.bucket_get(&self.0, key);
                let number = known.and_then(|value| String::from_utf8(value).ok()?.parse().ok());
                let sum = number.unwrap_or(0i64).saturating_add(delta);
                state.bucket_set(&self.0, key, sum.to_string().as_bytes(), ttl_millis);
                sum
            })
        }

        pub(crate) fn compare_and_set(
            &self,
            key: &str,
            expected: Option<&[u8]>,
            value: &[u8],
            ttl_millis: u32,
        ) -> bool {
            with(|state| {
                let same = state.bucket_get(&self.0, key).as_deref() == expected;
                if same {
                    state.bucket_set(&self.0, key, value, ttl_millis);
                }
                same
            })
        }
    }
}

pub(crate) mod rate_limit {
    use super::with;
    use crate::limit::{Outcome, Quota};

    pub(crate) struct Limiter(usize);

    impl Limiter {
        pub(crate) fn create(name: &str, quota: Quota) -> Result<Limiter, String> {
            with(|state| state.limiter(name, quota)).map(Limiter)
        }

        pub(crate) fn check(&self, key: &str, cost: u32) -> Outcome {
            with(|state| state.check_limit(self.0, key, cost))
        }
    }
}

pub(crate) mod jwt {
    use super::with;
    use crate::token::{Rules, TokenFault};

    pub(crate) struct Verifier;

    impl Verifier {
        pub(crate) fn create(rules: &Rules) -> Result<Verifier, String> {
            with(|state| {
                state.must_be_configuring("a verifier");
                state.rules.push(rules.clone());
            });
            Ok(Verifier)
        }

        pub(crate) fn verify(&self, token: &str) -> Result<String, TokenFault> {
            with(|state| state.tokens.get(token).cloned().unwrap_or(Err(TokenFault::BadSignature)))
        }
    }
}

pub(crate) mod consumers {
    use super::with;
    use crate::consumers::{Consumer, Refusal};
    use crate::testing::state::QUOTA_RESETS;

    pub(crate) fn identify_by_key(key: &str) -> Result<Consumer, Refusal> {
        with(|state| {
            let found = state.consumer_keys.get(key).cloned();
            state.identified(found)
        })
    }

    pub(crate) fn identify_by_name(name: &str) -> Result<Consumer, Refusal> {
        with(|state| {
            let found = state.consumer_names.get(name).cloned();
            state.identified(found)
        })
    }

    pub(crate) fn retry_after() -> Option<u32> {
        with(|state| state.quota_exceeded.then_some(QUOTA_RESETS))
    }
}

pub(crate) mod crypto {
    use super::with;
    use crate::crypto::Digest;
    use sha2::Digest as _;

    pub(crate) fn hash(digest: Digest, data: &[u8]) -> Vec<u8> {
        match digest {
            Digest::Sha256 => sha2::Sha256::digest(data).to_vec(),
            Digest::Sha384 => sha2::Sha384::digest(data).to_vec(),
            Digest::Sha512 => sha2::Sha512::digest(data).to_vec(),
        }
    }

    /// RFC 2104.
    pub(crate) fn hmac(digest: Digest, secret: &str, data: &[u8]) -> Result<Vec<u8>, String> {
        let secret = with(|state| state.secrets.get(secret).cloned())
            .ok_or_else(|| format!("no secret is named `{secret}`"))?;
        let block = if digest == Digest::Sha256 { 64 } else { 128 };
        let mut key = if secret.len() > block { hash(digest, &secret) } else { secret };
        key.resize(block, 0);
        let padded = |pad: u8, data: &[u8]| {
            let mut bytes: Vec<u8> = key.iter().map(|byte| byte ^ pad).collect();
            bytes.extend_from_slice(data);
            hash(digest, &bytes)
        };
        Ok(padded(0x5c, &padded(0x36, data)))
    }

    pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
        a == b
    }

    pub(crate) fn verify_password(password: &str, phc: &str) -> bool {
        with(|state| state.passwords.get(phc).is_some_and(|known| known == password))
    }
}

pub(crate) mod http_client {
    use super::with;
    use crate::http::{FetchError, FetchRequest, FetchResponse};

    pub(crate) fn fetch(request: &FetchRequest) -> Result<FetchResponse, FetchError> {
        with(|state| {
            state.fetches.push(request.clone());
            let place = (request.upstream.clone(), request.path.clone());
            state.answers.get(&place).cloned().unwrap_or(Err(FetchError::NoHealthyEndpoint))
        })
    }

    pub(crate) fn fetch_all(requests: &[FetchRequest]) -> Vec<Result<FetchResponse, FetchError>> {
        requests.iter().map(fetch).collect()
    }
}
