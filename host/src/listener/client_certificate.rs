//! What a verified client certificate says of its owner, as text that is safe in a header.
//!
//! Called by `tls` after a handshake. Never judges a certificate, rustls has; but a session that is
//! resumed brings along what was judged when it began, so whether it is still timely is asked here.

use crate::message::peer::ClientCertificate;
use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt::Write;
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Facts of a client certificate in DER. A subject that cannot be read comes out empty.
pub(super) fn describe(der: &[u8]) -> ClientCertificate {
    let subject = X509Certificate::from_der(der)
        .map(|(_, certificate)| rfc4514(certificate.subject()))
        .unwrap_or_default();
    ClientCertificate { subject: subject.into(), fingerprint: hex(digest(&SHA256, der).as_ref()).into() }
}

/// Whether each certificate of the chain is within its time (RFC 5280, 4.1.2.5). What cannot be read
/// is not.
pub(super) fn is_timely(chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
    let Some(now) = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok())
    else {
        return false;
    };
    chain.iter().all(|der| {
        X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.validity().is_valid_at(now))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// RFC 4514: most specific first, `+` within one name part, everything special escaped. The
/// parser's own text escapes nothing, so that a CN could pose as an OU.
fn rfc4514(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let mut parts: Vec<_> = name.iter_rdn().collect();
    parts.reverse();
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        for (index, attribute) in part.iter().enumerate() {
            if index > 0 {
                text.push('+');
            }
            push_attribute(&mut text, attribute);
        }
    }
    text
}

fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    // The table of RFC 4514 section 3.
    let short = match &*oid {
        "2.5.4.3" => Some("CN"),
        "2.5.4.7" => Some("L"),
        "2.5.4.8" => Some("ST"),
        "2.5.4.10" => Some("O"),
        "2.5.4.11" => Some("OU"),
        "2.5.4.6" => Some("C"),
        "2.5.4.9" => Some("STREET"),
        "0.9.2342.19200300.100.1.25" => Some("DC"),
        "0.9.2342.19200300.100.1.1" => Some("UID"),
        _ => None,
    };
    text.push_str(short.unwrap_or(&oid));
    text.push('=');
    match (short, attribute.as_str()) {
        (Some(_), Ok(value)) => push_escaped(text, value),
        _ => push_ber(text, attribute.attr_value()),
    }
}

fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                text.push('\\');
                text.push(character);
            }
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '#' if index == 0 => text.push_str("\\#"),
            // Bytes in hexadecimal are always allowed, and all that a header can bear.
            _ if character.is_ascii_graphic() || character == ' ' => text.push(character),
            _ => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
        }
    }
}

/// RFC 4514 section 2.4: `#` and the value's encoding, for what has no text form.
fn push_ber(text: &mut String, value: &Any<'_>) {
    text.push('#');
    let length = value.data.len();
    let tag = value.tag().0;
    match (u8::try_from(tag), u8::try_from(length)) {
        (Ok(tag), Ok(length)) if tag < 31 && length < 128 => {
            let _ = write!(text, "{tag:02x}{length:02x}");
        }
        (Ok(tag), _) if tag < 31 => {
            let bytes = length.to_be_bytes();
            let used = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            let _ = write!(text, "{tag:02x}{:02x}{}", 0x80 + used.len(), hex(used));
        }
        // No string type has such a tag.
        _ => return,
    }
    text.push_str(&hex(value.data));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    fn subject(parts: Vec<(DnType, DnValue)>) -> String {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind, value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        describe(certificate.der()).subject.into()
    }

    #[test]
    fn the_most_specific_part_comes_first_and_specials_are_escaped() {
        let text = subject(vec![
            (DnType::CountryName, "DE".into()),
            (DnType::OrganizationName, "A, Inc".into()),
            (DnType::CommonName, "#bob,OU=admin\r\n ü ".into()),
        ]);
        assert_eq!(text, r"CN=\#bob\,OU\=admin\0D\0A \C3\BC\ ,O=A\, Inc,C=DE");
    }

    #[test]
    fn unknown_attributes_come_in_hexadecimal() {
        let text = subject(vec![(DnType::CustomDnType(vec![1, 2, 3, 4]), DnValue::Utf8String("x".into()))]);
        assert_eq!(text, "1.2.3.4=#0c0178");
        let long = DnValue::Utf8String("x".repeat(300));
        let text = subject(vec![(DnType::CustomDnType(vec![1, 2, 3, 4]), long)]);
        assert!(text.starts_with("1.2.3.4=#0c82012c7878"), "{text}");
    }

    #[test]
    fn garbage_has_a_fingerprint_and_no_subject() {
        let facts = describe(b"garbage");
        assert_eq!((&*facts.subject, facts.fingerprint.len()), ("", 64));
    }

    proptest! {
        #[test]
        fn escaped_text_is_graphic_and_unambiguous(value in any::<String>()) {
            let mut text = String::new();
            push_escaped(&mut text, &value);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
            let mut bytes = Vec::new();
            let mut rest = text.bytes();
            while let Some(byte) = rest.next() {
                if byte != b'\\' {
                    prop_assert!(!b",+=;<>\"".contains(&byte));
                    bytes.push(byte);
                    continue;
                }
                let first = rest.next().unwrap();
                match char::from(first).to_digit(16) {
                    Some(high) => {
                        let low = char::from(rest.next().unwrap()).to_digit(16).unwrap();
                        bytes.push(u8::try_from(high * 16 + low).unwrap());
                    }
                    None => bytes.push(first),
                }
            }
            prop_assert_eq!(bytes, value.into_bytes());
        }
    }
}
