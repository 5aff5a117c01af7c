//! What the demo needs to know itself by: a certificate for localhost, a key that signs tokens,
//! and tokens. All is made when the demo starts; nothing of it is in the repository.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const KID: &str = "airline-1";
const ISSUER: &str = "https://id.airline.example";
const AUDIENCE: &str = "airline";
/// A day of trying things out.
const TOKEN_SECONDS: u64 = 24 * 3600;

pub fn make_certificate(directory: &Path) -> Result<(), String> {
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    write(&directory.join("localhost.key"), &made.signing_key.serialize_pem(), 0o600)?;
    write(&directory.join("localhost.pem"), &made.cert.pem(), 0o644)
}

/// An RSA key to sign tokens with, and its public half as a JWKS document.
pub fn make_keys(directory: &Path) -> Result<(), String> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|error| error.to_string())?;
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(|error| error.to_string())?;
    let public = pair.public_key();
    let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
    let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
    let key = json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, "n": n, "e": e});
    write(&directory.join("signing.key"), &pem("PRIVATE KEY", private.as_ref()), 0o600)?;
    write(&directory.join("jwks.json"), &json!({"keys": [key]}).to_string(), 0o644)
}

/// A token with the demo's issuer and audience and these claims, which may replace them.
pub fn sign(directory: &Path, claims: &str) -> Result<String, String> {
    // Fails when it was done before, which is as good.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let path = directory.join("signing.key");
    let key = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let key = EncodingKey::from_rsa_pem(&key).map_err(|error| error.to_string())?;
    let mut all = json!({"iss": ISSUER, "aud": AUDIENCE, "exp": now() + TOKEN_SECONDS});
    let Value::Object(given) = serde_json::from_str(claims).map_err(|error| format!("claims: {error}"))?
    else {
        return Err("claims: not a JSON object".into());
    };
    for (name, value) in given {
        all[name] = value;
    }
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(KID.into());
    jsonwebtoken::encode(&header, &all, &key).map_err(|error| error.to_string())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// `mode` from the first byte on: a private key is never readable to others, not for a moment.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let _ = fs::remove_file(path);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_has_the_demos_claims() {
        let directory = std::env::temp_dir().join(format!("airline-identity-{}", std::process::id()));
        make_keys(&directory).unwrap();
        let token = sign(&directory, r#"{"sub":"anna","aud":"other"}"#).unwrap();
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            (&claims["iss"], &claims["aud"], &claims["sub"]),
            (&json!(ISSUER), &json!("other"), &json!("anna"))
        );
        assert!(claims["exp"].as_u64().unwrap() > now());
        assert!(sign(&directory, "[]").is_err());
        make_certificate(&directory).unwrap();
        use std::os::unix::fs::PermissionsExt;
        for secret in ["signing.key", "localhost.key"] {
            assert_eq!(fs::metadata(directory.join(secret)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
