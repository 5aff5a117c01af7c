//! Asks several upstreams at once and merges their answers into one JSON document.
//!
//! ```yaml
//! plugin: aggregate
//! config:
//!   parts:
//!     employee: { upstream: employees, path: "/api/employee/{param:id}" }
//!     flights: { upstream: flights, path: "/api/flight?pilot={param:id}", timeout: 2s, optional: true }
//!   pass_headers: [authorization, accept-language]
//!   max_bytes: 524288
//! ```
//!
//! gives `{"employee":…,"flights":…}`, each answer byte for byte as the upstream wrote it. All parts
//! are asked at the same time. Names in braces are values of the request; they are percent-encoded,
//! except `{:query}` (after a `?`), the request's own query. A value that would lead to another
//! place (`..`, or none at all where the path needs one) is not sent anywhere: 400.
//!
//! A part fails when its upstream cannot be asked, is late, answers other than 2xx, or not in JSON,
//! or when it does not fit: all answers together may have `max_bytes`, those that must be there first.
//! If it is `optional` the document has `null` there, the reason under `errors` (`errors_member`
//! names it otherwise), and the response its name in `x-partial`. If not, the answer is a 502 that
//! names the part. Only GET and HEAD are answered.

mod config;
mod path;

use witgate::http::{self, Fetch, FetchError, FetchResponse};
use witgate::prelude::*;

pub use config::Config;
use path::Path;

pub struct Aggregate {
    parts: Vec<Part>,
    /// Headers of the client that all parts get.
    passed: Vec<(String, Read)>,
    method: Read,
    errors_member: String,
    /// Of all answers together.
    bytes_max: usize,
}

struct Part {
    name: String,
    /// Without path and passed headers.
    fetch: Fetch,
    path: Path,
    /// The names of its own headers, in lower case: these are not passed.
    own_headers: Vec<String>,
    optional: bool,
}

impl Policy for Aggregate {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        config.check()?;
        let passed = config.pass_headers.into_iter().map(|name| (name.to_ascii_lowercase(), plan.read(name)));
        let passed = passed.collect();
        let mut parts = Vec::with_capacity(config.parts.len());
        for (name, part) in config.parts {
            let path =
                Path::parse(&part.path, plan).map_err(|error| format!("parts.{name}.path: {error}"))?;
            let mut fetch = Fetch::new(part.method, part.upstream, "");
            if let Some(timeout) = part.timeout {
                fetch = fetch.timeout(timeout.duration());
            }
            let own_headers = part.headers.keys().map(|name| name.to_ascii_lowercase()).collect();
            for (header, value) in part.headers {
                fetch = fetch.header(header, value);
            }
            parts.push(Part { name, fetch, path, own_headers, optional: part.optional });
        }
        Ok(Aggregate {
            parts,
            passed,
            method: plan.read(":method"),
            errors_member: config.errors_member,
            bytes_max: config.max_bytes as usize,
        })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        if !matches!(request.get(self.method), Some("GET" | "HEAD")) {
            return Ok(Reply::problem(405, "Only GET is answered here").header("allow", "GET, HEAD").into());
        }
        let mut fetches = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match self.fetch(part, request) {
                Ok(fetch) => fetches.push(fetch),
                Err(why) => {
                    let reply = Reply::problem(400, "The request cannot be passed on").detail(&why);
                    return Ok(reply.member("part", &part.name).into());
                }
            }
        }
        self.merge(&http::fetch_all(fetches)).map(Verdict::from)
    }
}

witgate::policy!(Aggregate: on_request);

impl Aggregate {
    fn fetch(&self, part: &Part, request: &Request) -> Result<Fetch, String> {
        let mut fetch = part.fetch.clone().path(part.path.fill(request)?);
        for (name, read) in &self.passed {
            if !part.own_headers.contains(name) {
                for line in request.lines(*read) {
                    fetch = fetch.header(name, line);
                }
            }
        }
        Ok(fetch)
    }

