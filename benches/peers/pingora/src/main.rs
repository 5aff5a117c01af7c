//! The least proxy that pingora makes: one upstream, one thread, no log.
//!
//! Started by `benches/peers/run`: `pingora LISTEN UPSTREAM [CERT KEY]`. With a certificate it
//! speaks TLS; in clear also HTTP/2 with prior knowledge. Never retries, filters or caches.

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::http::RequestHeader;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

struct Proxy {
    upstream: String,
    scheme: &'static str,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(&self.upstream, false, String::new())))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        if let Some(client) = session.client_addr().and_then(|address| address.as_inet()) {
            request.insert_header("x-forwarded-for", client.ip().to_string())?;
        }
        if let Some(host) = request.headers.get("host").cloned() {
            request.insert_header("x-forwarded-host", host)?;
        }
        request.insert_header("x-forwarded-proto", self.scheme)
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, certificate @ ..] = &arguments[..] else {
        eprintln!("usage: pingora LISTEN UPSTREAM [CERT KEY]");
        std::process::exit(2);
    };
    let conf = ServerConf {
        threads: 1,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let scheme = if certificate.is_empty() { "http" } else { "https" };
    let mut service = http_proxy_service(&server.configuration, Proxy { upstream: upstream.clone(), scheme });
    if let [cert, key] = certificate {
        service.add_tls(listen, cert, key).expect("a certificate and its key");
    } else {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        service.app_logic_mut().expect("just made").server_options = Some(options);
        service.add_tcp(listen);
    }
    server.add_service(service);
    server.run_forever();
}
