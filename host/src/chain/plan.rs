//! A policy's plan, made ready: names parsed once, so that hooks cost no parsing.
//!
//! `compile` makes it from `plugin::plan::Plan`; `values` reads by it, `edit` permits by it. A
//! name that nobody knows refuses the configuration here.

use http::HeaderName;
use std::collections::BTreeSet;

/// When a hook runs, which decides what there is to read and to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Request,
    Response,
    Log,
}

/// One value that a hook is handed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Of the message in hand.
    Header(HeaderName),
    RequestHeader(HeaderName),
    Trailer(HeaderName),
    Method,
    Scheme,
    Authority,
    Path,
    Query,
    Status,
    ClientIp,
    CertificateSubject,
    CertificateFingerprint,
    ServerName,
    RequestId,
    Api,
    Operation,
    Consumer,
    Product,
    Parameter(Box<str>),
    QueryValue(Box<str>),
    Cookie(Box<str>),
    Claim(Box<str>),
    Context(Box<str>),
    TimeStart,
    TimeTotal,
    TimeUpstream,
    BytesIn,
    BytesOut,
    AnsweredBy,
    AnsweredWhy,
    Note,
}

/// The reads of one hook, in the plan's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    pub list: Box<[Read]>,
    /// The plan has `headers:*`: the guest may ask for all of them.
    pub all_headers: bool,
}

impl Reads {
    /// Whether, after the request was sent on, something of its fields is still read.
    pub fn recalls(&self) -> bool {
        self.list.iter().any(|read| matches!(read, Read::RequestHeader(_) | Read::Cookie(_)))
    }

    /// # Errors
    /// The first name that cannot be read at this moment, and why.
    pub fn parse(names: &[String], moment: Moment) -> Result<Reads, String> {
        let mut reads = Vec::with_capacity(names.len());
        let mut all_headers = false;
        for name in names {
            if name == "headers:*" {
                all_headers = true;
            } else {
                reads.push(read(name, moment)?);
            }
        }
        Ok(Reads { list: reads.into(), all_headers })
    }
}

fn read(name: &str, moment: Moment) -> Result<Read, String> {
    let header = |text: &str| {
        HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("`{name}` is nothing that can be read"))
    };
    if let Some((kind, rest)) = name.split_once(':').filter(|(kind, _)| !kind.is_empty()) {
        let some = |make: fn(Box<str>) -> Read| match rest {
            "" => Err(format!("`{name}` lacks a name after the colon")),
            rest => Ok(make(rest.into())),
        };
        let log_only = |read: Read| match moment {
            Moment::Log => Ok(read),
            _ => Err(format!("`{name}` can be read by `on-log` only")),
        };
        return match (kind, rest) {
            ("client", "ip") => Ok(Read::ClientIp),
            ("client", "cert-subject") => Ok(Read::CertificateSubject),
            ("client", "cert-fingerprint") => Ok(Read::CertificateFingerprint),
            ("tls", "sni") => Ok(Read::ServerName),
            ("request", "id") => Ok(Read::RequestId),
            ("api", "name") => Ok(Read::Api),
            ("operation", "name") => Ok(Read::Operation),
            ("consumer", "name") => Ok(Read::Consumer),
            ("product", "name") => Ok(Read::Product),
            ("param", _) => some(Read::Parameter),
            ("query", _) => some(Read::QueryValue),
            ("cookie", _) => some(Read::Cookie),
            ("claim", _) => some(Read::Claim),
            ("context", _) => some(Read::Context),
            ("request-header", rest) if moment != Moment::Request => Ok(Read::RequestHeader(header(rest)?)),
            ("request-header", _) => Err(format!("`{name}` is for later hooks; here it is `{rest}`")),
            ("trailer", rest) if moment == Moment::Log => Ok(Read::Trailer(header(rest)?)),
            ("trailer", _) => Err(format!("`{name}` can be read by `on-log` only: before, none has arrived")),
            ("time", "start") => log_only(Read::TimeStart),
            ("time", "total-micros") => log_only(Read::TimeTotal),
            ("time", "upstream-micros") => log_only(Read::TimeUpstream),
            ("bytes", "in") => log_only(Read::BytesIn),
            ("bytes", "out") => log_only(Read::BytesOut),
            ("answered", "by") => log_only(Read::AnsweredBy),
            ("answered", "why") => log_only(Read::AnsweredWhy),
            _ => Err(format!("`{name}` is nothing that can be read")),
        };
    }
    match name {
        ":method" => Ok(Read::Method),
        ":scheme" => Ok(Read::Scheme),
        ":authority" => Ok(Read::Authority),
        ":path" => Ok(Read::Path),
        ":query" => Ok(Read::Query),
        ":status" if moment != Moment::Request => Ok(Read::Status),
        ":status" => Err("`:status` cannot be read before there is a response".into()),
        ":note" if moment == Moment::Log => Ok(Read::Note),
        ":note" => Err("`:note` can be read by `on-log` only; `on-response` is handed it".into()),
        name => Ok(Read::Header(header(name)?)),
    }
}

