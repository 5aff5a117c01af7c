//! Who is at the other end of a client's connection, as far as the connection itself tells.
//!
//! Made by `listener` once per connection, read by `exchange`. Never changes afterwards.

use super::forwarded::ForwardedCache;
use std::net::SocketAddr;
use std::sync::Arc;

/// The client's end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The socket's own peer; forwarded fields are `exchange`'s to judge.
    pub address: SocketAddr,
    /// Name of the listener that accepted it.
    pub listener: Arc<str>,
    /// What upstreams are told of this peer, made once.
    pub forwarded: ForwardedCache,
    /// `None` in clear.
    pub tls: Option<PeerTls>,
}

/// What a TLS handshake told.
#[derive(Debug)]
pub struct PeerTls {
    /// SNI, in lower case, without a trailing dot.
    pub server_name: Option<Box<str>>,
    /// Exact and `*.` host patterns (lower case) of the certificate that was chosen for the server
    /// name; `None` without a server name, and for the default certificate, which serves any host.
    pub certificate_hosts: Option<Arc<[Box<str>]>>,
    /// Verified against the listener's `client_auth.ca`.
    pub client_certificate: Option<ClientCertificate>,
}

#[derive(Debug)]
pub struct ClientCertificate {
    /// RFC 4514 text of the subject.
    pub subject: Box<str>,
    /// SHA-256 of the DER, lower-case hexadecimal.
    pub fingerprint: Box<str>,
}
