//! Hostile input: what is thrown at the gateway's parsers and judges, and what must then hold.
//!
//! A [`Target`] takes any bytes and panics if something that must hold does not: no other panic, no
//! two readings of one input. `tests/replay.rs` runs every target over its corpus and over seeded
//! inputs, as part of `make test`; the programs in `fuzz/` give it to libFuzzer. An oracle is written
//! anew from the RFCs or from what the documents promise, and never calls what it judges to find out
//! what is right.

#![allow(clippy::unwrap_used, reason = "a target fails by panic")]

mod config;
mod edit;
mod exchange;
mod forwarded;
mod gateway;
mod http1;
mod path;
mod policy;
mod router;
mod seed;
mod token;

use std::path::{Path, PathBuf};

pub use seed::Seed;

/// Something that takes bytes from outside.
pub struct Target {
    /// Of its program in `fuzz/fuzz_targets` and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Panics if an oracle is broken.
    pub run: fn(&[u8]),
    /// What its inputs are made of, so that random ones get past the first check.
    pub words: &'static [&'static str],
    /// Seeded inputs that `make test` tries; fewer where one costs a connection.
    pub tries: u64,
}

pub const TARGETS: &[Target] = &[
    Target { name: "path", run: path::path, words: path::PATH_WORDS, tries: 20_000 },
    Target { name: "query", run: path::query, words: path::QUERY_WORDS, tries: 5_000 },
    Target { name: "router", run: router::run, words: router::WORDS, tries: 2_000 },
    Target { name: "edit", run: edit::run, words: edit::WORDS, tries: 5_000 },
    Target { name: "config", run: config::run, words: config::WORDS, tries: 200 },
    Target { name: "keys", run: token::keys, words: token::KEY_WORDS, tries: 2_000 },
    Target { name: "token", run: token::token, words: token::TOKEN_WORDS, tries: 5_000 },
    Target { name: "forwarded", run: forwarded::run, words: forwarded::WORDS, tries: 5_000 },
    Target { name: "boundary", run: policy::boundary, words: policy::BOUNDARY_WORDS, tries: 500 },
    Target { name: "body", run: policy::body, words: policy::BODY_WORDS, tries: 300 },
    Target { name: "exchange", run: exchange::http1, words: exchange::HTTP1_WORDS, tries: 300 },
    Target { name: "exchange-http2", run: exchange::http2, words: exchange::HTTP2_WORDS, tries: 60 },
];

/// Runs the target of this name; what the programs in `fuzz/` call.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target is called {name}")).run)(input);
}

impl Target {
    /// Where its corpus lies.
    pub fn corpus_folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(self.name)
    }

    /// Its checked-in inputs with their files' names, in order.
    pub fn corpus(&self) -> Vec<(String, Vec<u8>)> {
        let folder = self.corpus_folder();
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut all: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
            })
            .collect();
        all.sort();
        all
    }

    /// An input that is made of the target's words and of pieces of its corpus.
    pub fn generate(&self, corpus: &[(String, Vec<u8>)], seed: u64) -> Vec<u8> {
        let mut seed = Seed::new(seed);
        if corpus.is_empty() || seed.below(3) == 0 {
            let mut made = Vec::new();
            for _ in 0..=seed.below(24) {
                self.piece(&mut seed, &mut made);
            }
            return made;
        }
        let mut made = seed.pick(corpus).1.clone();
        for _ in 0..=seed.below(4) {
            let from = seed.below(made.len() as u64 + 1) as usize;
            let to = (from + seed.below(8) as usize).min(made.len());
            let mut piece = Vec::new();
            match seed.below(4) {
                0 => {}
                1 => piece.extend_from_slice(&made[from..to].repeat(2)),
                2 => {
                    self.piece(&mut seed, &mut piece);
                    piece.extend_from_slice(&made[from..to]);
                }
                _ => self.piece(&mut seed, &mut piece),
            }
            made.splice(from..to, piece);
        }
        made
    }

    fn piece(&self, seed: &mut Seed, made: &mut Vec<u8>) {
        match seed.below(16) {
            0 => made.push(seed.below(256) as u8),
            _ => made.extend_from_slice(seed.pick(self.words).as_bytes()),
        }
    }
}
