//! A configured policy and the calls a gateway would make, with the checks it would make.

use std::cell::RefCell;
use std::rc::Rc;

use super::state::{Announced, State, current, install};
use crate::export::{self, Slot};
use crate::field::{VALUE_BYTES_MAX, has_control, is_framing};
use crate::plan::ALL_HEADERS;
use crate::{BodyFilter, BodyVerdict, Direction, Edit, Policy, Reply, Values, Verdict};

/// A configured policy. Its hooks get what their plan declares of the values that the test gives,
/// and an edit that the plan does not declare fails the test.
pub struct Harness<P> {
    slot: Slot<P>,
    state: Rc<RefCell<State>>,
    plan: Announced,
    exchange: RefCell<Exchange>,
}

/// What a gateway remembers between the hooks of an exchange.
#[derive(Default)]
struct Exchange {
    request: Vec<(String, String)>,
    note: Vec<u8>,
}

/// Configures a policy, as the gateway does for each instance.
pub fn policy<P: Policy>(config: serde_json::Value) -> Result<Harness<P>, String> {
    let state = current();
    let slot = Slot::new();
    state.borrow_mut().plan = Announced::default();
    state.borrow_mut().configuring = true;
    let configured = slot.configure(&config.to_string());
    state.borrow_mut().configuring = false;
    configured?;
    let plan = state.borrow().plan.clone();
    Ok(Harness { slot, state, plan, exchange: RefCell::default() })
}

/// The schema of a policy's configuration.
pub fn schema<P: Policy>() -> serde_json::Value {
    match serde_json::from_str(&export::schema::<P::Config>()) {
        Ok(schema) => schema,
        Err(error) => panic!("the schema is no JSON: {error}"),
    }
}

impl<P: Policy> Harness<P> {
    /// A request arrives: an exchange begins. Values by the names of the plan; a name that comes
    /// twice is a repeated header. Panics if the hook fails or its edits are not permitted.
    pub fn request<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Verdict {
        passed(self.try_request(values))
    }

    /// The same, with the failure as a value.
    pub fn try_request<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Verdict, String> {
        let request: Vec<(String, String)> = owned(values);
        let declared = declared(&self.plan.request_reads, &request, &[]);
        self.exchange.replace(Exchange { request: request.clone(), note: Vec::new() });
        self.enter(&request, &self.plan.request_reads);
        let verdict = self.slot.on_request(declared)?;
        self.accept(&verdict)?;
        Ok(verdict)
    }

    /// The response of the exchange that the last request began, with the note it left; a name
    /// that the response lacks (`api:name`, `request-header:origin`) is looked up in the request.
    pub fn response<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Verdict {
        passed(self.try_response(values))
    }

    /// The same, with the failure as a value.
    pub fn try_response<'a>(
        &self,
        values: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Verdict, String> {
        let response: Vec<(String, String)> = owned(values);
        let (declared, note) = {
            let exchange = self.exchange.borrow();
            (declared(&self.plan.response_reads, &response, &exchange.request), exchange.note.clone())
        };
        self.enter(&response, &self.plan.response_reads);
        let verdict = self.slot.on_response(declared, note)?;
        self.accept(&verdict)?;
        Ok(verdict)
    }

    /// The request's body has been collected.
    pub fn request_body(&self, bytes: &[u8]) -> BodyVerdict {
        let note = self.exchange.borrow().note.clone();
        self.enter(&[], &[]);
        passed(self.slot.on_request_body(bytes.to_vec(), note).and_then(|verdict| self.accept_body(verdict)))
    }

    /// The response's body has been collected.
    pub fn response_body(&self, bytes: &[u8]) -> BodyVerdict {
        let note = self.exchange.borrow().note.clone();
        self.enter(&[], &[]);
        passed(self.slot.on_response_body(bytes.to_vec(), note).and_then(|verdict| self.accept_body(verdict)))
    }

    /// A body starts to stream.
    pub fn body_filter(&self, direction: Direction) -> Box<dyn BodyFilter> {
        let note = self.exchange.borrow().note.clone();
        self.enter(&[], &[]);
        self.slot.body_filter(direction, note)
    }

    /// Exchanges have finished.
    pub fn log(&self, entries: &[&[(&str, &str)]]) -> Result<(), String> {
        let values = |entry: &&[(&str, &str)]| {
            let entry = owned(entry.iter().copied());
            declared(&self.plan.log_reads, &entry, &[])
        };
        self.enter(&[], &[]);
        self.slot.on_log(entries.iter().map(values).collect())
    }

    pub fn tick(&self) -> Result<(), String> {
        self.enter(&[], &[]);
        self.slot.on_tick()
    }

    /// What the policy said of itself.
    pub fn plan(&self) -> &Announced {
        &self.plan
    }

    /// The host of this policy answers, with this message in hand.
    fn enter(&self, message: &[(String, String)], reads: &[String]) {
        install(&self.state);
        let mut state = self.state.borrow_mut();
        state.headers = message.iter().filter(|(name, _)| !name.contains(':')).cloned().collect();
        state.headers_granted = reads.iter().any(|name| name == ALL_HEADERS);
    }

