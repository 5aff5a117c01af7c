//! `jwt`: tokens are verified by the host; keys never enter the guest.

use super::keep;
use crate::plugin::bindings::witgate::policy::jwt::{
    Host, HostVerifier, KeySource as WitSource, Rules as WitRules, TokenFault as WitFault, Verifier,
};
use crate::plugin::guest::Guest;
use crate::plugin::plan::Ask;
use crate::token::{KeySource, Rules, TokenFault};
use wasmtime::Result;
use wasmtime::component::Resource;

impl Host for Guest {}

impl HostVerifier for Guest {
    fn create(&mut self, rules: WitRules) -> std::result::Result<Resource<Verifier>, String> {
        called!("jwt.verifier.create({} keys)", rules.keys.len());
        self.configuring()?;
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
