//! Verifies JSON Web Tokens (RFC 7519) that bear a signature (HS, RS, PS, ES, EdDSA).
//!
//! ```yaml
//! plugin: jwt
//! config:
//!   jwks_url: https://id.example.com/jwks.json   # or jwks, jwks_file, public_key, secret
//!   issuer: https://id.example.com
//!   audience: api
//!   required_claims: [sub]
//!   claims_to_headers: { sub: x-user, scope: x-scope }
//!   consumer_claim: client_id
//! ```
//!
//! The token is the bearer of `Authorization`, or where `token` says. `exp` and `nbf` count, with
//! `leeway`; a token without `exp` is refused, unless `require_exp: false`. Later policies of the
//! request can read `claim:NAME`.
//!
//! The headers of `claims_to_headers` are this policy's: what the client sent in them is removed
//! first, also when there is no token or no such claim. Strings are written as they are, but for white
//! space at their edges, all else as JSON. A claim that cannot be a header (a line break) makes the token
//! invalid.
//!
//! `consumer_claim` names the claim that holds the consumer's name; one whom the gateway does not
//! know, or who is not subscribed to the API, gets 403, and 429 where the quota is used up.
//!
//! 401 with a challenge (RFC 6750): no token, or one that does not verify; repeated `Authorization`
//! lines are no token. With `optional: true` a request without a token goes on unnamed; a bad token
//! is refused all the same, and so is whatever was meant as one: credentials with the word `bearer`
//! that are not the scheme, spaces and one token; a parameter that is there twice. 503: there are no
//! keys to verify with, for now. `forward: false` keeps the token from the upstream.

mod claims;
mod config;

use witgate::consumers::{self, Refusal};
use witgate::prelude::*;
use witgate::token::{TokenFault, Verifier};
use witgate::uri;

use claims::Wanted;
use config::Found;
pub use config::{Config, Source};

pub struct Jwt {
    verifier: Verifier,
    source: Source,
    token: Read,
    /// What the token is one value of, and cut out of if it is not passed on; none for a header.
    around: Option<Read>,
    forward: bool,
    optional: bool,
    wanted: Wanted,
    /// The header of each wanted claim; none for one that only names the consumer.
    headers: Vec<Option<String>>,
    /// The index of the wanted claim that names the consumer.
    consumer: Option<usize>,
}

impl Policy for Jwt {
    type Config = Config;

    fn configure(config: Config, plan: &mut Plan) -> Result<Self, String> {
        let verifier = Verifier::new(&config.rules()?)?;
        let source = config.source()?;
        let Config { forward, optional, claims_to_headers, consumer_claim, .. } = config;

        let token = plan.read(match &source {
            Source::Header(name) => name.clone(),
            Source::Cookie(name) => format!("cookie:{name}"),
            Source::Query(name) => format!("query:{name}"),
        });
        let around = match &source {
            Source::Header(_) => None,
            Source::Cookie(_) => (optional || !forward).then(|| plan.read("cookie")),
            Source::Query(_) => Some(plan.read(":query")),
        };
        if !forward {
            match &source {
                Source::Header(name) => plan.write([name.as_str()]),
                Source::Cookie(_) => plan.write(["cookie"]),
                Source::Query(_) => plan.write([":query"]),
            };
        }

        let mut names = Vec::new();
        let mut headers = Vec::new();
        for (claim, header) in claims_to_headers {
            plan.write([&header]);
            names.push(claim);
            headers.push(Some(header));
        }
        let consumer = consumer_claim.map(|claim| {
            names.iter().position(|name| *name == claim).unwrap_or_else(|| {
                names.push(claim);
                headers.push(None);
                names.len() - 1
            })
        });
        let wanted = Wanted::new(names);
        Ok(Jwt { verifier, source, token, around, forward, optional, wanted, headers, consumer })
    }

    fn on_request(&self, request: &Request) -> Result<Verdict, String> {
        if self
            .around
            .and_then(|around| request.get(around))
            .is_some_and(|text| text.len() > AROUND_BYTES_MAX)
        {
            return Ok(too_long().into());
        }
        let found = match request.one(self.token) {
            Ok(Some(value)) => self.source.token(value),
            Ok(None) => Found::Nothing,
            Err(_) => return Ok(unauthorized(INVALID_REQUEST, REPEATED).into()),
        };
        let sent = self.sent(request);
        match found {
            Found::Token(_) if sent > 1 && matches!(self.source, Source::Query(_)) => {
                Ok(unauthorized(INVALID_REQUEST, REPEATED).into())
            }
            Found::Token(token) => Ok(self.judge(token, request)),
            Found::Nothing if sent == 0 && self.optional => Ok(self.unnamed()),
            Found::Nothing if sent == 0 => {
                Ok(Reply::problem(401, "A token is missing").header(CHALLENGE, "Bearer").into())
            }
            Found::Nothing | Found::Malformed => Ok(refuse(TokenFault::Malformed).into()),
        }
    }
}

witgate::policy!(Jwt: on_request);

