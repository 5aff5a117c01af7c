//! The first-party policies as components, built by `build.rs` from the crates beside this one.
//!
//! The gateway loads them as if they lay in its plugin directory; a file of the same name there
//! wins. Never looks into them.

/// A component that ships with the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Bundled {
    /// The plugin's name in configurations: its directory in `plugins/`.
    pub name: &'static str,
    pub wasm: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

#[cfg(test)]
mod tests {
    use wit_component::DecodedWasm;

    use super::*;

    /// The names of what a component imports and exports.
    fn world(plugin: &Bundled) -> (Vec<String>, Vec<String>) {
        let decoded = wit_component::decode(plugin.wasm).expect("a component");
        let DecodedWasm::Component(resolve, world) = decoded else { panic!("{}: no component", plugin.name) };
        let world = &resolve.worlds[world];
        let names = |keys: Vec<_>| keys.into_iter().map(|key| resolve.name_world_key(key)).collect();
        (names(world.imports.keys().collect()), names(world.exports.keys().collect()))
    }

    #[test]
    fn each_exports_its_hooks_and_nothing_else() {
        let hooks: Vec<(&str, String)> = PLUGINS
            .iter()
            .map(|plugin| {
                let (_, mut exports) = world(plugin);
                exports.retain(|export| !["config-schema", "configure"].contains(&export.as_str()));
                exports.sort();
                (plugin.name, exports.join(" "))
            })
            .collect();
        let expected = [
            ("aggregate", "on-request"),
            ("api-key", "on-request"),
            ("cors", "on-request on-response"),
            ("header-rewrite", "on-request on-response"),
            ("ip-filter", "on-request"),
            ("jwt", "on-request"),
            ("rate-limit", "on-request on-response"),
            ("request-id", "on-request on-response"),
        ];
        assert_eq!(hooks, expected.map(|(name, hooks)| (name, hooks.to_string())));
    }

    /// The host calls hooks of components that import `http-client` in a dearer way, and satisfies
    /// WASI only for those that want it.
    #[test]
    fn each_imports_what_it_uses_and_no_wasi() {
        for plugin in PLUGINS {
            let (imports, _) = world(plugin);
            let calls_out = imports.iter().any(|import| import.starts_with("witgate:policy/http-client@"));
            assert_eq!(calls_out, plugin.name == "aggregate", "{}: {imports:?}", plugin.name);
            for import in imports {
                assert!(!import.starts_with("wasi"), "{}: {import}", plugin.name);
            }
        }
    }

    /// Measured at 160 to 310 KB, a third of it the schemas. Much more would be a dependency that
    /// nobody meant to add.
    #[test]
    fn each_is_small() {
        for plugin in PLUGINS {
            assert!(plugin.wasm.len() < 400_000, "{}: {} bytes", plugin.name, plugin.wasm.len());
        }
    }
}
