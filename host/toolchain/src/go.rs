//! Go: bindings in process, `go build` for the core module.

use crate::{Options, Project};
use std::path::Path;

mod support {
    include!(concat!(env!("OUT_DIR"), "/go_support.rs"));
}

/// # Errors
/// As `crate::build`.
pub fn build(_project: &Project, _options: Options, _folder: &Path) -> Result<Vec<u8>, String> {
    let _ = support::FILES;
    Err("not yet".into())
}
