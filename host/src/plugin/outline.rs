//! What a component is made of, counted before anything is made of it.
//!
//! `load` calls it first: what no plugin needs is refused here by one pass over the sections' heads,
//! before a compiler takes its time with it. Judges sizes only; whether a component is valid is
//! found out where it is compiled.

use super::engine::MEMORY_BYTES_MAX;
use super::guest::TABLE_ELEMENTS_MAX;
use wasmparser::{Parser, Payload};

/// Bounds on one component, all that is in it counted together. Python's, the largest known, has
/// 13,416 functions, the longest of them of 426,843 bytes, 14 modules and 2 components, and Go's has
/// 48,000 items.
const FUNCTIONS_MAX: u64 = 200_000;
const FUNCTION_BYTES_MAX: usize = 2 << 20;
const ITEMS_MAX: u64 = 500_000;
const PARTS_MAX: u64 = 1_000;
const DEPTH_MAX: usize = 16;

#[derive(Default)]
struct Outline {
    functions: u64,
    /// Types, imports, exports, globals, segments, instances, sections, whatever is counted.
    items: u64,
    /// Components and modules.
    parts: u64,
    depth: usize,
}

/// Whether the bytes are a component of a size that a plugin can have.
///
/// # Errors
/// What there is too much of, or why it is no component: to be read behind the plugin's name.
pub(super) fn check(bytes: &[u8]) -> Result<(), String> {
    if Parser::is_core_wasm(bytes) {
        return Err("is a core Wasm module, not a component".into());
    }
    if !Parser::is_component(bytes) {
        return Err("is not WebAssembly".into());
    }
    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(bytes) {
        outline.add(&payload.map_err(|error| format!("is not a whole component: {error}"))?)?;
    }
    Ok(())
}

impl Outline {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), String> {
        self.items += 1;
        match payload {
            Payload::Version { .. } => {
                self.parts += 1;
                self.depth += 1;
            }
            Payload::End(_) => self.depth -= 1,
            Payload::CodeSectionStart { count, .. } => self.functions += u64::from(*count),
            Payload::CodeSectionEntry(body) => {
                // Counted with its section already.
                self.items -= 1;
                within("a function of", body.range().len(), FUNCTION_BYTES_MAX, "bytes")?;
            }
            Payload::MemorySection(memories) => {
                self.items += u64::from(memories.count());
                for memory in memories.clone() {
                    let memory = memory.map_err(|error| format!("is not a whole component: {error}"))?;
                    let page = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    within(
                        "a memory of",
                        memory.initial.saturating_mul(page),
                        MEMORY_BYTES_MAX as u64,
                        "bytes",
                    )?;
                }
            }
            Payload::TableSection(tables) => {
                self.items += u64::from(tables.count());
                for table in tables.clone() {
                    let table = table.map_err(|error| format!("is not a whole component: {error}"))?;
                    within("a table of", table.ty.initial, TABLE_ELEMENTS_MAX as u64, "elements")?;
                }
            }
            Payload::TypeSection(section) => self.items += u64::from(section.count()),
            Payload::ImportSection(section) => self.items += u64::from(section.count()),
            Payload::FunctionSection(section) => self.items += u64::from(section.count()),
            Payload::TagSection(section) => self.items += u64::from(section.count()),
            Payload::GlobalSection(section) => self.items += u64::from(section.count()),
            Payload::ExportSection(section) => self.items += u64::from(section.count()),
            Payload::ElementSection(section) => self.items += u64::from(section.count()),
            Payload::DataSection(section) => self.items += u64::from(section.count()),
            Payload::CoreTypeSection(section) => self.items += u64::from(section.count()),
            Payload::InstanceSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentInstanceSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentAliasSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentTypeSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentCanonicalSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentImportSection(section) => self.items += u64::from(section.count()),
            Payload::ComponentExportSection(section) => self.items += u64::from(section.count()),
            _ => {}
        }
        within("", self.functions, FUNCTIONS_MAX, "functions")?;
        within("", self.items, ITEMS_MAX, "sections and items")?;
        within("", self.parts, PARTS_MAX, "modules and components")?;
        within("components nested", self.depth, DEPTH_MAX, "deep")
    }
}

fn within<N: Ord + std::fmt::Display>(what: &str, found: N, most: N, unit: &str) -> Result<(), String> {
    if found <= most {
        return Ok(());
    }
    let what = if what.is_empty() { String::new() } else { format!("{what} ") };
    Err(format!("has {what}{found} {unit}; at most {most} are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        check(&wat::parse_str(text).unwrap()).unwrap_err()
    }

    #[test]
    fn sizes_are_counted_over_all_that_is_in_it() {
        let half = "(func)".repeat(FUNCTIONS_MAX as usize / 2);
        let two = format!("(component (core module {half}) (component (core module {half})))");
        assert_eq!(check(&wat::parse_str(&two).unwrap()), Ok(()));
        let more = format!("(component (core module {half}) (component (core module {half} (func))))");
        assert_eq!(told(&more), "has 200001 functions; at most 200000 are allowed");
        let modules = "(core module)".repeat(PARTS_MAX as usize);
        assert_eq!(
            told(&format!("(component {modules})")),
            "has 1001 modules and components; at most 1000 are allowed"
        );
        let deep = (0..DEPTH_MAX).fold(String::new(), |inner, _| format!("(component {inner})"));
        assert_eq!(check(&wat::parse_str(&deep).unwrap()), Ok(()));
        assert_eq!(
            told(&format!("(component {deep})")),
            "has components nested 17 deep; at most 16 are allowed"
        );
        let types = "(type string)".repeat(ITEMS_MAX as usize);
        assert!(told(&format!("(component {types})")).contains("sections and items; at most 500000"));
    }

    #[test]
    fn what_it_asks_for_at_the_start_is_bounded() {
        let told = |text: &str| told(&format!("(component (core module {text}))"));
        assert_eq!(
            told("(memory 65536)"),
            "has a memory of 4294967296 bytes; at most 1073741824 are allowed"
        );
        assert_eq!(
            told("(memory i64 281474976710656)"),
            "has a memory of 18446744073709551615 bytes; at most 1073741824 are allowed"
        );
        assert_eq!(told("(table 65537 funcref)"), "has a table of 65537 elements; at most 65536 are allowed");
        let long = "nop ".repeat(FUNCTION_BYTES_MAX);
        assert_eq!(
            told(&format!("(func {long})")),
            "has a function of 2097154 bytes; at most 2097152 are allowed"
        );
    }

    #[test]
    fn what_is_no_component_says_so() {
        let whole = wat::parse_str("(component (core module (func)))").unwrap();
        for end in 8..whole.len() {
            if let Err(why) = check(&whole[..end]) {
                assert!(why.starts_with("is not a whole component"), "{end}: {why}");
            }
        }
        assert!(check(&whole[..whole.len() - 1]).is_err());
        assert_eq!(check(b"\x1f\x8b\x08").unwrap_err(), "is not WebAssembly");
        assert_eq!(
            check(&wat::parse_str("(module)").unwrap()).unwrap_err(),
            "is a core Wasm module, not a component"
        );
    }
}
