//! Trailers made fit to go on: what belongs into a head never comes in behind the body.
//!
//! Called for each trailer section that the gateway passes on, by `exchange`, a client's and an
//! upstream's. Policies and the gateway judge heads; a server that merges trailers
//! into its fields (RFC 9110, 6.5.1 warns of it) would take there what was refused here. What a
//! chain has to do with besides is taken out by `chain`. Never refuses a message.

use super::forwarded::is_claim;
use super::headers::is_framing;
use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

/// Takes out of a client's trailers what only its head, or a proxy in front, may say, and names
/// with an underscore, as in heads.
pub fn receive_request(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        belongs_to_a_head(name) || is_claim(name.as_str()) || name.as_str().contains('_')
    });
}

/// Takes out of an upstream's trailers what only its head may say.
pub fn receive_response(trailers: &mut HeaderMap) {
    remove(trailers, belongs_to_a_head);
}

/// Takes out every field whose name is one of those.
pub fn remove(trailers: &mut HeaderMap, is_one: impl Fn(&HeaderName) -> bool) {
    let names: SmallVec<[HeaderName; 4]> = trailers.keys().filter(|name| is_one(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

/// RFC 9110, 6.5.1, and the list of RFC 7230, 4.1.2 that it stands for: framing, routing, what
/// modifies a request, authentication, control data of responses, how content is to be read.
/// Digests are made for trailers (RFC 9530).
fn belongs_to_a_head(name: &HeaderName) -> bool {
    let text = name.as_str();
    is_framing(name)
        || text.starts_with("if-")
        || text.starts_with("content-") && text != "content-digest"
        || matches!(
            text,
            "authorization"
                | "cookie"
                | "set-cookie"
                | "www-authenticate"
                | "cache-control"
                | "pragma"
                | "expect"
                | "max-forwards"
                | "range"
                | "age"
                | "expires"
                | "date"
                | "location"
                | "retry-after"
                | "vary"
                | "warning"
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn left(names: &[&'static str], receive: fn(&mut HeaderMap)) -> Vec<String> {
        let mut trailers: HeaderMap =
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("a"))).collect();
        receive(&mut trailers);
        trailers.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn what_a_head_says_does_not_come_behind_the_body() {
        let heads = [
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
            "te",
            "trailer",
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "content-type",
            "content-encoding",
            "if-match",
            "range",
            "expect",
            "location",
        ];
        assert_eq!(left(&heads, receive_request), [""; 0]);
        assert_eq!(left(&heads, receive_response), [""; 0]);
        let claims = ["x-forwarded-for", "forwarded", "x-real-ip", "x-original-url", "x_user"];
        assert_eq!(left(&claims, receive_request), [""; 0]);
        assert_eq!(left(&claims, receive_response), claims);
    }

    #[test]
    fn what_is_made_for_trailers_stays() {
        let names =
            ["grpc-status", "grpc-message", "content-digest", "etag", "server-timing", "x-amz-checksum"];
        assert_eq!(left(&names, receive_request), names);
        assert_eq!(left(&names, receive_response), names);
    }

    proptest! {
        #[test]
        fn nothing_that_frames_a_message_is_ever_left(name in "[a-z_-]{1,20}|content-[a-z]{1,9}|trailer|te") {
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return Ok(()) };
            let mut trailers = HeaderMap::new();
            trailers.append(&name, HeaderValue::from_static("a"));
            trailers.append(&name, HeaderValue::from_static("b"));
            receive_request(&mut trailers);
            prop_assert!(trailers.is_empty() || trailers.len() == 2, "each line or none");
            prop_assert!(trailers.is_empty() || !is_framing(&name) && !name.as_str().contains('_'));
        }
    }
}
