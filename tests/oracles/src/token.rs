//! Tokens and keys from anybody: what is accepted was truly signed, by the algorithm of the key, and
//! says what the rules want; what is refused is refused in words that quote nothing.
//!
//! An input of `token` is a token, or a header and claims on two lines, which are signed here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use witgate::clock::Clock;
use witgate::token::crypto::{Digest, hmac};
use witgate::token::{Fetch, Fetching, KeySource, Rules, Verifier, Verifiers};

pub const KEY_WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"keys\":",
    "\"kty\":\"RSA\"",
    "\"kty\":\"EC\"",
    "\"kty\":\"OKP\"",
    "\"kty\":\"oct\"",
    ",",
    ":",
    "\"crv\":\"P-256\"",
    "\"crv\":\"Ed25519\"",
    "\"crv\":\"P-521\"",
    "\"n\":\"AQAB\"",
    "\"e\":\"AQAB\"",
    "\"x\":\"AA\"",
    "\"y\":\"AA\"",
    "\"alg\":\"RS256\"",
    "\"alg\":\"none\"",
    "\"use\":\"sig\"",
    "\"use\":\"enc\"",
    "\"kid\":\"a\"",
    "\"kid\":7",
    "-----BEGIN PUBLIC KEY-----\n",
    "-----END PUBLIC KEY-----\n",
    "-----BEGIN CERTIFICATE-----\n",
    "-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\n",
    "-----END PRIVATE KEY-----\n",
    "MCowBQYDK2VwAyEA",
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
    "AAAA",
    "====",
    "\n",
    "\u{30}\u{80}",
    "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
];

pub const TOKEN_WORDS: &[&str] = &[
    "{\"alg\":\"HS256\"}",
    "{\"alg\":\"none\"}",
    "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}",
    "\n",
    ".",
    "..",
    "{",
    "}",
    ",",
    "\"alg\":\"HS256\"",
    "\"alg\":\"ES256\"",
    "\"alg\":\"HS384\"",
    "\"kid\":\"a\"",
    "\"typ\":\"JWT\"",
    "\"jwk\":{}",
    "\"jku\":\"http://a\"",
    "\"iss\":\"issuer\"",
    "\"iss\":[\"issuer\"]",
    "\"exp\":2000000000",
    "\"exp\":1",
    "\"exp\":\"2000000000\"",
    "\"exp\":1e400",
    "\"exp\":-1",
    "\"nbf\":2000000000",
    "\"nbf\":1",
    "\"aud\":\"a\"",
    "\"aud\":[\"a\",7]",
    "\"sub\":\"\\u0000\"",
    "null",
    "1e309",
    "eyJhbGciOiJIUzI1NiJ9",
    "eyJhbGciOiJub25lIn0",
    "e30",
    "=",
    "-",
    "_",
    "A",
    "{\"iss\":\"issuer\",\"aud\":\"a\",\"exp\":2000000000}",
];

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
const NOW: u64 = 1_800_000_000;

/// Errors quote nothing of a document that is this long.
const QUOTED_BYTES_MAX: usize = 24;

struct Nobody;

impl Fetch for Nobody {
    fn get<'a>(&'a self, _url: &'a str) -> Fetching<'a> {
        Box::pin(async { Err("nothing is fetched here".to_string()) })
    }
}

struct Bench {
    clock: Clock,
    verifiers: Verifiers,
    strict: Arc<Verifier>,
    _control: Runtime,
}

thread_local! {
    static BENCH: Bench = {
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Clock::manual(Duration::from_secs(NOW));
        let verifiers = Verifiers::new(clock.clone(), Arc::new(Nobody), control.handle().clone());
        let strict = verifiers.verifier(&Rules {
            keys: vec![KeySource::Secret(SECRET.to_vec())],
            issuers: vec!["issuer".into()],
            audiences: vec!["a".into()],
            required_claims: vec!["exp".into()],
            ..Rules::default()
        });
        // The verifier's own clock stands; the other verifiers are forgotten as it moves, see `keys`.
        Bench { strict: strict.unwrap(), verifiers, clock, _control: control }
    };
}

pub fn keys(input: &[u8]) {
    let document = String::from_utf8_lossy(input).into_owned();
    BENCH.with(|bench| {
        let rules = Rules { keys: vec![KeySource::Inline(document.clone())], ..Rules::default() };
        let made = bench.verifiers.verifier(&rules);
        match made {
            Ok(verifier) => {
                for token in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"] {
                    assert!(verifier.verify(token).is_err(), "{token:?} passes {document:?}");
                }
                // A public key is never a secret.
                let forged = signed(b"{\"alg\":\"HS256\"}", b"{\"exp\":4000000000}", document.as_bytes());
                assert!(verifier.verify(&forged).is_err(), "{document:?} is taken for a secret");
            }
            Err(why) => {
                let quoted = input.windows(QUOTED_BYTES_MAX).any(|part| {
                    let said = b"-----BEGIN PRIVATE KEY-----";
                    !said.windows(QUOTED_BYTES_MAX).any(|known| known == part)
                        && why.as_bytes().windows(QUOTED_BYTES_MAX).any(|window| window == part)
                });
                assert!(!quoted, "{why:?} quotes {document:?}");
            }
        }
        // What nobody has held for ten minutes is forgotten, or the registry would be full soon.
        bench.clock.advance(Duration::from_secs(1));
        bench.verifiers.tick();
    });
}

pub fn token(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (token, truly) = match text.split_once('\n') {
        Some((header, claims)) => (signed(header.as_bytes(), claims.as_bytes(), SECRET), true),
        None => (text.into_owned(), false),
    };
    BENCH.with(|bench| {
        let now = bench.clock.unix().as_secs_f64();
        let Ok(claims) = bench.strict.verify(&token) else { return };
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { panic!("{token:?} has {} parts", parts.len()) };
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        let payload: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
        assert_eq!(header["alg"], "HS256", "{header}");
        assert!(header.get("crit").is_none() && header.get("b64").is_none(), "{header}");
        let message = token.rsplit_once('.').unwrap().0;
        let expected = hmac(Digest::Sha256, SECRET, message.as_bytes());
        assert_eq!(URL_SAFE_NO_PAD.decode(signature).unwrap(), expected, "not signed: {token:?} {truly}");
        assert_eq!(payload["iss"], "issuer", "{payload}");
        let ours = payload["aud"] == "a"
            || payload["aud"].as_array().is_some_and(|all| all.iter().any(|a| a == "a"));
        assert!(ours, "{payload}");
        assert!(payload["exp"].as_f64().is_some_and(|end| end > now), "{payload} at {now}");
        assert!(
            payload.get("nbf").is_none_or(|nbf| nbf.as_f64().is_some_and(|start| start <= now)),
            "{payload}"
        );
        assert_eq!(serde_json::from_str::<Value>(claims.json()).unwrap(), payload);
    });
}

fn signed(header: &[u8], claims: &[u8], secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac(Digest::Sha256, secret, message.as_bytes()));
    format!("{message}.{signature}")
}
