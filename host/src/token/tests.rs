//! Attacks on the verifier, and its rules at their borders. Tokens are made here and, as a second
//! opinion, by `jsonwebtoken`.

use super::keyset::{MISS_INTERVAL, REFRESH_INTERVAL, RETRY_INTERVAL};
use super::*;
use crate::clock::Clock;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

const NOW: u64 = 1_800_000_000;
const SECRET: &[u8; 64] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static RSA_KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
static P521: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap());
static ED: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sign(algorithm: &str, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |padding: &'static dyn signature::RsaEncoding| {
        let mut out = vec![0; RSA_KEY.public_modulus_len()];
        RSA_KEY.sign(padding, &random, message, &mut out).unwrap();
        out
    };
    let mac = |digest| super::crypto::hmac(digest, SECRET, message);
    use super::crypto::Digest;
    match algorithm {
        "HS256" => mac(Digest::Sha256),
        "HS384" => mac(Digest::Sha384),
        "HS512" => mac(Digest::Sha512),
        "RS256" => rsa(&signature::RSA_PKCS1_SHA256),
        "RS384" => rsa(&signature::RSA_PKCS1_SHA384),
        "RS512" => rsa(&signature::RSA_PKCS1_SHA512),
        "PS256" => rsa(&signature::RSA_PSS_SHA256),
        "PS384" => rsa(&signature::RSA_PSS_SHA384),
        "PS512" => rsa(&signature::RSA_PSS_SHA512),
        "ES256" => P256.sign(&random, message).unwrap().as_ref().to_vec(),
        "ES384" => P384.sign(&random, message).unwrap().as_ref().to_vec(),
        "ES512" => P521.sign(&random, message).unwrap().as_ref().to_vec(),
        "EdDSA" | "Ed25519" => ED.sign(message).as_ref().to_vec(),
        other => panic!("{other}"),
    }
}

/// A token with this header, honestly signed with the algorithm named.
fn token_with(header: &str, algorithm: &str, claims: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = sign(algorithm, message.as_bytes());
    format!("{message}.{}", b64(signature))
}

fn token(algorithm: &str, kid: &str, claims: &str) -> String {
    token_with(&format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"JWT"}}"#), algorithm, claims)
}