/// What a policy's edits may touch: its plan, within the operator's grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Parsed once, so that an edit of one of them need not be; never one that frames a message.
    headers: Vec<HeaderName>,
    prefixes: Vec<String>,
    context: BTreeSet<String>,
    pub method: bool,
    pub path: bool,
    pub query: bool,
    pub authority: bool,
    pub status: bool,
    pub upstream: bool,
    pub consumer: bool,
    /// Upstreams that the policy may choose.
    pub upstreams: BTreeSet<String>,
}

/// Fields that frame a message or route it: nobody but the gateway sets them.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub fn is_framing(name: &str) -> bool {
    FRAMING.contains(&name)
}

impl Writes {
    /// Parses a plan's `writes` and caps them by the operator's grant, if there is one.
    ///
    /// # Errors
    /// The first name that cannot be written, or is not granted.
    pub fn parse(names: &[String], granted: Option<&BTreeSet<String>>) -> Result<Writes, String> {
        let cap = granted.map(|names| Writes::list(names.iter().map(String::as_str))).transpose()?;
        let writes = Writes::list(names.iter().map(String::as_str))?;
        if let Some(cap) = cap {
            for name in names {
                if !cap.covers(name) {
                    return Err(format!("it wants to write `{name}`, which `allow.writes` does not grant"));
                }
            }
        }
        Ok(writes)
    }

    fn list<'a>(names: impl Iterator<Item = &'a str>) -> Result<Writes, String> {
        let mut writes = Writes::default();
        for name in names {
            match name {
                ":method" => writes.method = true,
                ":path" => writes.path = true,
                ":query" => writes.query = true,
                ":authority" => writes.authority = true,
                ":status" => writes.status = true,
                "upstream:name" => writes.upstream = true,
                "consumer:name" => writes.consumer = true,
                name if name.starts_with("context:") && name.len() > 8 => {
                    writes.context.insert(name[8..].to_string());
                }
                name => {
                    let header = name.to_ascii_lowercase();
                    match header.strip_suffix('*') {
                        _ if is_framing(&header) => {
                            return Err(format!(
                                "`{name}` frames the message and cannot be written by a policy"
                            ));
                        }
                        Some(prefix) if !prefix.is_empty() && is_token(prefix) => {
                            writes.prefixes.push(prefix.to_string());
                        }
                        None if let Ok(header) = HeaderName::from_bytes(header.as_bytes()) => {
                            writes.headers.push(header);
                        }
                        _ => return Err(format!("`{name}` is nothing that can be written")),
                    }
                }
            }
        }
        Ok(writes)
    }

    /// The same, with the upstreams that `upstream:name` may be.
    pub fn among(self, upstreams: &BTreeSet<String>) -> Writes {
        Writes { upstreams: upstreams.clone(), ..self }
    }

    /// Whether everything that `name` stands for is among these.
    fn covers(&self, name: &str) -> bool {
        match name {
            ":method" => self.method,
            ":path" => self.path,
            ":query" => self.query,
            ":authority" => self.authority,
            ":status" => self.status,
            "upstream:name" => self.upstream,
            "consumer:name" => self.consumer,
            name => {
                let header = name.to_ascii_lowercase();
                match (name.strip_prefix("context:"), header.strip_suffix('*')) {
                    (Some(context), _) => self.context(context),
                    (None, Some(prefix)) => {
                        self.prefixes.iter().any(|granted| prefix.starts_with(granted.as_str()))
                    }
                    (None, None) => self.header(&header),
                }
            }
        }
    }

    /// Whether a header of this (lower-case) name may be touched.
    pub fn header(&self, name: &str) -> bool {
        !is_framing(name)
            && (self.declared(name).is_some()
                || self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())))
    }

    /// The header of exactly this (lower-case) name, if the plan names it.
    #[inline]
    pub fn declared(&self, name: &str) -> Option<&HeaderName> {
        self.headers.iter().find(|header| header.as_str() == name)
    }

    pub fn context(&self, name: &str) -> bool {
        self.context.contains(name)
    }

    /// Names among these that `other` does not cover, for the comparison of an upgraded plugin
    /// with the one that it replaces.
    pub fn beyond<'a>(names: &'a [String], other: &[String]) -> Vec<&'a str> {
        let Ok(other) = Writes::list(other.iter().map(String::as_str)) else { return Vec::new() };
        names.iter().map(String::as_str).filter(|name| !other.covers(name)).collect()
    }
}

