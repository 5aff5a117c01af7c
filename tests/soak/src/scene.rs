//! The gateway that is soaked, its upstreams, and what is changed about it on the way.

use crate::crowd;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use witgate_oracles::Seed;
use witgate_test_support::http2::{H2Origin, H2Reply};
use witgate_test_support::origin::say;
use witgate_test_support::{Gateway, Origin, Reply, Setup, guests};

/// What is left over when all clients are gone: the workers' idle upstream connections, a file being read.
const DESCRIPTORS_SLACK: usize = 40;
const SETTLES: Duration = Duration::from_secs(60);

pub struct Scene {
    pub gateway: Gateway,
    /// Works, always.
    pub sound: Origin,
    /// Fails in another way each time.
    pub faulty: Origin,
    /// Answers when all are there.
    pub gate: Origin,
    http2: H2Origin,
    probe: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    pub reloads: u64,
    pub refused: u64,
    pub swaps: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub resident: u64,
    pub descriptors: usize,
    pub threads: usize,
}

impl Scene {
    pub fn start(binary: &str) -> Scene {
        let sound = Origin::start(|seen| {
            let mut body = format!("{} {} ", seen.method, seen.target).into_bytes();
            body.extend_from_slice(&seen.body);
            Reply::with(200, &[], body)
        });
        let fate = Mutex::new(Seed::new(7));
        let faulty = Origin::start(move |_| fail(&mut fate.lock().unwrap()));
        let gate = Origin::start(crowd::at_the_gate);
        let http2 = H2Origin::start(|seen| H2Reply {
            status: 200,
            chunks: vec![seen.body.clone()],
            trailers: vec![("x-trailer", "1".into())],
            ..H2Reply::default()
        });
        let setup = Setup::new(binary).plugin("probe", guests::probe());
        let text = configuration([&sound, &faulty, &gate], &http2, 0);
        let gateway = setup.start(&text);
        Scene { gateway, sound, faulty, gate, http2, probe: std::fs::read(guests::probe()).unwrap() }
    }

    /// One change: another configuration, one that is refused, or another component under the name.
    pub fn change(&self, changes: &mut Changes) {
        // What the origins remember would be the soak's own leak.
        for origin in [&self.sound, &self.faulty, &self.gate] {
            origin.forget();
        }
        self.http2.forget();
        let turn = changes.reloads + changes.refused;
        let text = configuration([&self.sound, &self.faulty, &self.gate], &self.http2, turn);
        match turn % 5 {
            3 => {
                self.gateway
                    .reload_refused(&text.replace("\"upstream\": \"sound\"", "\"upstream\": \"sund\""));
                changes.refused += 1;
            }
            4 => {
                self.gateway.install("probe", &with_section(&self.probe, turn));
                self.gateway.reload(&text);
                changes.swaps += 1;
                changes.reloads += 1;
            }
            _ => {
                self.gateway.reload(&text);
                changes.reloads += 1;
            }
        }
    }

    pub fn look(&self) -> Sample {
        let process = format!("/proc/{}", self.gateway.pid());
        let count = |folder: &str| std::fs::read_dir(format!("{process}/{folder}")).unwrap().count();
        Sample { resident: self.gateway.resident(), descriptors: count("fd"), threads: count("task") }
    }

    /// Waits until the descriptors are about what they were `before` there were clients.
    pub fn settle(&self, before: &Sample) -> bool {
        let end = Instant::now() + SETTLES;
        while self.look().descriptors > before.descriptors + DESCRIPTORS_SLACK {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        true
    }
}

/// `turn` changes a limit, a time-out, and whether there is one API more.
fn configuration(origins: [&Origin; 3], http2: &H2Origin, turn: u64) -> String {
    let [sound, faulty, gate] = origins.map(Origin::url);
    let limit = json!({"plugin": "rate-limit", "config": {"requests": 100_000_000 + turn, "per": "1h", "by": "client"}});
    let probe = json!({"plugin": "probe", "config": {
        "reads": [":path"], "writes": ["x-seen-*"], "request": {"do": "echo", "prefix": "x-seen-"},
    }});
    let upper = json!({"plugin": "probe", "config": {"request_body": "stream"}});
    let mut apis = vec![
        json!({"name": "sound", "path": "/sound", "upstream": "sound", "chain": [limit, probe]}),
        json!({"name": "streamed", "path": "/streamed", "upstream": "sound", "chain": [upper]}),
        json!({"name": "plain", "path": "/plain", "upstream": "sound"}),
        json!({"name": "http2", "path": "/http2", "upstream": "http2", "chain": [{"plugin": "request-id"}]}),
        json!({"name": "faulty", "path": "/faulty", "upstream": "faulty"}),
        json!({"name": "gate", "path": "/gate", "upstream": "gate"}),
        json!({"name": "keyed", "path": "/keyed", "upstream": "sound", "chain": [{"plugin": "api-key"}]}),
    ];
    if turn % 2 == 1 {
        apis.push(json!({"name": "more", "path": "/more", "upstream": "sound"}));
    }
    let config: Value = json!({
        "listeners": [{"name": "public", "address": "127.0.0.1:0", "limits": {"idle": "24h"}}],
        "admin": {"address": "127.0.0.1:0"},
        "access_log": {"enabled": false},
        "server": {"workers": 2, "drain": "5s"},
        "plugins": {"directory": "plugins", "limits": {"time": "2s"}},
        "upstreams": {
            "sound": {"endpoints": [sound], "timeouts": {"response": format!("{}s", 60 + turn % 7)}},
            "http2": {"endpoints": [http2.url()], "protocol": "http2"},
            "faulty": {"endpoints": [faulty], "timeouts": {"response": "500ms", "idle": "500ms"}},
            "gate": {"endpoints": [gate]},
        },
        "apis": apis,
    });
    serde_json::to_string_pretty(&config).unwrap()
}

/// The same component with other bytes: a custom section at its end.
fn with_section(component: &[u8], turn: u64) -> Vec<u8> {
    let mut made = component.to_vec();
    made.extend_from_slice(&[0, 9, 4, b's', b'o', b'a', b'k']);
    made.extend_from_slice(&u32::try_from(turn).unwrap().to_le_bytes());
    made
}

/// One of the ways in which an upstream fails.
fn fail(fate: &mut Seed) -> Reply {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf";
    match fate.below(12) {
        0 => Reply::Close(Vec::new()),
        1 => Reply::Reset(Vec::new()),
        2 => Reply::Close(half.to_vec()),
        3 => Reply::Reset(half.to_vec()),
        4 => Reply::Close(half[..20].to_vec()),
        5 => Reply::raw("not HTTP at all\r\n\r\n"),
        6 => Reply::Close(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel".to_vec()),
        // Longer than the gateway waits.
        7 => Reply::drive(|_| {
            std::thread::sleep(Duration::from_secs(1));
            Ok(())
        }),
        8 => Reply::drive(|stream| {
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab")?;
            std::thread::sleep(Duration::from_secs(1));
            Ok(())
        }),
        9 => Reply::raw(format!(
            "HTTP/1.1 200 OK\r\nx-long: {}\r\ncontent-length: 0\r\n\r\n",
            "x".repeat(100_000)
        )),
        10 => {
            Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        }
        _ => Reply::ok("well for once"),
    }
}