    /// An `Err` is a mistake of the operator's, not of the upstream's.
    fn merge(&self, answers: &[Result<FetchResponse, FetchError>]) -> Result<Reply, String> {
        let mut documents = vec![""; self.parts.len()];
        let mut failed = vec![None; self.parts.len()];
        let mut bytes_left = self.bytes_max;
        // Those that must be there first: an optional part takes no room from them.
        for optional in [false, true] {
            for (index, (part, answer)) in self.parts.iter().zip(answers).enumerate() {
                if part.optional != optional {
                    continue;
                }
                match json_of(answer, &mut bytes_left) {
                    Ok(json) => documents[index] = json,
                    Err(Failure::NotGranted) => {
                        return Err(format!("the upstream of the part `{}` is not granted", part.name));
                    }
                    Err(Failure::Other(why)) if optional => {
                        documents[index] = "null";
                        failed[index] = Some(why);
                    }
                    Err(Failure::Other(why)) => {
                        let reply = Reply::problem(502, "A part of the answer is missing").detail(&why);
                        return Ok(reply.member("part", &part.name));
                    }
                }
            }
        }
        let names = || self.parts.iter().map(|part| part.name.as_str());
        let mut members: Vec<(&str, &str)> = names().zip(documents).collect();
        let mut reply = Reply::new(200).header("content-type", "application/json");
        let failed: Vec<(&str, String)> =
            names().zip(failed).filter_map(|(name, why)| Some((name, format!("\"{}\"", why?)))).collect();
        let errors;
        if !failed.is_empty() {
            let partial: Vec<&str> = failed.iter().map(|(name, _)| *name).collect();
            reply = reply.header("x-partial", partial.join(", "));
            let reasons: Vec<(&str, &str)> = failed.iter().map(|(name, why)| (*name, why.as_str())).collect();
            errors = object(&reasons);
            members.push((&self.errors_member, &errors));
        }
        Ok(reply.body(object(&members)))
    }
}

/// An object of members that are JSON already. Their names are tokens, and reasons are texts of this
/// file: nothing in them needs to be escaped.
fn object(members: &[(&str, &str)]) -> String {
    // Exactly so much: a document that had to grow would be there twice.
    let bytes = members.iter().map(|(name, json)| name.len() + json.len() + 4).sum::<usize>() + 1;
    let mut object = String::with_capacity(bytes);
    object.push('{');
    for (index, (name, json)) in members.iter().enumerate() {
        if index > 0 {
            object.push(',');
        }
        for piece in ["\"", name, "\":", json] {
            object.push_str(piece);
        }
    }
    object.push('}');
    object
}

enum Failure {
    /// The operator did not grant the upstream.
    NotGranted,
    /// For the client: without addresses, quotes and backslashes.
    Other(String),
}

/// The answer's own text, known to be one JSON value, if there is room for it.
fn json_of<'a>(
    answer: &'a Result<FetchResponse, FetchError>,
    bytes_left: &mut usize,
) -> Result<&'a str, Failure> {
    const TOO_LARGE: &str = "the answer is too large";
    let why = match answer {
        Ok(answer) if answer.is_success() && answer.body.len() > *bytes_left => TOO_LARGE.into(),
        Ok(answer) if answer.is_success() => match std::str::from_utf8(&answer.body) {
            Ok(text) if serde_json::from_str::<witgate::serde::de::IgnoredAny>(text).is_ok() => {
                *bytes_left -= text.len();
                return Ok(text.trim_ascii());
            }
            _ => "the answer is not JSON".into(),
        },
        Ok(answer) => format!("the answer has status {}", answer.status),
        Err(FetchError::NotGranted) => return Err(Failure::NotGranted),
        Err(FetchError::Timeout) => "the answer is late".into(),
        Err(FetchError::NoHealthyEndpoint | FetchError::Connect) => "the service cannot be reached".into(),
        Err(FetchError::TooLarge) => TOO_LARGE.into(),
        Err(FetchError::Protocol) => "the answer is broken".into(),
    };
    Err(Failure::Other(why))
}

#[cfg(test)]
mod tests;