fn is_token(name: &str) -> bool {
    HeaderName::from_bytes(name.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_of_every_kind() {
        let reads =
            Reads::parse(&names(&["x-a", ":path", "client:ip", "param:Id", "headers:*"]), Moment::Request);
        let reads = reads.unwrap();
        assert!(reads.all_headers);
        assert_eq!(reads.list.len(), 4);
        assert_eq!(reads.list[3], Read::Parameter("Id".into()));
    }

    #[test]
    fn reads_of_the_requests_own_fields_are_known() {
        for (name, recalls) in [
            ("request-header:accept", true),
            ("cookie:session", true),
            ("accept", false),
            (":path", false),
            ("query:a", false),
            ("headers:*", false),
        ] {
            for moment in [Moment::Response, Moment::Log] {
                let reads = Reads::parse(&names(&[":method", name]), moment).unwrap();
                assert_eq!(reads.recalls(), recalls, "{name} {moment:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, moment) in [
            (":status", Moment::Request),
            (":note", Moment::Response),
            ("bytes:in", Moment::Response),
            ("request-header:accept", Moment::Request),
            ("param:", Moment::Request),
            ("nope:x", Moment::Request),
            (":nope", Moment::Log),
            ("bad name", Moment::Request),
            ("trailer:x", Moment::Response),
        ] {
            let error = Reads::parse(&names(&[name]), moment).unwrap_err();
            assert!(error.contains(name), "{name}: {error}");
        }
    }

    #[test]
    fn framing_fields_are_never_written() {
        for name in FRAMING {
            assert!(Writes::parse(&names(&[name]), None).is_err(), "{name}");
        }
        let writes = Writes::parse(&names(&["c*", "t*", "x-*"]), None).unwrap();
        assert!(!writes.header("content-length") && !writes.header("te") && writes.header("content-type"));
    }

    #[test]
    fn grants_cap_writes() {
        let grant = |list: &[&str]| names(list).into_iter().collect::<BTreeSet<_>>();
        let cases: &[(&[&str], &[&str], bool)] = &[
            (&["x-user"], &["x-user"], true),
            (&["x-user"], &["x-*"], true),
            (&["x-user-*"], &["x-*"], true),
            (&["X-User", "X-Role-*"], &["x-user", "X-*"], true),
            (&["x-*"], &["x-user"], false),
            (&[":path"], &["x-*"], false),
            (&["context:a"], &["context:a"], true),
            (&["context:b"], &["context:a"], false),
            (&[], &[], true),
        ];
        for (plan, granted, fits) in cases {
            let result = Writes::parse(&names(plan), Some(&grant(granted)));
            assert_eq!(result.is_ok(), *fits, "{plan:?} within {granted:?}: {result:?}");
        }
    }
}
