//! Listeners of a configuration: settings, and certificates loaded and checked.

use super::{Workshop, refuse};
use crate::config::Report;
use crate::config::model::{Config, Listener};
use crate::connection::Limits;
use crate::listener::{CertificateSettings, ClientAuth, Settings, Tls, TlsSettings};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A listener as the server opens it.
#[derive(Clone)]
pub struct ListenerSpec {
    pub address: SocketAddr,
    pub settings: Settings,
    pub limits: Limits,
    pub tls: Option<Arc<Tls>>,
    /// What `tls` was loaded from, to tell whether it changed.
    pub tls_files: Vec<PathBuf>,
    /// Bytes of a request's body; 0: no bound.
    pub body_bytes: u64,
    /// One exchange; zero: no bound.
    pub request: Duration,
    /// Equal for listeners that need no new sockets and no new certificates.
    pub fingerprint: String,
}

/// `running`: what listeners serve with now.
pub fn compile(
    workshop: &Workshop,
    config: &Config,
    running: &[Arc<Tls>],
    report: &mut Report,
) -> Vec<ListenerSpec> {
    config.listeners.iter().filter_map(|listener| one(workshop, listener, running, report)).collect()
}

fn one(
    workshop: &Workshop,
    listener: &Listener,
    running: &[Arc<Tls>],
    report: &mut Report,
) -> Option<ListenerSpec> {
    let limits = &listener.limits;
    let tls = match &listener.tls {
        None => None,
        Some(written) => {
            let certificate = |c: &crate::config::model::Certificate| CertificateSettings {
                hosts: c.hosts.clone(),
                cert: c.cert.clone(),
                key: c.key.clone(),
            };
            let settings = TlsSettings {
                certificates: written.certificates.iter().map(certificate).collect(),
                client_auth: written
                    .client_auth
                    .as_ref()
                    .map(|auth| ClientAuth { ca: auth.ca.clone(), required: auth.required }),
                http2: listener.http2,
            };
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            match Tls::load(settings, provider, workshop.clock.unix(), running) {
                Ok(tls) => Some(Arc::new(tls)),
                Err(error) => {
                    let named =
                        |c: &&crate::config::model::Certificate| c.cert == error.file || c.key == error.file;
                    let at = written.certificates.iter().find(named).map(|c| &c.at);
                    let at = at.or(written.client_auth.as_ref().map(|auth| &auth.at)).unwrap_or(&listener.at);
                    refuse(report, at, error.to_string());
                    return None;
                }
            }
        }
    };
    let written = &listener.tls;
    Some(ListenerSpec {
        address: listener.address,
        settings: Settings {
            name: listener.name.as_str().into(),
            connections: limits.connections,
            handshake: limits.handshake,
            http2: listener.http2,
        },
        limits: Limits {
            header_bytes: limits.header_bytes,
            header_count: limits.header_count,
            header_read: limits.header_read,
            idle: limits.idle,
            http2_streams: limits.http2_streams,
        },
        tls_files: tls.iter().flat_map(|tls| tls.files().map(PathBuf::from)).collect(),
        tls,
        body_bytes: limits.body_bytes,
        request: limits.request,
        fingerprint: format!(
            "{} {limits:?} {} {:?}",
            listener.name,
            listener.http2,
            written.as_ref().map(|tls| {
                let certificates = tls.certificates.iter().map(|c| (&c.hosts, &c.cert, &c.key));
                let auth = tls.client_auth.as_ref().map(|auth| (&auth.ca, auth.required));
                (certificates.collect::<Vec<_>>(), auth)
            })
        ),
    })
}
