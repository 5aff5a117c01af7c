//! JSON web tokens, good and forged.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// A key that signs and its public half as a JWK.
pub struct Key {
    pub kid: &'static str,
    algorithm: Algorithm,
    encoding: EncodingKey,
    pub jwk: Value,
    /// Of the public key.
    pub pem: String,
}

/// Made once a test process: RSA keys take a while.
pub static RSA: LazyLock<Key> = LazyLock::new(|| rsa("rsa-1"));
/// Another one, which nobody trusts.
pub static OTHER_RSA: LazyLock<Key> = LazyLock::new(|| rsa("rsa-2"));
pub static EC: LazyLock<Key> = LazyLock::new(ec);

fn install() {
    // Fails when it was done before, which is as good.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

fn rsa(kid: &'static str) -> Key {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let public = pair.public_key();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let n = part(public.modulus().big_endian_without_leading_zero());
    let e = part(public.exponent().big_endian_without_leading_zero());
    let jwk = json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": n, "e": e});
    let encoding = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    let public_der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(public).unwrap();
    Key { kid, algorithm: Algorithm::RS256, encoding, jwk, pem: pem("PUBLIC KEY", public_der.as_ref()) }
}

fn ec() -> Key {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    let jwk =
        json!({"kty": "EC", "crv": "P-256", "kid": "ec-1", "use": "sig", "alg": "ES256", "x": x, "y": y});
    let encoding = EncodingKey::from_ec_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    Key { kid: "ec-1", algorithm: Algorithm::ES256, encoding, jwk, pem: String::new() }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A JWKS of these keys, as JSON text.
pub fn jwks(keys: &[&Key]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk.clone()).collect::<Vec<_>>()}).to_string()
}

impl Key {
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.kid.into());
        self.sign_with(&header, claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        install();
        jsonwebtoken::encode(header, claims, &self.encoding).unwrap()
    }

    /// With a header of the test's own making, signed truly.
    pub fn sign_raw_header(&self, header: &Value, claims: &Value) -> String {
        install();
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &self.encoding, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// HS256 with any bytes as the key: an honest shared secret, or a public key misused as one.
pub fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    install();
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// Header and claims with this signature part, whatever it is.
pub fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", encode(header), encode(claims))
}

fn encode(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that every test's rules accept: issuer `https://id.test`, audience `api`.
pub fn claims(subject: &str) -> Value {
    json!({"iss": "https://id.test", "aud": "api", "sub": subject, "iat": now(), "exp": now() + 600})
}

/// The same with one claim changed; `null` takes it out.
pub fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims("anna");
    let map = claims.as_object_mut().unwrap();
    if value.is_null() {
        map.remove(name);
    } else {
        map.insert(name.into(), value);
    }
    claims
}
