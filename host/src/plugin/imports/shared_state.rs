//! `shared-state`: key-value data shared by all instances and workers, one bucket per grant.

use super::{keep, room};
use crate::plugin::bindings::witgate::policy::shared_state::{Bucket, Host, HostBucket};
use crate::plugin::guest::Guest;
use crate::plugin::plan::Ask;
use crate::state::Bucket as Shared;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Result;
use wasmtime::component::Resource;

impl Host for Guest {}

impl Guest {
    fn bucket(&self, this: &Resource<Bucket>) -> Option<&Arc<Shared>> {
        self.buckets.get(this.rep() as usize)
    }
}

impl HostBucket for Guest {
    fn open(&mut self, name: String) -> std::result::Result<Resource<Bucket>, String> {
        called!("shared-state.bucket.open({name})");
        self.configuring()?;
        self.ask(Ask::Bucket, &name);
        if !self.about.grants.buckets.contains(&name) {
            return Err(format!("bucket `{name}` is not granted: `allow: {{ buckets: [{name}] }}` does"));
        }
        room(&self.buckets)?;
        let bucket = self.services.buckets.open(&name)?;
        keep(&mut self.buckets, bucket).map(Resource::new_own)
    }
    fn get(&mut self, this: Resource<Bucket>, key: String) -> Option<Vec<u8>> {
        called!("shared-state.bucket.get({key})");
        self.bucket(&this)?.get(&key)
    }
    fn set(&mut self, this: Resource<Bucket>, key: String, value: Vec<u8>, ttl_millis: u32) -> bool {
        called!("shared-state.bucket.set({key}, {} bytes, {ttl_millis} ms)", value.len());
        self.bucket(&this).is_some_and(|bucket| bucket.set(&key, &value, ttl(ttl_millis)))
    }
    fn remove(&mut self, this: Resource<Bucket>, key: String) {
        called!("shared-state.bucket.remove({key})");
        if let Some(bucket) = self.bucket(&this) {
            bucket.remove(&key);
        }
    }
    fn increment(&mut self, this: Resource<Bucket>, key: String, delta: i64, ttl_millis: u32) -> i64 {
        called!("shared-state.bucket.increment({key}, {delta}, {ttl_millis} ms)");
        self.bucket(&this).map_or(0, |bucket| bucket.increment(&key, delta, ttl(ttl_millis)))
    }
    fn compare_and_set(
        &mut self,
        this: Resource<Bucket>,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_millis: u32,
    ) -> bool {
        called!("shared-state.bucket.compare-and-set({key}, {} bytes, {ttl_millis} ms)", value.len());
        self.bucket(&this)
            .is_some_and(|bucket| bucket.compare_and_set(&key, expected.as_deref(), &value, ttl(ttl_millis)))
    }
    fn drop(&mut self, _this: Resource<Bucket>) -> Result<()> {
        Ok(())
    }
}

fn ttl(millis: u32) -> Option<Duration> {
    (millis != 0).then(|| Duration::from_millis(u64::from(millis)))
}