    fn accept(&self, verdict: &Verdict) -> Result<(), String> {
        verdict.reply().map_or_else(|| self.accept_edits(verdict.edits()), accept_reply)
    }

    fn accept_body(&self, verdict: BodyVerdict) -> Result<BodyVerdict, String> {
        match &verdict {
            BodyVerdict::Proceed => {}
            BodyVerdict::Amend(edits) | BodyVerdict::Replace((_, edits)) => self.accept_edits(edits)?,
            BodyVerdict::Respond(reply) => accept_reply(reply)?,
        }
        Ok(verdict)
    }

    fn accept_edits(&self, edits: &[Edit]) -> Result<(), String> {
        if edits.len() > EDITS_MAX {
            return Err(format!("{} edits; at most {EDITS_MAX} are allowed", edits.len()));
        }
        for edit in edits {
            match edit {
                Edit::Set((name, value)) | Edit::Append((name, value)) => {
                    self.permit(name)?;
                    accept_value(name, value)?;
                }
                Edit::Remove(name) => self.permit(name)?,
                Edit::Note(note) => self.exchange.borrow_mut().note.clone_from(note),
            }
        }
        Ok(())
    }

    fn permit(&self, name: &str) -> Result<(), String> {
        let name = name.to_ascii_lowercase();
        if is_framing(&name) {
            return Err(format!("`{name}` is the gateway's own"));
        }
        let planned = self.plan.writes.iter().any(|write| {
            let write = write.to_ascii_lowercase();
            match write.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == write,
            }
        });
        if planned { Ok(()) } else { Err(format!("the plan does not write `{name}`")) }
    }
}

/// Edits of one verdict that a gateway accepts, and bytes of a reply.
const EDITS_MAX: usize = 256;
const REPLY_BYTES_MAX: usize = 8 << 20;

fn accept_reply(reply: &Reply) -> Result<(), String> {
    if !(200..=599).contains(&reply.status) || reply.body.len() > REPLY_BYTES_MAX {
        return Err(format!("a reply with status {} and {} bytes", reply.status, reply.body.len()));
    }
    for (name, value) in &reply.headers {
        if !crate::is_header(name) || is_framing(name) {
            return Err(format!("`{name}` cannot be set in a reply"));
        }
        accept_value(name, value)?;
    }
    Ok(())
}

fn accept_value(name: &str, value: &str) -> Result<(), String> {
    // What policies tell each other may be any text.
    let bad = has_control(value) && !name.starts_with("context:");
    if bad || value.len() > VALUE_BYTES_MAX {
        return Err(format!("the value of `{name}` has a control character or is too long"));
    }
    Ok(())
}

/// The declared values of a message, looked up in the exchange's request where it lacks them; the
/// right to all headers is no value.
fn declared(names: &[String], message: &[(String, String)], request: &[(String, String)]) -> Values {
    let joined = |message: &[(String, String)], name: &str| {
        let lines: Vec<&str> = message
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    };
    let find = |name: &String| {
        joined(message, name).or_else(|| match name.strip_prefix("request-header:") {
            Some(header) => joined(request, header),
            None if name.contains(':') => joined(request, name),
            None => None,
        })
    };
    names.iter().filter(|name| *name != ALL_HEADERS).map(find).collect()
}

