//! Sets, appends and removes headers of requests and responses.
//!
//! ```yaml
//! plugin: header-rewrite
//! config:
//!   request:
//!     set: { x-client: "{client:ip}", x-user: "{claim:sub}" }
//!     append: { via-policy: "{api:name}/{param:id}" }
//!     remove: [x-debug, x-internal-*]
//!   response:
//!     remove: [server, x-powered-by]
//!     set: { x-request: "{request:id}" }
//! ```
//!
//! Names in braces are values of the exchange, under the names that policies read by: headers of
//! the message in hand (`{accept}`), `{:path}`, `{client:ip}`, `{api:name}`, `{consumer:name}`,
//! `{param:NAME}`, `{query:NAME}`, `{cookie:NAME}`, `{claim:NAME}`, and in responses `{:status}` and
//! `{request-header:NAME}`. `{{` and `}}` are braces. A name that does not exist is refused when the
//! gateway starts.
//!
//! First headers are removed, then set, then appended. Where a template names a value that the
//! exchange does not have, nothing is appended, and `set` removes the header: what the client
//! itself sent there must not pass for the gateway's word. The lines of a repeated header are
//! joined with `, `, and white space at the edges of what came out is left away. What cannot stand in a
//! header (a control character in a parameter) makes a request a 400; a response lacks the header then.

mod template;

use std::collections::BTreeMap;

use witgate::prelude::*;
use witgate::{Edit, Field};

use template::{Filled, Template};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of requests, before they go upstream.
    #[serde(default)]
    request: Changes,
    /// Of responses, before they go to the client.
    #[serde(default)]
    response: Changes,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// Headers that get exactly this value.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Headers that get one more value.
    #[serde(default)]
    append: BTreeMap<String, String>,
    /// Headers that are removed; `x-internal-*`: all that begin so.
    #[serde(default)]
    remove: Vec<String>,
}

pub struct HeaderRewrite {
    request: Script<Request>,
    response: Script<Response>,
}

/// The changes of one direction, as a hook needs them.
struct Script<M> {
    remove: Vec<String>,
    /// In lower case.
    remove_prefixes: Vec<String>,
    set: Vec<(String, Template<M>)>,
    append: Vec<(String, Template<M>)>,
}

/// What a script makes of a message.
struct Done {
    edits: Vec<Edit>,
    /// Every value that was there could be set.
    fits: bool,
}

/// Edits of one verdict that a gateway takes: a prefix may have it remove more than that.
const EDITS_MAX: usize = 256;

impl Policy for HeaderRewrite {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        for (direction, changes) in [("request", &config.request), ("response", &config.response)] {
            changes.check().map_err(|error| format!("{direction}.{error}"))?;
            plan.write(changes.names());
        }
        let request = Script::new(config.request, |name| plan.read(name));
        let request = request.map_err(|error| format!("request.{error}"))?;
        let response = Script::new(config.response, |name| plan.read_of_response(name));
        let response = response.map_err(|error| format!("response.{error}"))?;
        if request.is_empty() && response.is_empty() {
            return Err("there is nothing to change".into());
        }
        Ok(HeaderRewrite { request, response })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        let Done { edits, fits } = self.request.run(|read| request.get(read), || request.headers());
        Ok(match fits {
            false => Reply::problem(400, "A value of the request cannot stand in a header field").into(),
            true if edits.len() > EDITS_MAX => Reply::problem(431, "Too many header fields").into(),
            true => edits.into(),
        })
    }

    fn on_response(&self, response: &Response) -> Result<Verdict, String> {
        let Done { edits, .. } = self.response.run(|read| response.get(read), || response.headers());
        Ok(match edits.len() > EDITS_MAX {
            true => Reply::problem(502, "The response has too many header fields").into(),
            false => edits.into(),
        })
    }
}

witgate::policy!(HeaderRewrite);

