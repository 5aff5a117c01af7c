//! Who is at the other end of a client's connection, as far as the connection itself tells.
//!
//! Made by `listener` once per connection, read by `exchange`. Never changes afterwards.

use std::net::SocketAddr;
use std::sync::Arc;

/// The client's end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The socket's own peer; forwarded fields are `exchange`'s to judge.
    pub address: SocketAddr,
    /// Name of the listener that accepted it.
    pub listener: Arc<str>,
    /// Index of the listener in the configuration that opened it.
    pub tls: Option<PeerTls>,
}

/// What a TLS handshake told.
#[derive(Debug)]
pub struct PeerTls {
    /// Lower case, as sent.
    pub server_name: Option<Box<str>>,
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
