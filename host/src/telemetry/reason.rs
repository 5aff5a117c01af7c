//! Why an exchange ended as it did: one closed list for metrics, access log and problem bodies.
//!
//! Every room maps its own failures to a `Reason`; this file alone maps a reason to its status,
//! its label and whose fault it was. Never holds text about one exchange.

use http::StatusCode;

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody's: an ordinary answer.
    None,
    Client,
    Policy,
    Upstream,
    Gateway,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $status:ident, $fault:ident, $title:literal;)*) => {
        /// Why an exchange ended as it did.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The label of metrics and access log, and the last part of a problem's `type`.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$name => $label,)* }
            }
            /// The status that the gateway answers with; meaningless where somebody else answered.
            pub const fn status(self) -> StatusCode {
                match self { $(Reason::$name => StatusCode::$status,)* }
            }
            pub const fn fault(self) -> Fault {
                match self { $(Reason::$name => Fault::$fault,)* }
            }
            /// The public one-line text of a problem document.
            pub const fn title(self) -> &'static str {
                match self { $(Reason::$name => $title,)* }
            }
        }
    };
}

reasons! {
    /// The upstream answered and its answer was passed on.
    Proxied = "proxied", OK, None, "Proxied";
    /// A policy answered.
    Answered = "answered", OK, None, "Answered by a policy";

    MalformedRequest = "malformed_request", BAD_REQUEST, Client, "The request is malformed";
    PathRefused = "path_refused", BAD_REQUEST, Client, "The path is ambiguous";
    RepeatedHeader = "repeated_header", BAD_REQUEST, Client, "A header that may come once came twice";
    HeaderNotUtf8 = "header_not_utf8", BAD_REQUEST, Client, "A header value is not UTF-8";
    NoRoute = "no_route", NOT_FOUND, Client, "No API is published here";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Client, "The method is not allowed here";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, Client, "The request took too long";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, Client, "The body is too large";
    Misdirected = "misdirected", MISDIRECTED_REQUEST, Client, "This connection does not serve that host";
    HeadersTooLarge = "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Client, "The header fields are too large";
    BodyBroken = "body_broken", BAD_REQUEST, Client, "The body broke off";
    /// The client went away before it had its answer.
    ClientClosed = "client_closed", BAD_REQUEST, Client, "The client closed the connection";

    PolicyError = "policy_error", SERVICE_UNAVAILABLE, Policy, "A policy failed";
    PolicyTrap = "policy_trap", SERVICE_UNAVAILABLE, Policy, "A policy failed";
    PolicyTimeout = "policy_timeout", SERVICE_UNAVAILABLE, Policy, "A policy took too long";
    PolicyMemory = "policy_memory", SERVICE_UNAVAILABLE, Policy, "A policy used too much memory";
    PolicyReturn = "policy_return", SERVICE_UNAVAILABLE, Policy, "A policy failed";
    PolicyQuarantined = "policy_quarantined", SERVICE_UNAVAILABLE, Policy, "A policy is out of service";
    PolicyBusy = "policy_busy", SERVICE_UNAVAILABLE, Policy, "A policy is busy";

    NoHealthyEndpoint = "no_healthy_endpoint", SERVICE_UNAVAILABLE, Upstream, "The service is unavailable";
    ConnectFailed = "connect_failed", BAD_GATEWAY, Upstream, "The service cannot be reached";
    ConnectTimeout = "connect_timeout", GATEWAY_TIMEOUT, Upstream, "The service cannot be reached in time";
    ResponseTimeout = "response_timeout", GATEWAY_TIMEOUT, Upstream, "The service did not answer in time";
    UpstreamReset = "upstream_reset", BAD_GATEWAY, Upstream, "The service broke off";
    UpstreamProtocol = "upstream_protocol", BAD_GATEWAY, Upstream, "The service gave no valid answer";
    UpstreamBodyTooLarge = "upstream_body_too_large", BAD_GATEWAY, Upstream, "The service's answer is too large";
    /// The head had gone out; the client saw an abort.
    ResponseBroken = "response_broken", BAD_GATEWAY, Upstream, "The service's answer broke off";

    NothingAnswers = "nothing_answers", NOT_FOUND, Gateway, "Nothing answers here";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, Gateway, "The gateway is overloaded";
    Internal = "internal", INTERNAL_SERVER_ERROR, Gateway, "The gateway failed";
}

impl Reason {
    /// Index into a table that has an entry for each reason.
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_in_order() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
    }
}