impl Changes {
    fn check(&self) -> Result<(), String> {
        let lists = [("set", self.set.keys()), ("append", self.append.keys())];
        let removed = self.remove.iter().map(|name| ("remove", name.strip_suffix('*').unwrap_or(name)));
        let written =
            lists.into_iter().flat_map(|(list, names)| names.map(move |name| (list, name.as_str())));
        for (list, name) in written.chain(removed) {
            if !witgate::is_header(name) || name.contains('*') {
                return Err(format!("{list}: `{name}` is no header name"));
            }
            if witgate::is_framing(name) {
                return Err(format!("{list}: `{name}` is the gateway's own"));
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.set.keys().chain(self.append.keys()).chain(&self.remove)
    }
}

impl<M> Script<M>
where
    Read<M>: Field<M>,
{
    fn new(changes: Changes, mut read: impl FnMut(String) -> Read<M>) -> Result<Self, String> {
        let mut compile = |list: &str, templates: BTreeMap<String, String>| {
            let mut compiled = Vec::with_capacity(templates.len());
            for (name, text) in templates {
                let template =
                    Template::parse(&text, &mut read).map_err(|error| format!("{list}[{name}]: {error}"))?;
                compiled.push((name, template));
            }
            Ok::<_, String>(compiled)
        };
        let (set, append) = (compile("set", changes.set)?, compile("append", changes.append)?);
        let (prefixes, remove): (Vec<String>, Vec<String>) =
            changes.remove.into_iter().partition(|name| name.ends_with('*'));
        if !prefixes.is_empty() {
            read("headers:*".into());
        }
        let lower = |prefix: String| prefix.trim_end_matches('*').to_ascii_lowercase();
        let remove_prefixes = prefixes.into_iter().map(lower).collect();
        Ok(Script { remove, remove_prefixes, set, append })
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty()
            && self.remove_prefixes.is_empty()
            && self.set.is_empty()
            && self.append.is_empty()
    }

    fn run<'a>(
        &self,
        get: impl Fn(Read<M>) -> Option<&'a str>,
        headers: impl Fn() -> Vec<(String, String)>,
    ) -> Done {
        let mut fits = true;
        let mut edits = Vec::with_capacity(self.remove.len() + self.set.len() + self.append.len());
        edits.extend(self.remove.iter().cloned().map(Edit::Remove));
        if !self.remove_prefixes.is_empty() {
            let mut names: Vec<String> =
                headers().into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
            names.retain(|name| self.remove_prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())));
            names.retain(|name| !witgate::is_framing(name));
            names.sort_unstable();
            names.dedup();
            edits.extend(names.into_iter().map(Edit::Remove));
        }
        for (name, template) in &self.set {
            edits.push(match template.fill(&get) {
                Filled::Value(value) => Edit::Set((name.clone(), value)),
                Filled::Absent => Edit::Remove(name.clone()),
                Filled::Unfit => {
                    fits = false;
                    Edit::Remove(name.clone())
                }
            });
        }
        for (name, template) in &self.append {
            match template.fill(&get) {
                Filled::Value(value) => edits.push(Edit::Append((name.clone(), value))),
                Filled::Absent => {}
                Filled::Unfit => fits = false,
            }
        }
        Done { edits, fits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use witgate::testing::{self, Harness};

    fn rewrite(config: Value) -> Harness<HeaderRewrite> {
        testing::policy(config).expect("configured")
    }

    #[test]
    fn requests() {
        let policy = rewrite(json!({ "request": {
            "set": { "x-client": "ip={client:ip}", "x-user": "{claim:sub}" },
            "append": { "x-via": "{{gate}} {param:id}" },
            "remove": ["x-debug"],
        } }));
        let verdict = policy.request([("client:ip", "192.0.2.1"), ("claim:sub", "ada"), ("param:id", "7")]);
        let expected = Verdict::proceed()
            .remove("x-debug")
            .set("x-client", "ip=192.0.2.1")
            .set("x-user", "ada")
            .append("x-via", "{gate} 7");
        assert_eq!(verdict, expected);
        assert_eq!(policy.response([]), Verdict::Proceed);
    }

    #[test]
    fn an_absent_value_leaves_no_room_for_the_clients() {
        let policy = rewrite(json!({ "request": {
            "set": { "x-user": "{claim:sub}" }, "append": { "x-via": "{param:id}" },
        } }));
        assert_eq!(policy.request([("x-user", "root")]), Verdict::proceed().remove("x-user"));
    }

    #[test]
    fn texts_and_braces() {
        let value = |template: &str| {
            let policy = rewrite(json!({ "request": { "set": { "x": template } } }));
            policy
                .request([("client:ip", "::1"), ("accept", "a"), ("accept", "b")])
                .written("x")
                .map(String::from)
        };
        assert_eq!(value("").as_deref(), Some(""));
        assert_eq!(value("{client:ip}{{{client:ip}}}").as_deref(), Some("::1{::1}"));
        assert_eq!(value("é {accept}").as_deref(), Some("é a, b"));
        assert_eq!(value("{client:ip}{param:id}"), None);
    }

    #[test]
    fn responses() {
        let policy = rewrite(json!({ "response": {
            "set": { "x-for": "{request-header:accept} {:status}" }, "remove": ["Server"],
        } }));
        policy.request([("accept", "a"), ("accept", "b")]);
        let verdict = policy.response([(":status", "200")]);
        assert_eq!(verdict, Verdict::proceed().remove("Server").set("x-for", "a, b 200"));
    }

    #[test]
    fn prefixes() {
        let policy = rewrite(json!({ "request": { "remove": ["X-Internal-*"] } }));
        let request =
            [("x-internal-a", "1"), ("X-INTERNAL-B", "2"), ("x-internal-a", "3"), ("x-intern", "4")];
        assert_eq!(policy.request(request), Verdict::proceed().remove("x-internal-a").remove("x-internal-b"));
        assert_eq!(policy.request([("accept", "x")]), Verdict::Proceed);
        assert_eq!(policy.plan().request_reads, ["headers:*"]);
        assert_eq!(policy.plan().writes, ["X-Internal-*"]);
    }

    #[test]
    fn prefixes_beside_values() {
        let policy = rewrite(json!({ "response": {
            "remove": ["x-internal-*"], "set": { "x-was": "{:status}" },
        } }));
        policy.request([]);
        let verdict = policy.response([(":status", "200"), ("x-internal-a", "1")]);
        assert_eq!(verdict, Verdict::proceed().remove("x-internal-a").set("x-was", "200"));
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_the_clients_mistake() {
        for list in ["set", "append"] {
            let policy = rewrite(json!({
                "request": { list: { "x-q": "{query:q}" } },
                "response": { list: { "x-q": "{query:q}" }, "remove": ["server"] },
            }));
            for bad in ["a\r\nx: y", "\r", "\n", "\0", "\u{7f}", &"a".repeat((64 << 10) + 1)] {
                assert_eq!(policy.request([("query:q", bad)]).status(), Some(400), "{list} {bad:?}");
                let expected = Verdict::proceed().remove("server");
                let expected = if list == "set" { expected.remove("x-q") } else { expected };
                assert_eq!(policy.response([]), expected, "{list} {bad:?}");
            }
            for (edged, value) in [(" a b\t", "a b"), (" ", ""), ("a\tb", "a\tb")] {
                assert_eq!(policy.request([("query:q", edged)]).written("x-q"), Some(value), "{edged:?}");
                assert_eq!(policy.response([]).written("x-q"), Some(value), "{edged:?}");
            }
        }
    }

    #[test]
    fn prefixes_of_many_fields_and_of_the_gateways_own() {
        let policy =
            rewrite(json!({ "request": { "remove": ["x-*", "tr*"] }, "response": { "remove": ["x-*"] } }));
        let names: Vec<String> = (0..257).map(|index| format!("x-{index}")).collect();
        let fields = |count: usize| names[..count].iter().map(|name| (name.as_str(), "1"));
        assert_eq!(policy.request(fields(257)).status(), Some(431));
        assert_eq!(policy.response(fields(257)).status(), Some(502));
        assert_eq!(policy.request(fields(256)).edits().len(), 256);
        assert_eq!(policy.request([("trailer", "x"), ("transfer-encoding", "chunked")]), Verdict::Proceed);
    }

    #[test]
    fn mistakes() {
        let check = |config: Value, expected: &str| {
            let error = testing::policy::<HeaderRewrite>(config.clone()).err().unwrap_or_default();
            assert!(error.contains(expected), "{config}: {error}");
        };
        let set = |template: &str| json!({ "request": { "set": { "x": template } } });
        check(json!({}), "nothing to change");
        check(set("{client:port}"), "request.set[x]: no value is named `client:port`");
        check(set("{}"), "no value is named ``");
        check(set("{client:ip"), "not closed");
        check(set("a}"), "not opened");
        check(set("a\r\nb: c"), "line break");
        check(json!({ "request": { "set": { "x y": "1" } } }), "set: `x y` is no header name");
        check(json!({ "response": { "remove": ["*"] } }), "response.remove: `` is no header name");
        check(json!({ "response": { "remove": ["a*b"] } }), "no header name");
        check(json!({ "request": { "set": { "Host": "x" } } }), "`Host` is the gateway's own");
        check(json!({ "request": { "remove": ["content-length"] } }), "the gateway's own");
        check(json!({ "request": { "add": {} } }), "unknown field `add`");
    }
}
