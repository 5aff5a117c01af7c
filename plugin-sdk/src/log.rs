//! The policy's own log lines, in the gateway's log: `witgate::log::warn!("…")`.
//!
//! A line below the level that the gateway writes is not even formatted.

use std::cell::Cell;

use crate::host::log;

pub use crate::bindings::imports::witgate::policy::log::Level;

/// Whether lines of this level are written anywhere.
pub fn enabled(level: Level) -> bool {
    level as u8 >= max_level() as u8
}

/// Writes a line, whatever its level; the macros ask first.
pub fn write(level: Level, message: &str) {
    log::write(level, message);
}

/// The host fixes it for the life of the instance, so that it is asked once.
fn max_level() -> Level {
    thread_local! { static MAX: Cell<Option<Level>> = const { Cell::new(None) } }
    MAX.get().unwrap_or_else(|| {
        let level = log::max_level();
        MAX.set(Some(level));
        level
    })
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($text:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, &::std::format!($($text)+));
        }
    };
}

macro_rules! level_macro {
    ($dollar:tt $name:ident $hidden:ident $level:ident) => {
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $hidden {
            ($dollar($text:tt)+) => {
                $crate::__log!($level, $dollar($text)+)
            };
        }
        pub use $hidden as $name;
    };
}

level_macro!($ trace __log_trace Trace);
level_macro!($ debug __log_debug Debug);
level_macro!($ info __log_info Info);
level_macro!($ warn __log_warn Warn);
level_macro!($ error __log_error Error);
