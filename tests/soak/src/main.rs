//! A gateway under load for minutes or hours, while its configuration, its plugins and its upstreams
//! change and fail: no request is lost, and memory, descriptors and connections stay flat.
//!
//! `make soak` runs it: `witgate-soak BINARY MINUTES [SEED]`. It stops by itself, prints its figures,
//! and ends with 1 if something did not hold. A request is lost if it was for an upstream that works
//! and got anything but its right answer; those for upstreams that are made to fail need only end.

#![allow(clippy::unwrap_used, reason = "a soak that cannot go on fails by panic")]

mod crowd;
mod scene;
mod traffic;

use scene::{Sample, Scene};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use traffic::Tally;

/// Idle connections that stay open from the start to the end.
const IDLE: usize = 10_000;
/// Connections that have a request in flight, all at the same moment.
const ACTIVE: usize = 2_000;
/// Memory may grow so much between the first third and the end: allocators keep some.
const GROWTH_MAX: f64 = 1.15;
const GROWTH_BYTES: u64 = 24 << 20;
/// Between two looks at the process.
const LOOK: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(binary), Some(minutes)) =
        (arguments.first(), arguments.get(1).and_then(|text| text.parse::<f64>().ok()))
    else {
        eprintln!("usage: witgate-soak BINARY MINUTES [SEED]");
        return ExitCode::FAILURE;
    };
    let seed = arguments.get(2).and_then(|text| text.parse().ok()).unwrap_or(1);
    let descriptors = crowd::raise_descriptors();
    // The crowd costs a descriptor here and one there; the active ones another two.
    let idle = IDLE.min(descriptors.saturating_sub(2 * ACTIVE + 2_000) / 2 * 2);
    println!("soak: {minutes} minutes, seed {seed}, {descriptors} descriptors, {idle} idle connections");

    let scene = Arc::new(Scene::start(binary));
    let before = scene.look();
    let mut crowd = crowd::Crowd::gather(scene.gateway.public(), idle);
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let tally = Arc::new(Tally::new());
    let clients = traffic::start(&scene, &tally, end, seed);
    let (changes, samples) = disturb(&scene, &tally, &mut crowd, end);
    for client in clients {
        client.join().unwrap();
    }
    crowd::rush(&scene, ACTIVE, &tally);
    let silent = crowd.count_open();
    drop(crowd);
    let settled = scene.settle(&before);
    let after = scene.look();
    report(
        &Findings { tally: &tally, changes, samples: &samples, before, after, idle, silent, settled },
        minutes,
    )
}

/// Reloads, swaps plugins and looks at the process until the end.
fn disturb(
    scene: &Scene,
    tally: &Tally,
    crowd: &mut crowd::Crowd,
    end: Instant,
) -> (scene::Changes, Vec<Sample>) {
    let (started, mut open) = (Instant::now(), usize::MAX);
    let (mut changes, mut samples) = (scene::Changes::default(), Vec::new());
    let mut next = Instant::now();
    while Instant::now() < end {
        scene.change(&mut changes);
        if Instant::now() >= next {
            samples.push(scene.look());
            next = Instant::now() + LOOK;
            let now = crowd.count_open();
            if now < open {
                println!(
                    "soak: after {:?}, {now} idle connections; {:?}",
                    started.elapsed(),
                    crowd.first_end()
                );
                open = now;
            }
        }
        if tally.lost() > 100 {
            break;
        }
    }
    (changes, samples)
}

struct Findings<'a> {
    tally: &'a Tally,
    changes: scene::Changes,
    samples: &'a [Sample],
    before: Sample,
    after: Sample,
    idle: usize,
    /// Idle connections that were still open at the end.
    silent: usize,
    settled: bool,
}

fn report(found: &Findings<'_>, minutes: f64) -> ExitCode {
    let Findings { tally, changes, samples, before, after, .. } = found;
    println!("\n| soak | |\n| --- | --- |\n| minutes | {minutes} |");
    for (what, count) in tally.counts() {
        println!("| {what} | {count} |");
    }
    println!("| reloads, of them refused on purpose | {}, {} |", changes.reloads, changes.refused);
    println!("| plugins swapped | {} |", changes.swaps);
    println!("| idle connections, open at the end | {}, {} |", found.idle, found.silent);
    println!("| requests lost | {} |", tally.lost());
    let third = samples.len() / 3;
    let mean =
        |part: &[Sample]| part.iter().map(|sample| sample.resident).sum::<u64>() / part.len().max(1) as u64;
    let (early, late) =
        (mean(&samples[third.min(samples.len())..(2 * third).max(third)]), mean(&samples[2 * third..]));
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "| memory: at the start, second third, last third, after | {}, {}, {}, {} MiB |",
        mib(before.resident),
        mib(early),
        mib(late),
        mib(after.resident)
    );
    println!("| descriptors: at the start, after | {}, {} |", before.descriptors, after.descriptors);
    println!("| threads: at the start, after | {}, {} |", before.threads, after.threads);

    let mut wrong = tally.examples();
    if third > 0 && late as f64 > early as f64 * GROWTH_MAX && late > early + GROWTH_BYTES {
        wrong.push(format!("memory grew from {early} to {late} bytes"));
    }
    if !found.settled {
        wrong.push(format!("descriptors did not come back: {before:?}, {after:?}"));
    }
    if found.silent != found.idle {
        wrong.push(format!("{} of {} idle connections were closed", found.idle - found.silent, found.idle));
    }
    for line in &wrong {
        println!("soak: {line}");
    }
    match wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
