//! Keeps the folder of compiled code within bounds: what was used longest ago goes, and so does what
//! a compiler that was killed left behind.
//!
//! `artifact` calls it when it has put something there, and when it uses what is there. Touches files
//! that have a name as `artifact` gives them, and no others: the folder may hold more than code.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is kept. Python's code is 40 MB, so this is a hundred times that; most others' is below one.
const CODE_FILES_MAX: usize = 2_000;
const CACHE_BYTES_MAX: u64 = 4 << 30;
/// An unfinished file that is older than any compiler gets is nobody's.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Remembers that this code was used just now. On a file system that is read only nothing is.
pub(super) fn used(path: &Path) {
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Removes what is too old or too much. `just` is what was put there last, and stays.
pub(super) fn tidy(directory: &Path, just: &Path) {
    if let Err(error) = within(directory, just, CODE_FILES_MAX, CACHE_BYTES_MAX) {
        tracing::warn!(directory = %directory.display(), %error, "the code cache cannot be tidied");
    }
}

fn within(directory: &Path, just: &Path, files: usize, bytes: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        let (path, Ok(used)) = (entry.path(), metadata.modified()) else { continue };
        match kind(&path, &metadata) {
            Some(true) if path != just => kept.push(Kept { path, bytes: metadata.len(), used }),
            Some(false) if used.elapsed().is_ok_and(|age| age > LEFTOVER_AGE) => remove(&path)?,
            _ => {}
        }
    }
    kept.sort_unstable_by_key(|code| std::cmp::Reverse(code.used));
    let mut total = std::fs::metadata(just).map_or(0, |metadata| metadata.len());
    for (index, code) in kept.iter().enumerate() {
        total = total.saturating_add(code.bytes);
        if index + 1 >= files || total > bytes {
            remove(&code.path)?;
        }
    }
    Ok(())
}

/// Whether a file is code, `Some(true)`, or what stands there while code is made; no other is ours.
fn kind(path: &Path, metadata: &Metadata) -> Option<bool> {
    let name = path.file_name()?.to_str().filter(|_| metadata.is_file())?;
    let (_, rest) = name.split_at_checked(64).filter(|(hash, _)| is_hex(hash, 64))?;
    match rest.split_at_checked(1)? {
        // `HASH-COMPATIBILITY.cwasm`, and `HASH-COMPATIBILITY.RANDOM` before it is whole.
        ("-", rest) => match rest.split_once('.') {
            Some((compatibility, "cwasm")) if is_hex(compatibility, 16) => Some(true),
            Some((compatibility, random)) if is_hex(compatibility, 16) && is_hex(random, 16) => Some(false),
            _ => None,
        },
        // `HASH.RANDOM.wasm`, what a child process reads.
        (".", rest) => rest.strip_suffix(".wasm").filter(|random| is_hex(random, 16)).map(|_| false),
        _ => None,
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Another gateway may have removed it already.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn put(directory: &Path, name: &str, bytes: usize, age: Duration) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, vec![0; bytes]).unwrap();
        File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        path
    }

    fn code(hash: u8) -> String {
        format!("{}-0123456789abcdef.cwasm", format!("{hash:02x}").repeat(32))
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> =
            (1..=5).map(|day| put(folder.path(), &code(day), 10, DAY * u32::from(day))).collect();
        used(&paths[4]);
        let there = || paths.iter().map(|path| path.exists()).collect::<Vec<_>>();
        within(folder.path(), &paths[1], 5, 50).unwrap();
        assert_eq!(there(), [true; 5]);
        within(folder.path(), &paths[1], 4, 50).unwrap();
        assert_eq!(there(), [true, true, true, false, true]);
        within(folder.path(), &paths[1], 4, 29).unwrap();
        assert_eq!(there(), [false, true, false, false, true]);
        // However large it is, what was made just now stays.
        within(folder.path(), &paths[1], 1, 1).unwrap();
        assert_eq!(there(), [false, true, false, false, false]);
    }

    #[test]
    fn what_a_killed_compiler_left_goes_and_what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let hash = "ab".repeat(32);
        let just = put(folder.path(), &code(1), 1, Duration::ZERO);
        let leftovers =
            [format!("{hash}.0123456789abcdef.wasm"), format!("{hash}-0123456789abcdef.fedcba9876543210")];
        let foreign = [
            "notes.txt".into(),
            "mine.wasm".into(),
            format!("{hash}.wasm"),
            format!("{hash}.0123456789abcdef.wasm.bak"),
            format!("{hash}-0123456789abcdef.old"),
            format!("{hash}x0123456789abcdef.cwasm"),
            "ä".repeat(64),
        ];
        for name in leftovers.iter().chain(&foreign) {
            put(folder.path(), name, 1, DAY);
        }
        let fresh = format!("{hash}.aaaaaaaaaaaaaaaa.wasm");
        put(folder.path(), &fresh, 1, Duration::ZERO);
        std::fs::create_dir(folder.path().join(code(2))).unwrap();
        within(folder.path(), &just, 1, 1).unwrap();
        let is_there = |name: &String| folder.path().join(name).exists();
        assert!(!leftovers.iter().any(is_there));
        assert!(foreign.iter().all(is_there));
        assert!(is_there(&fresh) && is_there(&code(2)) && just.exists());
    }
}
