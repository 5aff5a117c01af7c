//! Every target over its corpus, and over seeded inputs made of its words.
//!
//! A seed that fails is named; `WITGATE_SEED=N` runs that one alone, `WITGATE_TRIES=N` more of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

use std::panic::catch_unwind;
use witgate_oracles::TARGETS;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn replay(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let corpus = target.corpus();
    assert!(corpus.len() >= 3, "{name} has no corpus worth the name");
    for (file, input) in &corpus {
        let run = catch_unwind(|| (target.run)(input));
        assert!(run.is_ok(), "fuzz/corpus/{name}/{file} breaks an oracle");
    }
    let seeds = match number("WITGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WITGATE_TRIES").unwrap_or(target.tries),
    };
    for seed in seeds {
        let input = target.generate(&corpus, seed);
        let run = catch_unwind(|| (target.run)(&input));
        assert!(
            run.is_ok(),
            "{name}: WITGATE_SEED={seed} breaks an oracle: {:?}",
            String::from_utf8_lossy(&input)
        );
    }
}

macro_rules! replays {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            replay($name);
        })*

        #[test]
        fn every_target_is_replayed_and_has_a_program() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),*]);
            let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
            let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
            for name in names {
                let program = std::fs::read_to_string(fuzz.join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
                assert!(program.contains(&format!("run({name:?}, input)")), "{program}");
                assert!(manifest.contains(&format!("name = {name:?}")), "{name}");
            }
        }
    };
}

replays! {
    path: "path",
    query: "query",
    router: "router",
    edit: "edit",
    config: "config",
    keys: "keys",
    token: "token",
    forwarded: "forwarded",
    boundary: "boundary",
    body: "body",
    exchange: "exchange",
    exchange_http2: "exchange-http2",
}
