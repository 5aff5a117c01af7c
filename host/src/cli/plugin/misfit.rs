//! What in a component is of another world than this gateway's: a newer contract, or none of ours.
//!
//! `inspect` and `build` add it to the runtime's own words, which name the first mismatch only.
//! Compares names; types are the runtime's business.

use crate::config::diagnostic;
use wit_component::DecodedWasm;
use wit_parser::WorldItem;

/// Lines told at most: a component of a wholly other world has hundreds of functions.
const LINES_MAX: usize = 12;

/// The world of a component.
///
/// # Errors
/// It has none that can be told. The decoder is made for what generators make, and panics at some of
/// what is valid all the same.
pub fn decode(bytes: &[u8]) -> Result<DecodedWasm, String> {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let decoded = std::panic::catch_unwind(|| wit_component::decode(bytes));
    std::panic::set_hook(told);
    match decoded {
        Ok(decoded) => decoded.map_err(|error| format!("{error:#}")),
        Err(_) => Err("its world cannot be written as WIT".into()),
    }
}

/// What a component imports that is not offered, and exports that is never called; a line each.
pub fn tell(bytes: &[u8]) -> Vec<String> {
    let (Ok(DecodedWasm::Component(theirs, world)), Ok((ours, contract))) =
        (decode(bytes), witgate_toolchain::contract())
    else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let interfaces = &ours.packages[contract].interfaces;
    for (key, item) in &theirs.worlds[world].imports {
        if matches!(item, WorldItem::Type { .. }) {
            continue;
        }
        let full = theirs.name_world_key(key);
        let Some((package, name)) = full.split_once('/') else {
            lines.push(format!("imports `{full}`, which no policy can have"));
            continue;
        };
        let (name, version) = name.split_once('@').unwrap_or((name, ""));
        if package.starts_with("wasi:") {
            continue;
        }
        if package != "witgate:policy" {
            lines.push(format!("imports `{full}`: a gateway offers `witgate:policy` and an empty WASI only"));
            continue;
        }
        let Some(offered) = interfaces.get(name) else {
            let names = interfaces.keys().map(String::as_str);
            lines.push(format!("imports `{full}`, which this gateway does not have{}", nearest(name, names)));
            continue;
        };
        if !version.is_empty() && !version.starts_with("0.1.") {
            lines.push(format!("imports `{full}`: this gateway has the 0.1 track of the contract"));
        }
        let WorldItem::Interface { id, .. } = item else { continue };
        let functions = &ours.interfaces[*offered].functions;
        for function in theirs.interfaces[*id].functions.keys().filter(|name| !functions.contains_key(*name))
        {
            let names = functions.keys().map(String::as_str);
            let near = nearest(function, names);
            lines.push(format!("calls `{name}.{function}`, which this gateway does not have{near}"));
        }
    }
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if !lines.is_empty() {
        lines.push("it was made for another gateway, or for a newer one".into());
    }
    lines
}

fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let near = diagnostic::nearest(name, names);
    near.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_foreign_import_is_named() {
        let component = wat::parse_str(
            r#"(component
                (import "witgate:policy/teleport@0.2.0" (instance (export "go" (func))))
                (import "witgate:policy/env@0.1.9" (instance
                    (export "unix-milis" (func (result u64)))
                    (export "unix-millis" (func (result u64)))))
                (import "acme:cache/store@1.0.0" (instance (export "get" (func))))
                (import "wasi:cli/exit@0.2.6" (instance (export "go" (func))))
                (import "now" (func)))"#,
        )
        .unwrap();
        let expected = [
            "imports `witgate:policy/teleport@0.2.0`, which this gateway does not have",
            "calls `env.unix-milis`, which this gateway does not have; did you mean `unix-millis`?",
            "imports `acme:cache/store@1.0.0`: a gateway offers `witgate:policy` and an empty WASI only",
            "imports `now`, which no policy can have",
            "it was made for another gateway, or for a newer one",
        ];
        assert_eq!(tell(&component), expected);
    }

    #[test]
    fn what_fits_says_nothing() {
        for plugin in witgate_plugins::PLUGINS {
            assert_eq!(tell(plugin.wasm), [""; 0], "{}", plugin.name);
        }
        assert_eq!(tell(b"no component"), [""; 0]);
    }
}
