//! From a component's bytes to a plugin: compiled, linked, its exports checked, its schema read.
//!
//! `compile` calls it for the plugins that a configuration names. A component that does not fit is
//! refused here with the name of the function that is missing or of another type. Never runs a
//! hook.

use super::artifact::{Artifacts, ContentHash, WASM_BYTES_MAX};
use super::block;
use super::engine::Runtime;
use super::exports::{Exports, Places};
use super::failure::Failure;
use super::guest::Guest;
use super::imports;
use super::instance::{Instance, bound};
use super::outline;
use super::policy::{About, Grants, Services, block_on};
use super::schema::Schema;
use super::ticker::Ticker;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wasmtime::component::{Component, InstancePre, types::ComponentItem};

/// Where a plugin came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Inside the gateway's own binary.
    Bundled,
    File(PathBuf),
}

pub struct Plugin {
    name: Arc<str>,
    hash: ContentHash,
    origin: Origin,
    bytes: usize,
    pub(super) places: Places,
    /// The types of its hooks were found to be the contract's.
    checked: AtomicBool,
    imports: Vec<String>,
    schema: Schema,
    needs_fiber: bool,
    wants_facts: bool,
    lends_block: bool,
    pub(super) ticker: Arc<Ticker>,
    pub(super) pre: InstancePre<Guest>,
}

/// Bounds on the instance that is asked for its schema only.
const SCHEMA_MEMORY_BYTES: usize = 128 << 20;
const SCHEMA_TIME: Duration = Duration::from_millis(200);

/// The bytes of a component's file.
///
/// # Errors
/// There is no such file, or it is none: a pipe would hold up every reload, a device has no end, and
/// a file that is too long is not read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = crate::file::open(path)?;
    if let Err(why) = fits(file.metadata()?.len()) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it {why}")));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read: one byte more than allowed, so that this is seen.
    file.take(WASM_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The component of `bytes`, compiled now or earlier. Blocks for as long as compiling takes.
///
/// # Errors
/// Why it does not compile, or is not tried: to be read behind the plugin's name.
pub fn component(
    bytes: &[u8],
    artifacts: &Artifacts,
    runtime: &Runtime,
) -> Result<(ContentHash, Component), String> {
    fits(bytes.len() as u64)?;
    outline::check(bytes)?;
    let hash = ContentHash::of(bytes);
    artifacts.component(runtime, hash, bytes).map(|component| (hash, component))
}

fn fits(bytes: u64) -> Result<(), String> {
    match bytes > WASM_BYTES_MAX {
        true => Err(format!("has {bytes} bytes; at most {WASM_BYTES_MAX} are allowed")),
        false => Ok(()),
    }
}

impl Plugin {
    /// Loads the component in `bytes`. Blocks for as long as compiling takes.
    ///
    /// # Errors
    /// Why the component does not fit, naming what is missing or mismatched.
    pub fn load(
        name: &str,
        origin: Origin,
        bytes: &[u8],
        artifacts: &Artifacts,
        runtime: &Runtime,
        services: &Arc<Services>,
    ) -> Result<Plugin, String> {
        Plugin::made(name, origin, bytes, artifacts, runtime, services).map_err(|mut why| {
            // It may quote names of the component's own, of any length.
            bound(&mut why);
            why
        })
    }

    fn made(
        name: &str,
        origin: Origin,
        bytes: &[u8],
        artifacts: &Artifacts,
        runtime: &Runtime,
        services: &Arc<Services>,
    ) -> Result<Plugin, String> {
        let (hash, component) = component(bytes, artifacts, runtime)?;
        let ty = component.component_type();
        let engine = runtime.engine();
        let imports: Vec<String> = ty.imports(engine).map(|(name, _)| name.to_string()).collect();
        let pre = imports::linker(runtime)
            .and_then(|linker| linker.instantiate_pre(&component))
            .map_err(|error| format!("does not fit this gateway: {error:#}"))?;
        let places = Places::find(&component)?;
        let mut plugin = Plugin {
            name: name.into(),
            hash,
            origin,
            bytes: bytes.len(),
            places,
            checked: AtomicBool::new(false),
            needs_fiber: ty.imports(engine).any(|(name, item)| suspends(name, item.ty, engine)),
            wants_facts: imports.iter().any(|import| {
                ["http-client", "jwt", "consumers", "message"].iter().any(|name| is_of(import, name))
            }),
            lends_block: block::is_lent(bytes),
            imports,
            schema: Schema::read("")?,
            ticker: runtime.ticker().clone(),
            pre,
        };
        // Types are checked on the way, so that a hook of the wrong type is named before a missing one.
        plugin.schema = plugin.read_schema(services)?;
        if plugin.exports() == Exports::default() {
            return Err("exports no hook: nothing would ever call it".into());
        }
        Ok(plugin)
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn hash(&self) -> ContentHash {
        self.hash
    }
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
    pub fn bytes(&self) -> usize {
        self.bytes
    }
    pub fn exports(&self) -> Exports {
        self.places.exports()
    }
    pub fn imports(&self) -> &[String] {
        &self.imports
    }
    /// The JSON Schema (2020-12) of its configuration; `true` where it takes any.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
    /// Whether its host calls can suspend it.
    pub fn needs_fiber(&self) -> bool {
        self.needs_fiber
    }
    pub fn wants_facts(&self) -> bool {
        self.wants_facts
    }
    pub(super) fn lends_block(&self) -> bool {
        self.lends_block
    }

    /// Whether an instance's hooks were found to have the contract's types, so that no other needs
    /// that check.
    pub(super) fn is_checked(&self) -> bool {
        self.checked.load(Ordering::Acquire)
    }

    pub(super) fn set_checked(&self) {
        self.checked.store(true, Ordering::Release);
    }

    fn read_schema(&self, services: &Arc<Services>) -> Result<Schema, String> {
        let about = Arc::new(About { label: self.name.clone(), grants: Grants::default() });
        let guest = Guest::new(about, services.clone(), SCHEMA_MEMORY_BYTES);
        let text = block_on(async {
            let mut instance = Instance::new(self, guest, self.needs_fiber, SCHEMA_TIME).await?;
            instance.config_schema().await
        })?
        .map_err(|failure| match failure {
            Failure::Instance(text) => format!("does not fit this gateway: {text}"),
            failure => format!("gives no configuration schema: it {failure}"),
        })?;
        Schema::read(&text)
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("name", &self.name).field("hash", &self.hash).finish_non_exhaustive()
    }
}

pub(super) fn is_of(import: &str, interface: &str) -> bool {
    import
        .strip_prefix("witgate:policy/")
        .and_then(|rest| rest.strip_prefix(interface))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
}

/// Whether an import has a host function that can suspend its guest.
fn suspends(import: &str, item: ComponentItem, engine: &wasmtime::Engine) -> bool {
    if is_of(import, "http-client") || import.starts_with("wasi:") {
        return true;
    }
    let ComponentItem::ComponentInstance(interface) = item else { return false };
    is_of(import, "crypto") && interface.exports(engine).any(|(name, _)| name == "verify-password")
}
