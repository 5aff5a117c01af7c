//! What a trap says: its cause, and the guest's stack by names of functions.
//!
//! `instance` calls it, for the log and for trials. Source lines are there where the component
//! carries them (DWARF: `witgate plugin build --debug`). Bounded, since names are the guest's own.

use std::fmt::Write;
use wasmtime::{FrameInfo, Trap, WasmBacktrace};

/// Bytes of one name that are kept; generic code has names of any length.
const NAME_BYTES_MAX: usize = 160;
/// Longer ones are shown as they are.
const MANGLED_BYTES_MAX: usize = 4 << 10;

/// A line for the cause and one for each frame, of which the runtime keeps the innermost twenty.
pub(super) fn tell(error: &wasmtime::Error) -> String {
    let cause = match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    let mut text = super::instance::told(&cause);
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    for frame in frames {
        tell_frame(&mut text, frame);
    }
    text
}

/// The function, or those that the compiler made one of it, innermost first.
fn tell_frame(text: &mut String, frame: &FrameInfo) {
    let index = || format!("function {}", frame.func_index());
    if frame.symbols().is_empty() {
        let _ = write!(text, "\n    at {}", frame.func_name().map_or_else(index, demangled));
    }
    for symbol in frame.symbols() {
        let _ =
            write!(text, "\n    at {}", symbol.name().or(frame.func_name()).map_or_else(index, demangled));
        if let Some(file) = symbol.file() {
            let _ = write!(text, " ({}", shortened(file));
            for number in [symbol.line(), symbol.line().and(symbol.column())].into_iter().flatten() {
                let _ = write!(text, ":{number}");
            }
            text.push(')');
        }
    }
}

fn demangled(name: &str) -> String {
    if name.len() > MANGLED_BYTES_MAX {
        return shortened(name);
    }
    // A few hundred bytes can stand for gigabytes of a name, so whoever writes it is stopped.
    let mut kept = Beginning::default();
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        let _ = write!(kept, "{rust:#}");
    } else if let Ok(cpp) = cpp_demangle::Symbol::new(name) {
        let _ = cpp.structured_demangle(&mut kept, &cpp_demangle::DemangleOptions::default());
    }
    shortened(if kept.0.is_empty() { name } else { &kept.0 })
}

/// Takes a little more than is shown of a name, and then nothing.
#[derive(Default)]
struct Beginning(String);

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend(text.chars().take(NAME_BYTES_MAX));
        if self.0.len() > NAME_BYTES_MAX { Err(std::fmt::Error) } else { Ok(()) }
    }
}

fn shortened(name: &str) -> String {
    let mut name: String =
        name.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    if name.len() > NAME_BYTES_MAX {
        let end = (0..=NAME_BYTES_MAX).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
        name.truncate(end);
        name.push('…');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Engine, Instance, Module, Store};

    fn trap(wat: &str) -> String {
        let engine = Engine::default();
        let module = Module::new(&engine, wat::parse_str(wat).unwrap()).unwrap();
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").unwrap();
        tell(&run.call(&mut store, ()).unwrap_err())
    }

    #[test]
    fn the_cause_stands_before_the_stack() {
        let told = trap(
            r#"(module
                (func $_RNvC6policy7refused unreachable)
                (func $_ZN6Policy5checkEv call 0)
                (func (export "run") call 1))"#,
        );
        let expected = "wasm trap: wasm `unreachable` instruction executed\n    at policy::refused\n    \
                        at Policy::check()\n    at function 2";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_deep_stack_and_long_names_are_cut() {
        let told = trap(&format!(r#"(module (func ${} (export "run") call 0))"#, "x".repeat(9_999)));
        assert!(told.starts_with("wasm trap: call stack exhausted\n    at xxx"), "{told}");
        assert_eq!(told.lines().count(), 1 + 20);
        assert!(told.lines().all(|line| line.len() < NAME_BYTES_MAX + 20));
    }

    #[test]
    fn a_name_that_stands_for_gigabytes_is_cut_before_it_is_written() {
        let digit = |number: u32| char::from_digit(number, 36).unwrap().to_ascii_uppercase();
        let mut name = String::from("_Z1f1a1pIS_S_E");
        // Each type is a pair of the one before: 2^34 of `a`.
        for number in 1..35 {
            name += &format!("S0_IS{0}_S{0}_E", digit(number));
        }
        let told = demangled(&name);
        assert!(told.starts_with("f(a, p<a, a>, p<p<a, a>, p<a, a> >"), "{told}");
        assert!(told.len() <= NAME_BYTES_MAX + 3, "{told}");
        assert_eq!(demangled(&name.repeat(20)).len(), NAME_BYTES_MAX + 3);
    }
}
