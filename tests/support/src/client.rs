//! One request on one connection, plain or over TLS, written as it stands.

use crate::certs::Authority;
use crate::raw::{Answer, Connection};
use rustls_pki_types::ServerName;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request { method: method.into(), target: target.into(), headers: Vec::new(), body: None }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
        Request::new("POST", target).body(body)
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With `Content-Length`.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    pub fn bearer(self, token: &str) -> Request {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }

    pub fn send(&self, address: SocketAddr) -> Answer {
        self.send_on(&mut Connection::open(address))
    }

    /// Over TLS, with the name as SNI, trusting `authority`.
    pub fn send_tls(&self, address: SocketAddr, name: &str, authority: &Authority) -> Answer {
        self.send_on(&mut tls(address, name, authority.client(None)))
    }

    pub fn send_on(&self, connection: &mut Connection) -> Answer {
        connection.send(self.bytes());
        let answer = connection.try_answer(self.method == "HEAD");
        answer.unwrap_or_else(|error| panic!("{} {}: no answer ({error})", self.method, self.target))
    }
}

/// A TLS connection, handshake done; panics when it fails.
pub fn tls(address: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> Connection {
    try_tls(address, name, config).unwrap_or_else(|error| panic!("TLS to {name}: {error}"))
}

pub fn try_tls(
    address: SocketAddr,
    name: &str,
    config: Arc<rustls::ClientConfig>,
) -> std::io::Result<Connection> {
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(crate::PATIENCE))?;
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut session = rustls::ClientConnection::new(config, name).unwrap();
    session.complete_io(&mut tcp)?;
    // TLS 1.3: a refused client certificate shows only after the client's own handshake is done.
    let socket = tcp.try_clone()?;
    Ok(Connection::over(Box::new(rustls::StreamOwned::new(session, tcp)), socket))
}

/// The certificate (DER) that a server shows for this name.
pub fn certificate_of(address: SocketAddr, name: &str, config: Arc<rustls::ClientConfig>) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(crate::PATIENCE)).unwrap();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let mut session = rustls::ClientConnection::new(config, name).unwrap();
    session.complete_io(&mut tcp).unwrap();
    session.peer_certificates().unwrap()[0].to_vec()
}