/// Bytes of what a token is cut out of: of more there would be more left than a field may hold, and a
/// call has its time.
const AROUND_BYTES_MAX: usize = 80 << 10;

const CHALLENGE: &str = "www-authenticate";
const INVALID_REQUEST: &str = "invalid_request";
const INVALID_TOKEN: &str = "invalid_token";
const REPEATED: &str = "the token was sent more than once";

impl Jwt {
    /// How many values stand in the query or in the cookies under the token's name, in whatever
    /// spelling: an upstream may take another one than the gateway did.
    fn sent(&self, request: &Request) -> usize {
        let text = self.around.and_then(|around| request.get(around)).unwrap_or("");
        match &self.source {
            Source::Header(_) => 0,
            Source::Cookie(name) => uri::cookie_values(text, name).filter(|value| !value.is_empty()).count(),
            Source::Query(name) => uri::query_values(text, name).filter(|value| !value.is_empty()).count(),
        }
    }

    fn judge(&self, token: &str, request: &Request) -> Verdict {
        let claims = match self.verifier.verify(token) {
            Ok(claims) => claims,
            Err(fault) => return refuse(fault).into(),
        };
        let mut verdict = Verdict::proceed();
        if !self.headers.is_empty() {
            let Ok(values) = self.wanted.of(&claims) else {
                return unauthorized(INVALID_TOKEN, "the claims are no object").into();
            };
            if let Some(consumer) = self.consumer
                && let Err(reply) = identify(values[consumer].as_deref())
            {
                return reply.into();
            }
            for (header, value) in self.headers.iter().zip(values) {
                let Some(header) = header else { continue };
                verdict = match value {
                    Some(value) => match witgate::field_value(&value) {
                        Some(value) => verdict.set(header, value),
                        None => {
                            return unauthorized(INVALID_TOKEN, "a claim cannot be sent as a header").into();
                        }
                    },
                    None => verdict.remove(header),
                };
            }
        }
        if self.forward { verdict } else { self.cut(verdict, request) }
    }

    /// No token: nothing that a client sent may pass for a claim.
    fn unnamed(&self) -> Verdict {
        self.headers.iter().flatten().fold(Verdict::proceed(), |verdict, header| verdict.remove(header))
    }

    fn cut(&self, verdict: Verdict, request: &Request) -> Verdict {
        let text = self.around.and_then(|around| request.get(around)).unwrap_or("");
        match &self.source {
            Source::Header(name) => verdict.remove(name),
            Source::Cookie(name) => match uri::cookie_without(text, name) {
                Some(rest) if rest.is_empty() => verdict.remove("cookie"),
                Some(rest) if witgate::field_value(&rest).is_none() => too_long().into(),
                Some(rest) => verdict.set("cookie", rest),
                None => verdict,
            },
            Source::Query(name) => match uri::query_without(text, name) {
                Some(rest) => verdict.set(":query", rest),
                None => verdict,
            },
        }
    }
}

fn too_long() -> Reply {
    Reply::problem(431, "The cookies are too long")
}

fn identify(name: Option<&str>) -> Result<(), Reply> {
    let refusal = match name.filter(|name| !name.is_empty()).map(consumers::identify_by_name) {
        Some(Ok(_)) => return Ok(()),
        Some(Err(refusal)) => refusal,
        None => Refusal::Unknown,
    };
    let (status, title) = match refusal {
        Refusal::Unknown => (403, "The token names no known consumer"),
        Refusal::Suspended => (403, "The subscription is suspended"),
        Refusal::Expired => (403, "The subscription has expired"),
        Refusal::NotSubscribed => (403, "The subscription does not include this API"),
        Refusal::QuotaExceeded => (429, "The quota of the subscription is used up"),
    };
    let reply = Reply::problem(status, title);
    Err(match refusal {
        Refusal::QuotaExceeded => reply.retry_after(consumers::retry_after()),
        _ => reply,
    })
}

fn refuse(fault: TokenFault) -> Reply {
    let why = match fault {
        TokenFault::KeysUnavailable => {
            let detail = "the keys that tokens are verified with are not available";
            return Reply::problem(503, "Tokens cannot be verified now").detail(detail).retry_after(5);
        }
        TokenFault::Malformed => "the token is malformed",
        TokenFault::UnknownKey => "the token is signed with an unknown key",
        TokenFault::BadSignature => "the signature is wrong",
        TokenFault::Expired => "the token has expired",
        TokenFault::NotYetValid => "the token is not valid yet",
        TokenFault::BadIssuer => "the issuer is not accepted",
        TokenFault::BadAudience => "the token is meant for others",
        TokenFault::MissingClaim => "a required claim is missing",
        TokenFault::AlgorithmRefused => "the algorithm is not accepted",
    };
    unauthorized(INVALID_TOKEN, why)
}

/// `why`: without quotes and backslashes, which the challenge would have to escape.
fn unauthorized(error: &str, why: &str) -> Reply {
    let challenge = format!("Bearer error=\"{error}\", error_description=\"{why}\"");
    Reply::problem(401, "The token is not valid").detail(why).header(CHALLENGE, challenge)
}

#[cfg(test)]
mod tests;
