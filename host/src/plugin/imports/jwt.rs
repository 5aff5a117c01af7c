//! `jwt`: tokens are verified by the host; keys never enter the guest.

use super::{keep, room};
use crate::plugin::bindings::witgate::policy::jwt::{
    Host, HostVerifier, KeySource as WitSource, Rules as WitRules, TokenFault as WitFault, Verifier,
};
use crate::plugin::guest::Guest;
use crate::plugin::plan::Ask;
use crate::token::{KeySource, Rules, TokenFault};
use wasmtime::Result;
use wasmtime::component::Resource;

/// Bytes of a verifier's rules beside the keys that stand in them, which have bounds of their own. Rules
/// are kept for longer than the guest lives.
const RULES_BYTES_MAX: usize = 64 << 10;

impl Host for Guest {}

impl HostVerifier for Guest {
    fn create(&mut self, rules: WitRules) -> std::result::Result<Resource<Verifier>, String> {
        called!("jwt.verifier.create({} keys)", rules.keys.len());
        self.configuring()?;
        bounded(&rules)?;
        room(&self.verifiers)?;
        for source in &rules.keys {
            match source {
                WitSource::Inline(_) => {}
                WitSource::File(path) => self.ask(Ask::File, path),
                WitSource::Url(url) => self.ask(Ask::Url, url),
                WitSource::Secret(name) => self.ask(Ask::Secret, name),
            }
        }
        let grants = &self.about.grants;
        let keys = rules.keys.into_iter().map(|source| match source {
            WitSource::Inline(text) => Ok(KeySource::Inline(text)),
            WitSource::File(path) if grants.files.contains(&path) => {
                Ok(KeySource::File(grants.base.join(path)))
            }
            WitSource::File(path) => Err(format!("file `{path}` is not granted")),
            WitSource::Url(url) if grants.urls.contains(&url) => Ok(KeySource::Url(url)),
            WitSource::Url(url) => Err(format!("URL `{url}` is not granted")),
            WitSource::Secret(name) => match grants.secrets.get(&name) {
                Some(secret) => Ok(KeySource::Secret(secret.0.to_vec())),
                None => Err(format!("secret `{name}` is not granted, or there is none of that name")),
            },
        });
        let rules = Rules {
            keys: keys.collect::<std::result::Result<_, String>>()?,
            algorithms: rules.algorithms,
            issuers: rules.issuers,
            audiences: rules.audiences,
            required_claims: rules.required_claims,
            leeway_seconds: rules.leeway_seconds,
        };
        let verifier = self.services.verifiers.verifier(&rules)?;
        keep(&mut self.verifiers, verifier).map(Resource::new_own)
    }

    fn verify(&mut self, this: Resource<Verifier>, token: String) -> std::result::Result<String, WitFault> {
        called!("jwt.verifier.verify(…)");
        let verifier = self.verifiers.get(this.rep() as usize).ok_or(WitFault::KeysUnavailable)?;
        let claims = verifier.verify(&token).map_err(wit_fault)?;
        let json = claims.json().to_string();
        if let Some(facts) = &mut self.facts {
            facts.claims = Some(claims);
        }
        Ok(json)
    }

    fn drop(&mut self, _this: Resource<Verifier>) -> Result<()> {
        Ok(())
    }
}

/// An empty text counts as well: its place is kept.
fn bounded(rules: &WitRules) -> std::result::Result<(), String> {
    let keys = rules.keys.iter().map(|source| match source {
        WitSource::Inline(_) => 0,
        WitSource::File(name) | WitSource::Url(name) | WitSource::Secret(name) => name.len(),
    });
    let lists = [&rules.algorithms, &rules.issuers, &rules.audiences, &rules.required_claims];
    let texts = lists.into_iter().flatten().map(String::len);
    let bytes: usize = keys.chain(texts).map(|bytes| bytes + size_of::<String>()).sum();
    if bytes > RULES_BYTES_MAX {
        return Err(format!("rules of {bytes} bytes are too long: {RULES_BYTES_MAX} are allowed"));
    }
    Ok(())
}

fn wit_fault(fault: TokenFault) -> WitFault {
    match fault {
        TokenFault::Malformed => WitFault::Malformed,
        TokenFault::UnknownKey => WitFault::UnknownKey,
        TokenFault::BadSignature => WitFault::BadSignature,
        TokenFault::Expired => WitFault::Expired,
        TokenFault::NotYetValid => WitFault::NotYetValid,
        TokenFault::BadIssuer => WitFault::BadIssuer,
        TokenFault::BadAudience => WitFault::BadAudience,
        TokenFault::MissingClaim => WitFault::MissingClaim,
        TokenFault::AlgorithmRefused => WitFault::AlgorithmRefused,
        TokenFault::KeysUnavailable => WitFault::KeysUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(issuers: Vec<String>) -> WitRules {
        WitRules {
            keys: vec![WitSource::Inline("x".repeat(RULES_BYTES_MAX))],
            algorithms: Vec::new(),
            issuers,
            audiences: Vec::new(),
            required_claims: Vec::new(),
            leeway_seconds: 0,
        }
    }

    #[test]
    fn rules_are_bounded_beside_the_keys_that_stand_in_them() {
        assert_eq!(bounded(&rules(vec!["https://id.test".into()])), Ok(()));
        assert!(bounded(&rules(vec!["x".repeat(RULES_BYTES_MAX)])).is_err());
        assert!(bounded(&rules(vec![String::new(); 300_000])).is_err());
    }
}
