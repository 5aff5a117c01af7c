//! `consumers`: who calls, by the gateway's own list.

use crate::consumer::{Identity, Refusal};
use crate::plugin::bindings::witgate::policy::consumers::{Consumer, Host, Refusal as WitRefusal};
use crate::plugin::facts::Facts;
use crate::plugin::guest::Guest;

impl Host for Guest {
    fn identify_by_key(&mut self, key: String) -> Result<Consumer, WitRefusal> {
        called!("consumers.identify-by-key(…)");
        let clock = self.services.clock.clone();
        self.identify(|facts| facts.directory.by_key(&key, &facts.api, &clock))
    }
    fn identify_by_name(&mut self, name: String) -> Result<Consumer, WitRefusal> {
        called!("consumers.identify-by-name({name})");
        let clock = self.services.clock.clone();
        self.identify(|facts| facts.directory.by_name(&name, &facts.api, &clock))
    }
    fn retry_after(&mut self) -> Option<u32> {
        called!("consumers.retry-after()");
        let left = self.facts.as_ref()?.retry_after?;
        // Rounded up: whoever comes back earlier is refused again.
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

impl Guest {
    fn identify(
        &mut self,
        look_up: impl FnOnce(&Facts) -> Result<Identity, Refusal>,
    ) -> Result<Consumer, WitRefusal> {
        // Outside an exchange (in `configure`, in a tick) nobody calls.
        let facts = self.facts.as_mut().ok_or(WitRefusal::Unknown)?;
        facts.retry_after = None;
        let identity = look_up(facts).map_err(|refusal| match refusal {
            Refusal::Unknown => WitRefusal::Unknown,
            Refusal::Suspended => WitRefusal::Suspended,
            Refusal::Expired => WitRefusal::Expired,
            Refusal::NotSubscribed => WitRefusal::NotSubscribed,
            Refusal::QuotaExceeded(exceeded) => {
                facts.retry_after = Some(exceeded.retry_after);
                WitRefusal::QuotaExceeded
            }
        })?;
        let consumer = Consumer {
            name: identity.consumer.to_string(),
            product: identity.product.as_ref().map(ToString::to_string),
        };
        facts.identity = Some(identity);
        Ok(consumer)
    }
}
