//! Which header fields a policy may write, and what their values may be.

/// Bytes of the longest value that a gateway takes of a policy.
pub(crate) const VALUE_BYTES_MAX: usize = 64 << 10;

const FRAMING: [&str; 9] = [
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

/// Whether a field says where a message ends or goes, so that the gateway accepts no edit of it.
pub fn is_framing(name: &str) -> bool {
    FRAMING.iter().any(|framing| framing.eq_ignore_ascii_case(name))
}

/// `text` as a field's value: without the white space at its edges, which HTTP/2 forbids (RFC 9113
/// 8.2.1). None if it cannot be one, for a control character or its length. An edit with such a
/// value is a failure of the policy, so whatever a client had a part in must pass here first.
pub fn field_value(text: &str) -> Option<&str> {
    let value = text.trim_matches([' ', '\t']);
    (value.len() <= VALUE_BYTES_MAX && !has_control(value)).then_some(value)
}

/// Whether a character is there that no value may have (RFC 9110 5.5).
pub(crate) fn has_control(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (text, expected) in [
            ("a", Some("a")),
            ("", Some("")),
            (" \ta\tb ", Some("a\tb")),
            ("ä\u{a0}", Some("ä\u{a0}")),
            ("a\r", None),
            ("\n", None),
            ("a\0b", None),
            ("\u{7f}", None),
        ] {
            assert_eq!(field_value(text), expected, "{text:?}");
        }
        assert!(field_value(&"a".repeat(VALUE_BYTES_MAX)).is_some());
        assert!(field_value(&"a".repeat(VALUE_BYTES_MAX + 1)).is_none());
    }
}