fn owned<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    values.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn passed<T>(outcome: Result<T, String>) -> T {
    match outcome {
        Ok(verdict) => verdict,
        Err(error) => panic!("the hook failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Host;
    use super::*;
    use crate::limit::{Limiter, Quota};
    use crate::prelude::*;
    use crate::state::Bucket;

    struct Probe {
        limiter: Limiter,
        bucket: Bucket,
    }

    impl Policy for Probe {
        type Config = NoConfig;

        fn configure(_: NoConfig, plan: &mut Plan) -> Result<Self, String> {
            plan.read_request(["x-do", "client:ip"]).read_response(["request-header:x-do", ":status"]);
            plan.write(["x-*", "y"]).buffer_request_body(10);
            let quota = Quota { count: 2, period_millis: 1000, burst: 0 };
            Ok(Probe { limiter: Limiter::new("probe", quota)?, bucket: Bucket::open("probe")? })
        }

        fn on_request(&self, request: &Request) -> Result<Verdict, String> {
            Ok(match request.get("x-do") {
                Some("limit") => {
                    let outcome = self.limiter.check("k", 1);
                    Verdict::proceed().set("x-allowed", outcome.allowed.to_string())
                }
                Some("count") => {
                    let count = self.bucket.increment("n", 1, Some(Duration::from_secs(1)));
                    Verdict::proceed().set("y", count.to_string())
                }
                Some("host") => Verdict::proceed().set("host", "evil"),
                Some("undeclared") => Verdict::proceed().remove("z"),
                Some("split") => Verdict::proceed().set("y", "a\r\nb: c"),
                Some("delete") => Verdict::proceed().set("y", "\u{7f}"),
                Some("long") => Verdict::proceed().set("y", "a".repeat(VALUE_BYTES_MAX + 1)),
                Some("many") => (0..=EDITS_MAX).fold(Verdict::proceed(), |all, _| all.remove("y")),
                Some("odd reply") => Reply::new(200).header("location", "/\r\n").into(),
                Some("framed reply") => Reply::new(200).header("Trailer", "x").into(),
                Some("fail") => return Err("as told".into()),
                _ => Verdict::proceed().note(*b"noted"),
            })
        }

        fn on_response(&self, response: &Response) -> Result<Verdict, String> {
            let seen = format!("{:?} {:?}", response.get("request-header:x-do"), response.note());
            Ok(Verdict::proceed().set("x-seen", seen))
        }

        fn on_request_body(&self, body: Body) -> Result<BodyVerdict, String> {
            Ok(BodyVerdict::replace(body.bytes.to_ascii_uppercase()).set("y", "1"))
        }
    }

    crate::policy!(Probe);

    fn probe() -> Harness<Probe> {
        policy(serde_json::Value::Null).expect("configured")
    }

    #[test]
    fn limits_and_buckets_follow_the_clock() {
        let host = Host::new();
        let probe = probe();
        let allowed = || probe.request([("x-do", "limit")]).written("x-allowed").map(String::from);
        let answers: Vec<_> = (0..3).filter_map(|_| allowed()).collect();
        assert_eq!(answers, ["true", "true", "false"]);
        host.advance(Duration::from_millis(500));
        assert_eq!(allowed().as_deref(), Some("true"));
        assert_eq!(probe.request([("x-do", "count")]).written("y"), Some("1"));
        assert_eq!(probe.request([("x-do", "count")]).written("y"), Some("2"));
        host.advance(Duration::from_secs(2));
        assert_eq!(probe.request([("x-do", "count")]).written("y"), Some("1"));
    }

    #[test]
    fn edits_are_checked_as_a_gateway_checks_them() {
        let probe = probe();
        for bad in
            ["host", "undeclared", "split", "delete", "long", "many", "odd reply", "framed reply", "fail"]
        {
            assert!(probe.try_request([("x-do", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_note_and_the_request_reach_the_response() {
        let probe = probe();
        probe.request([("x-do", "other")]);
        let seen = probe.response([(":status", "200")]);
        assert_eq!(seen.written("x-seen"), Some("Some(\"other\") [110, 111, 116, 101, 100]"));
        let BodyVerdict::Replace((bytes, _)) = probe.request_body(b"abc") else { panic!("not replaced") };
        assert_eq!(bytes, b"ABC");
        assert_eq!(probe.plan().request_body, Some((crate::BodyMode::Buffer, 10)));
    }

    /// Reads what a gateway hands no value over for, before a value in each hook.
    struct Curious;

    impl Policy for Curious {
        type Config = NoConfig;

        fn configure(_: NoConfig, plan: &mut Plan) -> Result<Self, String> {
            plan.read_request(["headers:*", "x-a"]).read_response(["headers:*", "x-a"]);
            plan.read_log(["headers:*", "x-a"]).write(["x-seen"]);
            Ok(Curious)
        }

        fn on_request(&self, request: &Request) -> Result<Verdict, String> {
            let seen = format!("{:?} of {}", request.get("x-a"), request.headers().len());
            Ok(Verdict::proceed().set("x-seen", seen))
        }

        fn on_response(&self, response: &Response) -> Result<Verdict, String> {
            let seen = format!("{:?} of {}", response.get("x-a"), response.headers().len());
            Ok(Verdict::proceed().set("x-seen", seen))
        }

        fn on_log(&self, entries: &[Entry]) -> Result<(), String> {
            match entries.iter().all(|entry| entry.get("x-a") == Some("1")) {
                true => Ok(()),
                false => Err("another value".into()),
            }
        }
    }

    #[test]
    fn the_right_to_all_headers_moves_no_value() {
        let curious = policy::<Curious>(serde_json::Value::Null).expect("configured");
        let message = [("x-a", "1"), ("x-b", "2")];
        assert_eq!(curious.request(message).written("x-seen"), Some("Some(\"1\") of 2"));
        assert_eq!(curious.response(message).written("x-seen"), Some("Some(\"1\") of 2"));
        assert_eq!(curious.log(&[&message]), Ok(()));
        assert_eq!(curious.plan().log_reads, ["x-a", "headers:*"]);
    }

    #[test]
    fn mistakes_in_a_configuration_carry_no_position() {
        let error = policy::<Probe>(serde_json::json!({"odd": 1})).err().unwrap_or_default();
        assert_eq!(error, "unknown field `odd`, there are no fields");
    }

    #[test]
    fn hmac_of_rfc_4231() {
        let _host = Host::new().secret("s", b"Jefe");
        let mac = crate::crypto::hmac(crate::crypto::Digest::Sha256, "s", b"what do ya want for nothing?");
        assert_eq!(mac.map(|mac| mac[..4].to_vec()), Ok(vec![0x5b, 0xdc, 0xc1, 0x46]));
        assert!(crate::crypto::hmac(crate::crypto::Digest::Sha256, "t", b"").is_err());
    }
}
