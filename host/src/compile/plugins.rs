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
use std::time::{Duration, Instant};

/// What loading all plugins of a configuration may take: each may take its time to compile, and there
/// may be many.
const LOADING_TIME: Duration = Duration::from_secs(600);

pub struct Catalogue {
    directory: Option<PathBuf>,
    running: HashMap<ContentHash, Arc<Plugin>>,
    loaded: BTreeMap<String, Result<Arc<Plugin>, String>>,
    time_left: Duration,
}

impl Catalogue {
    pub fn new(directory: Option<PathBuf>, before: Option<&Snapshot>) -> Catalogue {
        let running = before
            .iter()
            .flat_map(|snapshot| &snapshot.policies)
            .map(|policy| (policy.plugin.hash(), policy.plugin.clone()))
            .collect();
        Catalogue { directory, running, loaded: BTreeMap::new(), time_left: LOADING_TIME }
    }

    /// The plugin of this name, loaded now if it was not.
    ///
    /// # Errors
    /// Why there is none, or what is wrong with it.
    pub fn get(&mut self, name: &str, workshop: &Workshop) -> Result<Arc<Plugin>, String> {
        if let Some(known) = self.loaded.get(name) {
            return known.clone();
        }
        if self.time_left.is_zero() {
            // What was compiled by now is kept, so that the next try gets further.
            let limit = LOADING_TIME.as_secs();
            return Err(format!(
                "plugin `{name}` is not loaded: those before it have taken {limit} s already"
            ));
        }
        let started = Instant::now();
        let loaded = self.load(name, workshop);
        self.time_left = self.time_left.saturating_sub(started.elapsed());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::plugin::artifact::{Artifacts, Compiler};

    #[test]
    fn plugins_that_take_too_long_together_leave_no_time_for_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let text = "listeners: [{ name: public, address: '127.0.0.1:0' }]\napis: [{ name: a, path: /a, chain: [{ plugin: cors }] }]";
        let loaded = config::load_text(&folder.path().join("witgate.yaml"), text.into());
        let loaded = loaded.unwrap_or_else(|report| panic!("{report}"));
        let control =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut workshop = crate::server::workshop(&loaded.config, 1, control.handle()).unwrap();
        workshop.artifacts = Artifacts::open(folder.path().join("cache"), Compiler::InProcess).unwrap();
        let mut catalogue = Catalogue::new(None, None);
        catalogue.time_left = Duration::from_nanos(1);
        assert!(catalogue.get("request-id", &workshop).is_ok(), "the first has all that is left");
        let why = catalogue.get("cors", &workshop).map(drop).unwrap_err();
        assert_eq!(why, "plugin `cors` is not loaded: those before it have taken 600 s already");
        assert!(catalogue.get("request-id", &workshop).is_ok(), "what is loaded is loaded");
    }
}
