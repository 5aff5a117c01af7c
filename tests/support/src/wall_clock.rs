//! The wall clock of one gateway, which a test sets at any time, as an administrator or NTP would.
//!
//! By a library of a few lines in C, built on the spot and preloaded: the real binary, only what it
//! is told differs.

use crate::Setup;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

pub struct WallClock(File);

impl WallClock {
    /// Gives a gateway that is still to start a clock of its own; it shows the right time.
    pub fn of(setup: Setup) -> (Setup, WallClock) {
        let [source, library, seconds] = ["clock.c", "clock.so", "clock"].map(|name| setup.path(name));
        std::fs::write(&source, include_str!("wall_clock.c")).unwrap();
        let mut compiler = Command::new("cc");
        let built = compiler.args(["-shared", "-fPIC", "-O", "-o"]).args([&library, &source]).output();
        let built = built.expect("a C compiler, which the gateway's own build needs too");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        std::fs::write(&seconds, 0_i64.to_ne_bytes()).unwrap();
        let setup = setup
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("WITGATE_TEST_CLOCK", seconds.to_str().unwrap());
        (setup, WallClock(File::options().write(true).open(seconds).unwrap()))
    }

    /// Shows so many seconds more than the right time from now on; fewer if negative.
    pub fn set_off(&self, seconds: i64) {
        self.0.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}
