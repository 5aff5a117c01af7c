//! Checks what concerns the process and its sockets: `listeners`, `admin`, `server`, `plugins`,
//! `state`, `access_log` and `secrets`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::diagnostic::Diagnostic;
use super::super::model::{
    AccessLog, Admin, Certificate, ClientAuth, Listener, ListenerLimits, NamedSecret, Plugins, Server, State,
    Tls,
};
use super::super::source::Value;
use super::super::units;
use super::keys;
use super::policies::policy_limits;
use super::reader::{Field, Reader, Table};

/// Where nothing valid was written; the model is thrown away then.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

pub(super) fn listeners<'s>(reader: &mut Reader<'s>, root: &Table<'s>) -> Vec<Listener> {
    let Some(fields) = reader.filled_list(root, "listeners") else {
        if root.get("listeners").is_none() {
            reader.missing(
                root,
                "listeners",
                "`listeners: [{ name: public, address: \"0.0.0.0:8080\" }]` or the like",
            );
        }
        return Vec::new();
    };
    let mut names = HashMap::new();
    let mut addresses = HashMap::new();
    let mut listeners = Vec::with_capacity(fields.len());
    for field in &fields {
        let Some(table) = reader.table(field, &keys::LISTENER) else { continue };
        let name = reader.name(&table, units::name, &mut names);
        let address = address(reader, &table, &mut addresses);
        let tls = table.get("tls").and_then(|field| tls(reader, &field));
        let limits = limits(reader, &table);
        let http2 = reader.boolean(&table, "http2", true);
        listeners.push(Listener { at: reader.at(field), name, address, tls, limits, http2 });
    }
    listeners
}

/// The address of a listener or of `admin`, which no other may have.
fn address<'s>(reader: &mut Reader<'s>, table: &Table<'s>, seen: &mut HashMap<String, u32>) -> SocketAddr {
    let address = reader.needed(table, "address", units::address, "an address such as `0.0.0.0:8080`");
    // Port 0 is a new one each time.
    if let (Some(address), Some(field)) =
        (address.filter(|address| address.port() != 0), table.get("address"))
    {
        reader.once(&field, &address.to_string(), "address", seen);
    }
    address.unwrap_or(NOWHERE)
}

fn limits<'s>(reader: &mut Reader<'s>, listener: &Table<'s>) -> ListenerLimits {
    let mut limits = ListenerLimits {
        connections: 20_000,
        header_bytes: 32 << 10,
        header_count: 100,
        header_read: Duration::from_secs(10),
        idle: Duration::from_secs(75),
        request: Duration::ZERO,
        handshake: Duration::from_secs(10),
        body_bytes: 0,
        http2_streams: 128,
    };
    let Some(table) = reader.table_at(listener, "limits", &keys::LISTENER_LIMITS) else { return limits };
    limits.connections = reader.integer(&table, "connections", limits.connections, 1..=10_000_000);
    // Below 8 KiB the HTTP library cannot hold a request line; a mebibyte of fields is an attack.
    if let Some(bytes) = reader.bytes(&table, "header_bytes", 8 << 10..=1 << 20) {
        limits.header_bytes = usize::try_from(bytes).unwrap_or(limits.header_bytes);
    }
    limits.header_count = reader.integer(&table, "header_count", limits.header_count, 1..=10_000);
    limits.header_read = reader.some_duration(&table, "header_read", limits.header_read);
    limits.idle = reader.some_duration(&table, "idle", limits.idle);
    limits.request = reader.duration(&table, "request", limits.request);
    limits.handshake = reader.some_duration(&table, "handshake", limits.handshake);
    limits.body_bytes = reader.bytes(&table, "body_bytes", 0..=1 << 40).unwrap_or(limits.body_bytes);
    limits.http2_streams = reader.integer(&table, "http2_streams", limits.http2_streams, 1..=100_000);
    limits
}

fn tls<'s>(reader: &mut Reader<'s>, field: &Field<'s>) -> Option<Tls> {
    let table = reader.table(field, &keys::TLS)?;
    let expected = "`certificates: [{ cert: api.pem, key: api.key }]` or the like";
    if table.get("certificates").is_none() {
        reader.missing(&table, "certificates", expected);
    }
    let mut hosts_seen = HashMap::new();
    let mut certificates = Vec::new();
    for field in reader.filled_list(&table, "certificates").unwrap_or_default() {
        let Some(table) = reader.table(&field, &keys::CERTIFICATE) else { continue };
        let hosts = reader.units(&table, "hosts", units::host_pattern);
        if let Some(place) = table.get("hosts") {
            for host in &hosts {
                reader.once_said(&place, host, "certificate for one of these hosts", &mut hosts_seen);
            }
        } else {
            reader.once_said(&field, "", "certificate without hosts", &mut hosts_seen);
        }
        let cert = reader.needed_file(&table, "cert", "a PEM file with the certificate and its chain");
        let key = reader.needed_file(&table, "key", "a PEM file with the private key");
        certificates.push(Certificate {
            at: reader.at(&field),
            hosts,
            cert: cert.unwrap_or_default(),
            key: key.unwrap_or_default(),
        });
    }
    let client_auth = table.get("client_auth").and_then(|field| {
        let table = reader.table(&field, &keys::CLIENT_AUTH)?;
        let ca = reader.needed_file(&table, "ca", "a PEM file with the authorities that sign clients");
        let required = reader.word(&table, "mode", false, &[("optional", false), ("required", true)]);
        Some(ClientAuth { at: reader.at(&field), ca: ca?, required })
    });
    Some(Tls { certificates, client_auth })
}

