//! Compiling a component: in a child process, within bounds that hold whatever the component is.
//!
//! `artifact` calls it for code that it does not have; the child is this same program, and calls
//! `compile`. A component may be written to break its compiler, so the child is the one that runs
//! out of memory, stack or time, and the gateway tells which. Never loads what was compiled.

use super::engine::{self, Allocation, Lines, Runtime};
use rustix::process::{self, Resource, Rlimit, Signal};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use wasmtime::component::Component;

/// What compiling one component may take; StarlingMonkey's 12 MB take 5 s of two cores.
const COMPILE_TIME: Duration = Duration::from_secs(120);
const COMPILE_CPU_SECONDS: u64 = 240;
const COMPILE_MEMORY_BYTES: u64 = 4 << 30;
/// The longest code: Python's 18 MB become 40.
const CODE_BYTES_MAX: u64 = 512 << 20;
/// What the child may say about why it failed.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
/// Workers go first: a quarter of a core that is busy is left for compiling. With 19 it would be a
/// seventieth, and a plugin half a minute in coming.
const NICENESS: i32 = 5;
/// When memory is short, the child is the one to end.
const OOM_SCORE: &[u8] = b"1000";

/// Who compiles.
#[derive(Clone, Debug)]
pub enum Compiler {
    /// This program, called as `PROGRAM compile-component IN OUT MODE LINES PARENT`.
    Child(PathBuf),
    /// The calling thread, without bounds: for components of our own, in tests and tools.
    InProcess,
}

/// What a child process is asked for.
pub(super) struct Order<'a> {
    pub program: &'a Path,
    pub source: &'a Path,
    pub target: &'a Path,
}

impl Order<'_> {
    /// Waits until the code stands in `target`.
    ///
    /// # Errors
    /// Why there is none: a sentence about the component.
    pub fn run(&self, runtime: &Runtime) -> Result<(), String> {
        self.within(runtime.allocation(), runtime.lines(), COMPILE_TIME)
    }

    fn within(&self, allocation: Allocation, lines: Lines, time: Duration) -> Result<(), String> {
        let mode = match allocation {
            Allocation::Pooling => "pooling",
            Allocation::OnDemand => "on-demand",
        };
        let mut child = Command::new(self.program)
            .arg("compile-component")
            .args([self.source, self.target])
            .arg(mode)
            .arg(if lines == Lines::Told { "lines" } else { "no-lines" })
            .arg(std::process::id().to_string())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot be compiled: there is no process for it: {error}"))?;
        let stderr = child.stderr.take();
        let complaint = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut stderr) = stderr {
                let _ = stderr.by_ref().take(COMPLAINT_BYTES_MAX).read_to_end(&mut text);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            String::from_utf8_lossy(&text).trim().to_string()
        });
        let status = wait(&mut child, time)?;
        let complaint = complaint.join().unwrap_or_default();
        if status.success() {
            return Ok(());
        }
        Err(told(status, &complaint))
    }
}

/// The child's end, which is not awaited for longer than `time`.
fn wait(child: &mut Child, time: Duration) -> Result<ExitStatus, String> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => return Ok(status),
            None if started.elapsed() > time => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("takes longer than {time:?} to compile"));
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// What a child that did not compile is told as. One that ended by itself has said why.
fn told(status: ExitStatus, complaint: &str) -> String {
    let signal = status.signal().and_then(Signal::from_named_raw);
    match signal {
        Some(Signal::XCPU) => format!("takes more than {COMPILE_CPU_SECONDS} s of processor time to compile"),
        Some(Signal::XFSZ) => {
            format!(
                "has code that is too long to be kept: more than {CODE_BYTES_MAX} bytes, or than a file may have"
            )
        }
        Some(Signal::ABORT | Signal::SEGV | Signal::BUS)
            if complaint.contains("stack") && !complaint.contains("memory allocation") =>
        {
            "nests so deep that the compiler runs out of stack".into()
        }
        Some(Signal::ABORT | Signal::SEGV | Signal::BUS) => {
            format!("takes more than {} MiB of memory to compile", COMPILE_MEMORY_BYTES >> 20)
        }
        Some(Signal::KILL) => {
            "was not compiled to the end: the compiler was killed, as when memory is short".into()
        }
        _ if complaint.is_empty() => format!("cannot be compiled: the compiler ended with {status}"),
        _ => format!("cannot be compiled: {complaint}"),
    }
}

