//! The plugins that a configuration can name: files of the directory, then the binary's own.
//!
//! A plugin is loaded when the first policy names it, and taken over from the running snapshot
//! when its bytes are the same. Files that nobody names are not looked into.

use super::Workshop;
use crate::plugin::Plugin;
use crate::plugin::artifact::ContentHash;
use crate::plugin::load::{self, Origin};
use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

pub struct Catalogue {
    directory: Option<PathBuf>,
    running: HashMap<ContentHash, Arc<Plugin>>,
    loaded: BTreeMap<String, Result<Arc<Plugin>, String>>,
}

impl Catalogue {
    pub fn new(directory: Option<PathBuf>, before: Option<&Snapshot>) -> Catalogue {
        let running = before
            .iter()
            .flat_map(|snapshot| &snapshot.policies)
            .map(|policy| (policy.plugin.hash(), policy.plugin.clone()))
            .collect();
        Catalogue { directory, running, loaded: BTreeMap::new() }
    }

    /// The plugin of this name, loaded now if it was not.
    ///
    /// # Errors
    /// Why there is none, or what is wrong with it.
    pub fn get(&mut self, name: &str, workshop: &Workshop) -> Result<Arc<Plugin>, String> {
        if let Some(known) = self.loaded.get(name) {
            return known.clone();
        }
        let loaded = self.load(name, workshop);
        self.loaded.insert(name.to_string(), loaded.clone());
        loaded
    }

    /// Names of everything that could be named.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            witgate_plugins::PLUGINS.iter().map(|plugin| plugin.name.to_string()).collect();
        if let Some(directory) = &self.directory
            && let Ok(entries) = std::fs::read_dir(directory)
        {
            names.extend(entries.filter_map(|entry| {
                let path = entry.ok()?.path();
                (path.extension()? == "wasm").then(|| path.file_stem()?.to_str().map(str::to_string))?
            }));
        }
        names.sort();
        names.dedup();
        names
    }

    /// Those that were loaded, in order of name.
    pub fn used(&self) -> Vec<Arc<Plugin>> {
        self.loaded.values().filter_map(|loaded| loaded.clone().ok()).collect()
    }

    fn load(&self, name: &str, workshop: &Workshop) -> Result<Arc<Plugin>, String> {
        let (origin, bytes) = self.find(name)?;
        let bytes = bytes.as_ref();
        if let Some(plugin) = self.running.get(&ContentHash::of(bytes))
            && plugin.name() == name
            && *plugin.origin() == origin
        {
            return Ok(plugin.clone());
        }
        Plugin::load(name, origin.clone(), bytes, &workshop.artifacts, &workshop.runtime, &workshop.services)
            .map(Arc::new)
            .map_err(|why| match origin {
                Origin::Bundled => format!("plugin `{name}` {why}"),
                Origin::File(path) => format!("plugin `{name}` ({}) {why}", path.display()),
            })
    }

    fn find(&self, name: &str) -> Result<(Origin, std::borrow::Cow<'static, [u8]>), String> {
        // A name is a file name here, never a path.
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if let Some(directory) = self.directory.as_ref().filter(|_| plain) {
            let path = directory.join(format!("{name}.wasm"));
            match load::read(&path) {
                Ok(bytes) => return Ok((Origin::File(path), bytes.into())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(format!("plugin `{name}` cannot be read: {}: {error}", path.display()));
                }
            }
        }
        match witgate_plugins::PLUGINS.iter().find(|plugin| plugin.name == name) {
            Some(plugin) => Ok((Origin::Bundled, plugin.wasm.into())),
            None => Err(format!("no plugin is named `{name}`")),
        }
    }
}