pub(super) fn admin<'s>(reader: &mut Reader<'s>, root: &Table<'s>, listeners: &[Listener]) -> Option<Admin> {
    let field = root.get("admin")?;
    let table = reader.table(&field, &keys::ADMIN)?;
    let mut taken = listeners.iter().map(|it| (it.address.to_string(), it.at.line)).collect();
    let address = address(reader, &table, &mut taken);
    let token_field = table.get("token");
    let token_written = token_field.is_some();
    let token = token_field.and_then(|field| reader.secret(field));
    if let Some(field) = table.get("address")
        && !token_written
        && !address.ip().is_loopback()
    {
        let message =
            format!("{} can be reached from outside, and there is no `token`", reader.shown(&field));
        reader.error(&field, message, "a loopback address such as `127.0.0.1:9901`, or a `token`");
    }
    Some(Admin { at: reader.at(&field), address, token })
}

pub(super) fn server<'s>(reader: &mut Reader<'s>, root: &Table<'s>) -> Server {
    let mut server = Server { workers: None, trusted_proxies: Vec::new(), drain: Duration::from_secs(30) };
    let Some(table) = reader.table_at(root, "server", &keys::SERVER) else { return server };
    let workers = table.get("workers").and_then(|field| reader.whole_number(&field, 1..=1024));
    server.workers = workers.and_then(|number| usize::try_from(number).ok());
    server.drain = reader.duration(&table, "drain", server.drain);
    // An empty list is the default, said aloud.
    for field in reader.list(&table, "trusted_proxies").unwrap_or_default() {
        let Some(network) = reader.unit(&field, units::network) else { continue };
        if network.1 == 0 {
            let at = reader.at(&field);
            reader.push(Diagnostic::warning(
                &at,
                "every client is trusted to say who it is, by `X-Forwarded-For`",
            ));
        }
        server.trusted_proxies.push(network);
    }
    server
}

pub(super) fn plugins<'s>(reader: &mut Reader<'s>, root: &Table<'s>) -> Plugins {
    let mut plugins = Plugins { directory: None, limits: Default::default(), cache: None };
    let Some(table) = reader.table_at(root, "plugins", &keys::PLUGINS) else { return plugins };
    plugins.directory = reader.file(&table, "directory");
    plugins.cache = reader.file(&table, "cache");
    plugins.limits = policy_limits(reader, &table);
    plugins
}

pub(super) fn state<'s>(reader: &mut Reader<'s>, root: &Table<'s>) -> State {
    let Some(table) = reader.table_at(root, "state", &keys::STATE) else { return State { file: None } };
    if let Some(field) = table.get("redis") {
        let at = reader.at_place(field.place, &field.path);
        reader.push(
            Diagnostic::error(&at, "shared state in Redis is not built yet")
                .expecting("`file`, or no `state` at all"),
        );
    }
    State { file: reader.file(&table, "file") }
}

pub(super) fn access_log<'s>(reader: &mut Reader<'s>, root: &Table<'s>) -> AccessLog {
    let Some(field) = root.get("access_log") else { return AccessLog { enabled: true, file: None } };
    if let Value::Bool(enabled) = field.node.value {
        return AccessLog { enabled, file: None };
    }
    if !field.is_map() {
        let message = format!("{} is neither a truth value nor a map", reader.shown(&field));
        reader.error(&field, message, "`true`, `false` or `{ file: access.log }`");
        return AccessLog { enabled: true, file: None };
    }
    match reader.table(&field, &keys::ACCESS_LOG) {
        Some(table) => {
            AccessLog { enabled: reader.boolean(&table, "enabled", true), file: reader.file(&table, "file") }
        }
        None => AccessLog { enabled: true, file: None },
    }
}

pub(super) fn secrets<'s>(reader: &mut Reader<'s>, root: &Table<'s>) -> Vec<NamedSecret> {
    let mut secrets = Vec::new();
    for (name, field) in reader.named(root, "secrets") {
        let at = reader.at_place(field.place, &field.path);
        if let Some(value) = reader.secret(field) {
            secrets.push(NamedSecret { at, name, value });
        }
    }
    secrets
}