/// What the child process of `parent` does: reads `source`, writes compiled code to `target`.
///
/// # Errors
/// What is wrong with the component, or with the files.
pub fn compile(
    source: &Path,
    target: &Path,
    (allocation, lines): (Allocation, Lines),
    parent: u32,
) -> Result<(), String> {
    confine(parent)?;
    let bytes = std::fs::read(source).map_err(|error| error.to_string())?;
    let engine = engine::engine(allocation, lines, 1).map_err(|error| format!("{error:#}"))?;
    // Made ready to run as well, so that what no instance can be made of is refused here, in whatever
    // memory that takes.
    let component = Component::new(&engine, &bytes).map_err(|error| format!("{error:#}"))?;
    let code = component.serialize().map_err(|error| format!("{error:#}"))?;
    write_private(target, &code).map_err(|error| unwritable(target, &error))
}

/// Binds this process, its address space apart: what a hostile component could eat is memory, time
/// and disk.
fn confine(parent: u32) -> Result<(), String> {
    let limit = |resource, soft, hard| {
        process::setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) })
            .map_err(|error| format!("the compiler cannot be bounded: {error}"))
    };
    limit(Resource::Data, COMPILE_MEMORY_BYTES, COMPILE_MEMORY_BYTES)?;
    // The first is told by a signal of its own, the second by one that can mean anything.
    limit(Resource::Cpu, COMPILE_CPU_SECONDS, COMPILE_CPU_SECONDS + 1)?;
    limit(Resource::Core, 0, 0)?;
    let longest =
        process::getrlimit(Resource::Fsize).maximum.map_or(CODE_BYTES_MAX, |own| own.min(CODE_BYTES_MAX));
    limit(Resource::Fsize, longest, longest)?;
    // Nobody would use the code of a gateway that is gone.
    process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("the compiler cannot be bound to its gateway: {error}"))?;
    // It may have gone before that.
    let known = process::getppid().is_some_and(|pid| u32::try_from(pid.as_raw_nonzero().get()) == Ok(parent));
    if !known {
        return Err("the gateway that asked for this is gone".into());
    }
    // Both are courtesies to the gateway, and compiling goes on without them.
    let _ = process::nice(NICENESS);
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    Ok(())
}

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> String {
    format!("the code cache cannot be written: {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// What is told when the compiler is this script.
    fn compiled_by(script: &str, time: Duration) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("compiler");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let order = Order { program: &program, source: Path::new("source"), target: Path::new("target") };
        order.within(Allocation::OnDemand, Lines::Untold, time)
    }

    #[test]
    fn a_compiler_that_never_ends_is_ended() {
        let why = compiled_by("exec sleep 1000", Duration::from_millis(50)).unwrap_err();
        assert_eq!(why, "takes longer than 50ms to compile");
        // Nor does one that talks for ever fill anything.
        let why = compiled_by("exec yes >&2", Duration::from_millis(200)).unwrap_err();
        assert_eq!(why, "takes longer than 200ms to compile");
    }

    #[test]
    fn each_end_of_a_compiler_is_told_in_words() {
        for (script, words) in [
            ("kill -XCPU $$", "more than 240 s of processor time"),
            ("kill -XFSZ $$", "code that is too long to be kept"),
            ("echo thread overflowed its stack >&2; kill -ABRT $$", "runs out of stack"),
            ("echo memory allocation of 5 bytes failed >&2; kill -ABRT $$", "more than 4096 MiB of memory"),
            ("kill -SEGV $$", "more than 4096 MiB of memory"),
            ("kill -KILL $$", "the compiler was killed"),
            ("exit 3", "the compiler ended with exit status: 3"),
            ("echo type index out of bounds >&2; exit 1", "cannot be compiled: type index out of bounds"),
        ] {
            let why = compiled_by(script, COMPILE_TIME).unwrap_err();
            assert!(why.contains(words), "{script}: {why}");
        }
        assert_eq!(compiled_by("exit 0", COMPILE_TIME), Ok(()));
    }
}
