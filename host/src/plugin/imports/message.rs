//! `message`: all headers of the message in hand, for a policy whose plan reads `headers:*`.

use crate::plugin::bindings::witgate::policy::message::Host;
use crate::plugin::guest::Guest;

impl Host for Guest {
    /// Empty unless the plan reads `headers:*`. Values that are not UTF-8 never get here: the
    /// exchange has refused such a message before.
    fn headers(&mut self) -> Vec<(String, String)> {
        called!("message.headers()");
        let Some(facts) = &self.facts else { return Vec::new() };
        facts
            .headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect()
    }
}
