//! What the operating system knows of this process, read at a scrape.
//!
//! Called by the exposition only. Where there is no `/proc`, there are no such metrics.

use std::fs;

/// The kernel's `USER_HZ`, which is 100 in the ABI of every platform the gateway runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
}

impl Process {
    pub(super) fn read() -> Process {
        let text = |path| fs::read_to_string(path).ok();
        Process {
            resident_bytes: text("/proc/self/status").as_deref().and_then(resident_bytes),
            // One of them is the directory being read.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|fds| (fds.count() as u64).saturating_sub(1)),
            cpu_seconds: text("/proc/self/stat").as_deref().and_then(cpu_seconds),
        }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// proc_pid_stat(5): the name is in parentheses and may hold spaces; utime and stime are the
/// 12th and 13th field after it.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12 kB\nThreads:\t1\n"), Some(12 * 1024));
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 1 0 5 100 10";
        assert_eq!(cpu_seconds(stat), Some(4.0));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        for text in
            ["", "VmRSS:", "VmRSS: x kB", "VmRSS: 99999999999999999999 kB", "VmRSS: 18446744073709551615 kB"]
        {
            assert_eq!(resident_bytes(text), None);
        }
        for text in ["", ")", "7 (x) S 1 2", "7 (x) S 1 7 7 0 -1 4194560 100 0 0 0 a b"] {
            assert_eq!(cpu_seconds(text), None);
        }
    }
}
