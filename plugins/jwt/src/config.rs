//! The configuration, and what follows from it: rules for the host's verifier, the token's place.

use std::collections::BTreeMap;

use serde_json::Value;
use witgate::prelude::*;
use witgate::setting::{OneOrMany, Period};
use witgate::token::{KeySource, Rules};

const EXP: &str = "exp";

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Keys, as a JWKS document: inline, as an object or as text.
    jwks: Option<Value>,
    /// Keys: a JWKS file, which is watched.
    jwks_file: Option<String>,
    /// Keys: where the gateway fetches a JWKS document, and fetches it again when keys rotate.
    jwks_url: Option<String>,
    /// Keys: the name of a secret, for HS256, HS384 and HS512.
    secret: Option<String>,
    /// Keys: a public key (PEM).
    public_key: Option<String>,
    /// Issuers (`iss`) that are accepted; none: any.
    #[serde(default)]
    issuer: OneOrMany,
    /// Audiences (`aud`), one of which the token must name; none: any.
    #[serde(default)]
    audience: OneOrMany,
    /// Algorithms that are accepted; none: those that fit the keys. `none` never is.
    #[serde(default)]
    algorithms: Vec<Algorithm>,
    /// How far clocks may be apart, such as `30s`.
    #[serde(default)]
    leeway: Option<Period>,
    /// Claims that the token must have.
    #[serde(default)]
    required_claims: Vec<String>,
    /// Whether the token must say when it expires (`exp`): one that does not is good for ever.
    #[serde(default = "yes")]
    require_exp: bool,
    /// Where the token is; unless told otherwise the bearer of `Authorization`.
    #[serde(default)]
    token: Option<Source>,
    /// Claims that the upstream gets, and the header of each. Clients cannot set those headers.
    #[serde(default)]
    pub(crate) claims_to_headers: BTreeMap<String, String>,
    /// The claim that holds the consumer's name.
    #[serde(default)]
    pub(crate) consumer_claim: Option<String>,
    /// Let requests without a token pass.
    #[serde(default)]
    pub(crate) optional: bool,
    /// Whether the upstream gets the token too.
    #[serde(default = "yes")]
    pub(crate) forward: bool,
}

/// Where the token is.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A header's name. `Bearer` before the token is a must in `Authorization`, else it may be.
    Header(String),
    /// A cookie's name.
    Cookie(String),
    /// A query parameter's name.
    Query(String),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
    Ed25519,
}

impl Config {
    pub(crate) fn rules(&self) -> Result<Rules, String> {
        let jwks = match &self.jwks {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(object @ Value::Object(_)) => Some(object.to_string()),
            Some(_) => return Err("jwks: expected a JWKS document, as an object or as text".into()),
        };
        let keys: Vec<KeySource> = [
            jwks.map(KeySource::Inline),
            self.public_key.clone().map(KeySource::Inline),
            self.jwks_file.clone().map(KeySource::File),
            self.jwks_url.clone().map(KeySource::Url),
            self.secret.clone().map(KeySource::Secret),
        ]
        .into_iter()
        .flatten()
        .collect();
        if keys.is_empty() {
            return Err("there are no keys: expected jwks, jwks_file, jwks_url, public_key or secret".into());
        }
        let leeway_seconds = match self.leeway {
            None => 0,
            Some(leeway) => u32::try_from(leeway.duration().as_millis().div_ceil(1000))
                .map_err(|_| "leeway: that is no leeway any more")?,
        };
        let mut required_claims = self.required_claims.clone();
        if self.require_exp && !required_claims.iter().any(|name| name == EXP) {
            required_claims.push(EXP.into());
        }
        Ok(Rules {
            keys,
            algorithms: self.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect(),
            issuers: self.issuer.as_slice().to_vec(),
            audiences: self.audience.as_slice().to_vec(),
            required_claims,
            leeway_seconds,
        })
    }

    /// Where the token is, once all names are known to be good.
    pub(crate) fn source(&self) -> Result<Source, String> {
        let source = self.token.clone().unwrap_or_else(|| Source::Header("authorization".into()));
        match &source {
            Source::Header(name) if !witgate::is_header(name) => {
                return Err(format!("token.header: `{name}` is no header name"));
            }
            // A token too (RFC 6265 4.1.1); by any other name no cookie would ever be found.
            Source::Cookie(name) if !witgate::is_header(name) => {
                return Err(format!("token.cookie: `{name}` is no cookie name"));
            }
            Source::Query(name) if name.is_empty() => return Err("token: the name is empty".into()),
            _ => {}
        }
        for (claim, header) in &self.claims_to_headers {
            if !witgate::is_header(header) {
                return Err(format!("claims_to_headers: `{header}` is no header name"));
            }
            let twins = self.claims_to_headers.values().filter(|other| other.eq_ignore_ascii_case(header));
            if twins.count() > 1 {
                return Err(format!("claims_to_headers: more than one claim goes to `{header}`"));
            }
            if matches!(&source, Source::Header(name) if name.eq_ignore_ascii_case(header)) {
                return Err(format!("claims_to_headers: `{claim}` would replace the token in `{header}`"));
            }
        }
        Ok(source)
    }
}

/// What the place of the token holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Token(&'a str),
    /// Nothing, or another scheme's credentials.
    Nothing,
    /// It was meant as a token, and is none.
    Malformed,
}

impl Source {
    pub(crate) fn token<'a>(&self, value: &'a str) -> Found<'a> {
        if let Source::Header(name) = self {
            let value = value.trim_matches([' ', '\t']);
            if names_bearer(value) {
                return bearer(value).map_or(Found::Malformed, Found::Token);
            }
            if name.eq_ignore_ascii_case("authorization") {
                return Found::Nothing;
            }
        }
        let value = value.trim();
        if value.is_empty() { Found::Nothing } else { Found::Token(value) }
    }
}

const BEARER: &str = "bearer";

/// Whether the word `bearer` stands anywhere in credentials: at their start, as in `Bearer=x`, or
/// behind another scheme's. What is no token here may be one to an upstream that reads it less
/// strictly, so that it must not pass as "no token".
fn names_bearer(value: &str) -> bool {
    value.split(|c: char| !is_token_character(c)).any(|word| word.eq_ignore_ascii_case(BEARER))
}

/// RFC 9110 5.6.2.
fn is_token_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// The token of bearer credentials: the scheme, spaces and one token68 (RFC 9110 11.4).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let body = token.trim_end_matches('=');
    let is_token68 = !body.is_empty()
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
    (scheme.eq_ignore_ascii_case(BEARER) && is_token68).then_some(token)
}

fn yes() -> bool {
    true
}
