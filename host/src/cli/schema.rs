//! `witgate schema`: prints the JSON Schema of the configuration, for editors.

use std::io::{self, Write};

use serde_json::Value;

use crate::config;

/// Prints the schema with those of the plugins (name, schema of their `config`) merged in.
pub fn run(plugins: &[(String, Value)], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:#}", config::schema(plugins))
}