fn rsa_jwk(rest: &str) -> String {
    let public = signature::RsaPublicKeyComponents::<Vec<u8>>::from(RSA_KEY.public_key());
    format!(r#"{{"kty":"RSA","kid":"rsa","n":"{}","e":"{}"{rest}}}"#, b64(public.n), b64(public.e))
}

fn ec_jwk(pair: &EcdsaKeyPair, kid: &str, curve: &str) -> String {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    format!(r#"{{"kty":"EC","kid":"{kid}","crv":"{curve}","x":"{}","y":"{}"}}"#, b64(x), b64(y))
}

fn ed_jwk(kid: &str) -> String {
    format!(r#"{{"kty":"OKP","kid":"{kid}","crv":"Ed25519","x":"{}"}}"#, b64(ED.public_key()))
}

fn jwks(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

fn all_jwks() -> String {
    jwks(&[
        rsa_jwk(""),
        ec_jwk(&P256, "p256", "P-256"),
        ec_jwk(&P384, "p384", "P-384"),
        ec_jwk(&P521, "p521", "P-521"),
        ed_jwk("ed"),
    ])
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn rsa_spki() -> Vec<u8> {
    let der: PublicKeyX509Der<'_> = RSA_KEY.public_key().as_der().unwrap();
    der.as_ref().to_vec()
}

/// An issuer that can be changed, broken and counted.
struct Issuer {
    document: Mutex<Result<String, String>>,
    fetches: AtomicUsize,
}

impl Fetch for Issuer {
    fn get<'a>(&'a self, _: &'a str) -> Fetching<'a> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let document = self.document.lock().unwrap().clone().map(Bytes::from);
        Box::pin(async move { document })
    }
}

struct Bench {
    clock: Clock,
    runtime: tokio::runtime::Runtime,
    issuer: Arc<Issuer>,
    verifiers: Verifiers,
}

impl Bench {
    fn new() -> Bench {
        let clock = Clock::manual(Duration::from_secs(NOW));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let issuer = Arc::new(Issuer { document: Mutex::new(Ok(all_jwks())), fetches: AtomicUsize::new(0) });
        let fetch: Arc<dyn Fetch> = Arc::clone(&issuer) as Arc<dyn Fetch>;
        let verifiers = Verifiers::new(clock.clone(), fetch, runtime.handle().clone());
        Bench { clock, runtime, issuer, verifiers }
    }

    fn verifier(&self, source: KeySource, change: impl FnOnce(&mut Rules)) -> Arc<Verifier> {
        let mut rules = Rules { keys: vec![source], ..Rules::default() };
        change(&mut rules);
        self.verifiers.verifier(&rules).unwrap()
    }

    fn inline(&self) -> Arc<Verifier> {
        self.verifier(KeySource::Inline(all_jwks()), |_| {})
    }

    fn url(&self) -> Arc<Verifier> {
        self.verifier(KeySource::Url("https://issuer.example/jwks".to_owned()), |_| {})
    }

    fn error(&self, keys: Vec<KeySource>, change: impl FnOnce(&mut Rules)) -> String {
        let mut rules = Rules { keys, ..Rules::default() };
        change(&mut rules);
        self.verifiers.verifier(&rules).map(|_| ()).unwrap_err()
    }

    /// Lets the fetches that were begun run to their end.
    fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
    }

    fn fetches(&self) -> usize {
        self.issuer.fetches.load(Ordering::Relaxed)
    }

    fn publish(&self, document: Result<String, String>) {
        *self.issuer.document.lock().unwrap() = document;
    }
}

fn fault(verifier: &Verifier, token: &str) -> Option<TokenFault> {
    verifier.verify(token).err()
}

const ASYMMETRIC: &[(&str, &str)] = &[
    ("RS256", "rsa"),
    ("RS384", "rsa"),
    ("RS512", "rsa"),
    ("PS256", "rsa"),
    ("PS384", "rsa"),
    ("PS512", "rsa"),
    ("ES256", "p256"),
    ("ES384", "p384"),
    ("ES512", "p521"),
    ("EdDSA", "ed"),
    ("Ed25519", "ed"),
];

#[test]
fn every_algorithm_verifies_and_notices_a_changed_bit() {
    let bench = Bench::new();
    let asymmetric = bench.inline();
    let symmetric = bench.verifier(KeySource::Secret(SECRET.to_vec()), |_| {});
    let all = ASYMMETRIC
        .iter()
        .map(|case| (&asymmetric, *case))
        .chain([("HS256", "any"), ("HS384", "any"), ("HS512", "any")].map(|case| (&symmetric, case)));
    for (verifier, (algorithm, kid)) in all {
        let good = token(algorithm, kid, r#"{"sub":"anna"}"#);
        for _ in 0..2 {
            assert_eq!(verifier.verify(&good).unwrap().text("sub").unwrap(), "anna", "{algorithm}");
        }
        let (message, signature) = good.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[10] ^= 1;
        let bad = format!("{message}.{}", b64(bytes));
        assert_eq!(fault(verifier, &bad), Some(TokenFault::BadSignature), "{algorithm}");
        let forged =
            format!("{}.{}.{signature}", message.split_once('.').unwrap().0, b64(r#"{"sub":"eve"}"#));
        assert_eq!(fault(verifier, &forged), Some(TokenFault::BadSignature), "{algorithm}");
    }
}

#[test]
fn tokens_of_another_implementation_verify() {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let bench = Bench::new();
    let claims = serde_json::json!({ "sub": "anna", "exp": NOW + 10 });
    let check = |algorithm, key: &EncodingKey, source| {
        let token = encode(&Header::new(algorithm), &claims, key).unwrap();
        assert!(bench.verifier(source, |_| {}).verify(&token).is_ok(), "{algorithm:?}");
    };
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        check(algorithm, &EncodingKey::from_secret(SECRET), KeySource::Secret(SECRET.to_vec()));
    }
    let p256 = P256.to_pkcs8v1().unwrap();
    check(Algorithm::ES256, &EncodingKey::from_ec_der(p256.as_ref()), KeySource::Inline(all_jwks()));
    let ed = ED.to_pkcs8().unwrap();
    check(Algorithm::EdDSA, &EncodingKey::from_ed_der(ed.as_ref()), KeySource::Inline(all_jwks()));
    let rsa: Pkcs8V1Der<'_> = RSA_KEY.as_der().unwrap();
    let rsa_pem = pem(rsa.as_ref()).replace("PUBLIC KEY", "PRIVATE KEY");
    let rsa = EncodingKey::from_rsa_pem(rsa_pem.as_bytes()).unwrap();
    for algorithm in [Algorithm::RS256, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384] {
        check(algorithm, &rsa, KeySource::Inline(pem(&rsa_spki())));
    }
}

#[test]
fn none_is_refused_in_every_spelling() {
    let bench = Bench::new();
    for verifier in [bench.inline(), bench.verifier(KeySource::Secret(SECRET.to_vec()), |_| {})] {
        for name in ["none", "None", "nOnE", "NONE", "", "null", " none", "none\\u0000"] {
            let message = format!("{}.{}", b64(format!(r#"{{"alg":"{name}"}}"#)), b64(r#"{"sub":"eve"}"#));
            for signature in ["", "AA", &b64(sign("HS256", message.as_bytes()))] {
                let fault = fault(&verifier, &format!("{message}.{signature}"));
                let expected =
                    if signature.is_empty() { TokenFault::Malformed } else { TokenFault::AlgorithmRefused };
                assert_eq!(fault, Some(expected), "{name}");
            }
        }
    }
}

/// CVE-2016-10555 and its kin: the public key, which everybody has, used as an HMAC secret.
#[test]
fn a_public_key_is_never_an_hmac_secret() {
    let bench = Bench::new();
    let spki = rsa_spki();
    let pkcs1 = RSA_KEY.public_key().as_ref().to_vec();
    let text = pem(&spki);
    let secrets: [&[u8]; 7] = [
        text.as_bytes(),
        text.trim_end().as_bytes(),
        &spki,
        &pkcs1,
        rsa_jwk("").as_bytes(),
        all_jwks().as_bytes(),
        ED.public_key().as_ref(),
    ]
    .map(|secret| secret.to_vec().leak() as &[u8]);
    for source in [text.clone(), all_jwks(), rsa_jwk(r#","alg":"RS256""#), rsa_jwk(r#","alg":"HS256""#)] {
        let mut rules = Rules { keys: vec![KeySource::Inline(source)], ..Rules::default() };
        // A JWK that calls an RSA key an HMAC key is no key at all.
        let Ok(verifier) = bench.verifiers.verifier(&rules) else { continue };
        rules.algorithms = vec!["HS256".to_owned(), "RS256".to_owned()];
        let lax = bench.verifiers.verifier(&rules).unwrap();
        for secret in secrets {
            for header in
                [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"rsa"}"#, r#"{"alg":"HS256","kid":"ed"}"#]
            {
                let message = format!("{}.{}", b64(header), b64(r#"{"sub":"eve"}"#));
                let mac = super::crypto::hmac(super::crypto::Digest::Sha256, secret, message.as_bytes());
                let forged = format!("{message}.{}", b64(mac));
                for verifier in [&verifier, &lax] {
                    let fault = fault(verifier, &forged).unwrap();
                    assert!(
                        matches!(fault, TokenFault::AlgorithmRefused | TokenFault::UnknownKey),
                        "{fault:?} {header}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_key_is_for_its_own_algorithms() {
    let bench = Bench::new();
    let only = bench.verifier(KeySource::Inline(rsa_jwk(r#","alg":"RS256""#)), |_| {});
    assert_eq!(fault(&only, &token("RS256", "rsa", "{}")), None);
    for other in ["RS384", "PS256", "HS256", "ES256", "EdDSA"] {
        assert_eq!(fault(&only, &token(other, "rsa", "{}")), Some(TokenFault::AlgorithmRefused), "{other}");
    }
    let listed =
        bench.verifier(KeySource::Inline(all_jwks()), |rules| rules.algorithms = vec!["ES256".to_owned()]);
    assert_eq!(fault(&listed, &token("ES256", "p256", "{}")), None);
    assert_eq!(fault(&listed, &token("RS256", "rsa", "{}")), Some(TokenFault::AlgorithmRefused));
    let all = bench.inline();
    assert_eq!(fault(&all, &token("ES256", "rsa", "{}")), Some(TokenFault::AlgorithmRefused));
    assert_eq!(fault(&all, &token("ES256", "p384", "{}")), Some(TokenFault::AlgorithmRefused));
}

#[test]
fn header_extensions_are_refused() {
    let bench = Bench::new();
    let verifier = bench.verifier(KeySource::Secret(SECRET.to_vec()), |_| {});
    for extra in [
        r#""crit":["x"],"x":1"#,
        r#""crit":[]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""b64":true"#,
    ] {
        let token = token_with(&format!(r#"{{"alg":"HS256",{extra}}}"#), "HS256", "{}");
        assert_eq!(fault(&verifier, &token), Some(TokenFault::Malformed), "{extra}");
    }
    let unencoded = format!("{}.{{}}", b64(r#"{"alg":"HS256"}"#));
    let unencoded = format!("{unencoded}.{}", b64(sign("HS256", unencoded.as_bytes())));
    assert_eq!(fault(&verifier, &unencoded), Some(TokenFault::Malformed));
}

/// CVE-2018-0114, CVE-2026-27962: a token that brings its own key.
#[test]
fn keys_in_a_header_are_never_used_nor_fetched() {
    let bench = Bench::new();
    bench.publish(Ok(jwks(&[ec_jwk(&P256, "p256", "P-256")])));
    let verifier = bench.url();
    bench.settle();
    let before = bench.fetches();
    for extra in [
        format!(r#""jwk":{}"#, ed_jwk("own")),
        r#""jku":"https://eve.example/jwks""#.to_owned(),
        r#""x5u":"https://eve.example/cert""#.to_owned(),
        r#""x5c":["AAAA"]"#.to_owned(),
    ] {
        for kid in ["own", "p256", "../../dev/null", "file:///dev/null", "' OR 1=1 --", "a\\nb"] {
            let token = token_with(&format!(r#"{{"alg":"EdDSA","kid":"{kid}",{extra}}}"#), "EdDSA", "{}");
            let fault = fault(&verifier, &token).unwrap();
            assert!(matches!(fault, TokenFault::UnknownKey | TokenFault::AlgorithmRefused), "{fault:?}");
        }
    }
    bench.settle();
    assert_eq!(bench.fetches(), before);
}

#[test]
fn keys_are_found_by_kid_exactly_or_tried_without_one() {
    let bench = Bench::new();
    let verifier = bench.inline();
    for kid in ["RSA", "rsa ", "rs", "rsa\\u0000", ""] {
        assert_eq!(fault(&verifier, &token("RS256", kid, "{}")), Some(TokenFault::UnknownKey), "{kid}");
    }
    let unnamed = token_with(r#"{"alg":"EdDSA"}"#, "EdDSA", "{}");
    assert_eq!(fault(&verifier, &unnamed), None);
    // A PEM key has no name, so any fits.
    let pem = bench.verifier(KeySource::Inline(pem(&rsa_spki())), |_| {});
    assert_eq!(fault(&pem, &token("RS256", "whatever", "{}")), None);
    assert_eq!(fault(&pem, &token("ES256", "whatever", "{}")), Some(TokenFault::AlgorithmRefused));
    // The right key comes last of twenty: not all are tried without a kid, but it is found by it.
    let stranger = |n: usize| {
        let pair = Ed25519KeyPair::generate().unwrap();
        format!(r#"{{"kty":"OKP","kid":"k{n}","crv":"Ed25519","x":"{}"}}"#, b64(pair.public_key()))
    };
    let mut keys: Vec<_> = (0..20).map(stranger).collect();
    keys.push(ed_jwk("last"));
    let many = bench.verifier(KeySource::Inline(jwks(&keys)), |_| {});
    assert_eq!(fault(&many, &unnamed), Some(TokenFault::BadSignature));
    assert_eq!(fault(&many, &token("EdDSA", "last", "{}")), None);
    assert_eq!(fault(&many, &token("EdDSA", "k3", "{}")), Some(TokenFault::BadSignature));
}

#[test]
fn time_is_checked_at_its_borders_also_from_the_cache() {
    let bench = Bench::new();
    let verifier = bench.verifier(KeySource::Secret(SECRET.to_vec()), |rules| rules.leeway_seconds = 30);
    let make = |claims: String| token("HS256", "a", &claims);
    assert_eq!(fault(&verifier, &make(format!(r#"{{"exp":{}}}"#, NOW - 30))), Some(TokenFault::Expired));
    assert_eq!(fault(&verifier, &make(format!(r#"{{"exp":{}}}"#, NOW - 29))), None);
    for name in ["nbf", "iat"] {
        assert_eq!(
            fault(&verifier, &make(format!(r#"{{"{name}":{}}}"#, NOW + 31))),
            Some(TokenFault::NotYetValid)
        );
        assert_eq!(fault(&verifier, &make(format!(r#"{{"{name}":{}}}"#, NOW + 30))), None);
    }
    let short = make(format!(r#"{{"exp":{}}}"#, NOW + 10));
    assert_eq!(fault(&verifier, &short), None);
    bench.clock.advance(Duration::from_millis(39_999));
    assert_eq!(fault(&verifier, &short), None);
    bench.clock.advance(Duration::from_millis(1));
    for _ in 0..2 {
        assert_eq!(fault(&verifier, &short), Some(TokenFault::Expired));
    }
}

#[test]
fn issuer_audience_and_required_claims() {
    let bench = Bench::new();
    let verifier = bench.verifier(KeySource::Secret(SECRET.to_vec()), |rules| {
        rules.issuers = vec!["https://a".to_owned(), "https://b".to_owned()];
        rules.audiences = vec!["api".to_owned(), "web".to_owned()];
        rules.required_claims = vec!["sub".to_owned()];
    });
    let check = |claims: &str| fault(&verifier, &token("HS256", "a", claims));
    assert_eq!(check(r#"{"iss":"https://b","aud":"web","sub":"x"}"#), None);
    assert_eq!(check(r#"{"iss":"https://a","aud":["other","api"],"sub":"x"}"#), None);
    for issuer in [r#""https://c""#, r#""https://a/""#, r#""""#, "null", "7", r#"["https://a"]"#] {
        let claims = format!(r#"{{"iss":{issuer},"aud":"api","sub":"x"}}"#);
        assert_eq!(check(&claims), Some(TokenFault::BadIssuer), "{issuer}");
    }
    assert_eq!(check(r#"{"aud":"api","sub":"x"}"#), Some(TokenFault::BadIssuer));
    for audience in [r#""API""#, r#""ap""#, r#"["a","p","i"]"#, "[]", "[[\"api\"]]", "{}", "null"] {
        let claims = format!(r#"{{"iss":"https://a","aud":{audience},"sub":"x"}}"#);
        assert_eq!(check(&claims), Some(TokenFault::BadAudience), "{audience}");
    }
    assert_eq!(check(r#"{"iss":"https://a","sub":"x"}"#), Some(TokenFault::BadAudience));
    assert_eq!(check(r#"{"iss":"https://a","aud":"api"}"#), Some(TokenFault::MissingClaim));
    assert_eq!(check(r#"{"iss":"https://a","aud":"api","sub":null}"#), Some(TokenFault::MissingClaim));
    assert_eq!(check(r#"{"iss":"https://a","aud":"api","sub":"x","sub":"y"}"#), Some(TokenFault::Malformed));
    assert_eq!(check("[]"), Some(TokenFault::Malformed));
    assert_eq!(check("not json"), Some(TokenFault::Malformed));
}

#[test]
fn a_cached_token_is_not_taken_by_other_rules() {
    let bench = Bench::new();
    let token = token("HS256", "a", r#"{"aud":"web"}"#);
    let secret = || KeySource::Secret(SECRET.to_vec());
    assert_eq!(fault(&bench.verifier(secret(), |_| {}), &token), None);
    let strict = bench.verifier(secret(), |rules| rules.audiences = vec!["api".to_owned()]);
    assert_eq!(fault(&strict, &token), Some(TokenFault::BadAudience));
    let other = bench.verifier(KeySource::Secret(vec![7; 64]), |_| {});
    assert_eq!(fault(&other, &token), Some(TokenFault::BadSignature));
}

#[test]
fn the_same_rules_give_the_same_verifier() {
    let bench = Bench::new();
    assert!(Arc::ptr_eq(&bench.inline(), &bench.inline()));
    let split = |algorithms: &[&str], issuers: &[&str]| {
        bench.verifier(KeySource::Inline(all_jwks()), |rules| {
            rules.algorithms = algorithms.iter().map(|name| (*name).to_owned()).collect();
            rules.issuers = issuers.iter().map(|name| (*name).to_owned()).collect();
        })
    };
    assert!(!Arc::ptr_eq(&split(&["ES256"], &["RS256"]), &split(&["ES256", "RS256"], &[])));
}

#[test]
fn senseless_rules_are_refused() {
    let bench = Bench::new();
    let secret = || vec![KeySource::Secret(SECRET.to_vec())];
    assert!(bench.error(vec![], |_| {}).contains("no keys"));
    assert!(bench.error(vec![KeySource::Secret(vec![7; 31])], |_| {}).contains("32 bytes"));
    assert!(bench.error(vec![KeySource::Url("ftp://a".to_owned())], |_| {}).contains("https://"));
    assert!(
        bench.error(vec![KeySource::Inline("hello".to_owned())], |_| {}).contains("neither PEM nor JSON")
    );
    assert!(bench.error(vec![KeySource::Inline(jwks(&[]))], |_| {}).contains("cannot check"));
    assert!(bench.error(vec![KeySource::File("/no/such/file".into())], |_| {}).contains("cannot be read"));
    for name in ["none", "None", "hs256", "RS1"] {
        assert!(bench.error(secret(), |rules| rules.algorithms = vec![name.to_owned()]).contains(name));
    }
    assert!(bench.error(secret(), |rules| rules.leeway_seconds = 86_401).contains("leeway"));
    assert!(!format!("{:?}", secret()).contains("48"), "secrets are not shown");
}

#[test]
fn keys_are_unavailable_until_first_fetched_and_kept_afterwards() {
    let bench = Bench::new();
    bench.publish(Err("connection refused".to_owned()));
    let verifier = bench.url();
    let good = token("EdDSA", "ed", "{}");
    assert_eq!(fault(&verifier, &good), Some(TokenFault::KeysUnavailable));
    bench.settle();
    assert_eq!(bench.fetches(), 1, "the first fetch begins at once");
    assert_eq!(fault(&verifier, &good), Some(TokenFault::KeysUnavailable));
    // The tick tries again after 5 s, then 10 s.
    for (pause, fetches) in [(RETRY_INTERVAL, 2), (RETRY_INTERVAL, 2), (RETRY_INTERVAL, 3)] {
        bench.clock.advance(pause);
        bench.verifiers.tick();
        bench.settle();
        assert_eq!(bench.fetches(), fetches);
    }
    bench.publish(Ok(all_jwks()));
    bench.clock.advance(RETRY_INTERVAL * 4);
    bench.verifiers.tick();
    bench.settle();
    assert_eq!(fault(&verifier, &good), None);
    for broken in [Err("gone".to_owned()), Ok("<html>".to_owned()), Ok("x".repeat(2 << 20))] {
        bench.publish(broken);
        bench.clock.advance(REFRESH_INTERVAL);
        let before = bench.fetches();
        bench.verifiers.tick();
        bench.settle();
        assert_eq!(bench.fetches(), before + 1);
        assert_eq!(fault(&verifier, &good), None, "the last good keys stay");
    }
}

/// go-oidc#482: forged kids must not become traffic, and valid tokens must not notice.
#[test]
fn a_thousand_random_kids_cause_one_fetch_in_thirty_seconds() {
    let bench = Bench::new();
    let verifier = bench.url();
    bench.settle();
    let good = token("EdDSA", "ed", r#"{"sub":"anna"}"#);
    let flood = || {
        for n in 0..1_000 {
            let forged = token("EdDSA", &format!("random-{n}"), "{}");
            assert_eq!(fault(&verifier, &forged), Some(TokenFault::UnknownKey));
            if n % 100 == 0 {
                bench.settle();
                assert_eq!(fault(&verifier, &good), None);
            }
        }
        bench.settle();
    };
    flood();
    assert_eq!(bench.fetches(), 1, "the first fetch is not 30 s old");
    bench.clock.advance(MISS_INTERVAL);
    flood();
    assert_eq!(bench.fetches(), 2);
    bench.clock.advance(MISS_INTERVAL - Duration::from_nanos(1));
    flood();
    assert_eq!(bench.fetches(), 2);
}

#[test]
fn parallel_misses_cause_one_fetch() {
    let bench = Bench::new();
    let verifier = bench.url();
    bench.settle();
    bench.clock.advance(MISS_INTERVAL);
    let forged = token("EdDSA", "random", "{}");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(fault(&verifier, &forged), Some(TokenFault::UnknownKey)));
        }
    });
    bench.settle();
    assert_eq!(bench.fetches(), 2);
}

#[test]
fn rotation_brings_new_keys_and_takes_old_ones_with_what_they_verified() {
    let bench = Bench::new();
    bench.publish(Ok(jwks(&[rsa_jwk("")])));
    let verifier = bench.url();
    bench.settle();
    let (old, new) = (token("RS256", "rsa", "{}"), token("EdDSA", "ed", "{}"));
    assert_eq!(fault(&verifier, &old), None);
    bench.publish(Ok(jwks(&[rsa_jwk(""), ed_jwk("ed")])));
    bench.clock.advance(MISS_INTERVAL);
    assert_eq!(fault(&verifier, &new), Some(TokenFault::UnknownKey), "refused now, fetched meanwhile");
    bench.settle();
    assert_eq!((fault(&verifier, &new), fault(&verifier, &old)), (None, None));
    bench.publish(Ok(jwks(&[ed_jwk("ed")])));
    bench.clock.advance(REFRESH_INTERVAL);
    bench.verifiers.tick();
    bench.settle();
    assert_eq!(fault(&verifier, &new), None);
    assert_eq!(fault(&verifier, &old), Some(TokenFault::UnknownKey), "also though it was cached");
    bench.publish(Ok(jwks(&[])));
    bench.clock.advance(REFRESH_INTERVAL);
    bench.verifiers.tick();
    bench.settle();
    assert_eq!(fault(&verifier, &new), Some(TokenFault::UnknownKey), "an empty set revokes");
}

#[test]
fn sets_are_shared_and_no_longer_fetched_once_nobody_needs_them() {
    let bench = Bench::new();
    let one = bench.url();
    let two = bench.verifier(KeySource::Url("https://issuer.example/jwks".to_owned()), |rules| {
        rules.leeway_seconds = 1;
    });
    bench.settle();
    assert_eq!(bench.fetches(), 1);
    drop((one, two));
    for _ in 0..5 {
        bench.clock.advance(REFRESH_INTERVAL);
        bench.verifiers.tick();
        bench.settle();
    }
    let fetches = bench.fetches();
    bench.clock.advance(REFRESH_INTERVAL * 10);
    bench.verifiers.tick();
    bench.settle();
    assert_eq!(bench.fetches(), fetches);
}

#[test]
fn a_key_file_is_read_again_at_a_reload_and_kept_if_it_broke() {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    std::fs::write(&path, jwks(&[rsa_jwk("")])).unwrap();
    let verifier = bench.verifier(KeySource::File(path.clone()), |_| {});
    let (old, new) = (token("RS256", "rsa", "{}"), token("EdDSA", "ed", "{}"));
    assert_eq!((fault(&verifier, &old), fault(&verifier, &new)), (None, Some(TokenFault::UnknownKey)));
    assert_eq!(bench.verifiers.files(), std::slice::from_ref(&path), "to be watched");
    for broken in ["", "{", r#"{"keys":[]}"#] {
        std::fs::write(&path, broken).unwrap();
        bench.verifiers.reload_files();
        assert_eq!(fault(&verifier, &old), None);
    }
    std::fs::write(&path, jwks(&[ed_jwk("ed")])).unwrap();
    assert_eq!(fault(&verifier, &new), Some(TokenFault::UnknownKey));
    bench.verifiers.reload_files();
    assert_eq!((fault(&verifier, &old), fault(&verifier, &new)), (Some(TokenFault::UnknownKey), None));
    assert_eq!(bench.fetches(), 0);
}

#[test]
fn a_certificate_serves_as_its_key() {
    let bench = Bench::new();
    let pair = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["id.example".to_owned()]).unwrap().self_signed(&pair).unwrap();
    let verifier = bench.verifier(KeySource::Inline(certificate.pem()), |_| {});
    let signer =
        EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der()).unwrap();
    let message = format!("{}.{}", b64(r#"{"alg":"ES256"}"#), b64("{}"));
    let signature = signer.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    assert_eq!(fault(&verifier, &format!("{message}.{}", b64(signature))), None);
}

#[test]
fn garbage_is_cheap() {
    let bench = Bench::new();
    let verifier = bench.inline();
    for garbage in [
        "",
        "a.b.@@@",
        "a.b.c",
        &".".repeat(60_000),
        &"a".repeat(1 << 20),
        "e30.e30.e30",
        "\u{0}.\u{0}.\u{0}",
    ] {
        assert_eq!(fault(&verifier, garbage), Some(TokenFault::Malformed), "{garbage:.20}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_made_up_passes_or_panics(text in ".{0,200}", header in ".{0,80}", payload in any::<Vec<u8>>(), signature in any::<Vec<u8>>()) {
        static BENCH: LazyLock<(Bench, Arc<Verifier>)> = LazyLock::new(|| {
            let bench = Bench::new();
            let verifier = bench.inline();
            (bench, verifier)
        });
        let verifier = &BENCH.1;
        prop_assert!(verifier.verify(&text).is_err());
        let made_up = format!("{}.{}.{}", b64(&header), b64(&payload), b64(&signature));
        prop_assert!(verifier.verify(&made_up).is_err());
        for (algorithm, kid) in ASYMMETRIC {
            let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
            let token = format!("{}.{}.{}", b64(header), b64(&payload), b64(&signature));
            prop_assert!(verifier.verify(&token).is_err());
        }
    }
}
