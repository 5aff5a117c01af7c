//! From the tree of a file to the model: keys, types, units, names, references, contradictions.
//!
//! Called by `config::load`. Finds all mistakes of a file in one run. Knows the file only: whether
//! a plugin exists, takes its configuration, or a certificate can be read, is found by `compile`.

mod advice;
mod apis;
mod consumers;
pub(super) mod keys;
mod listeners;
mod policies;
mod reader;
mod upstreams;

use super::diagnostic::Report;
use super::model::Config;
use super::source::Source;
use policies::Declared;
use reader::{Field, Names, Reader};

/// The model, or all that is wrong; warnings beside the model.
pub(super) fn check(source: &Source) -> Result<(Config, Report), Report> {
    let mut report = Report::new(Some(source.listing.clone()), source.files.clone());
    for mistake in &source.mistakes {
        report.push(mistake.clone());
    }
    let mut reader = Reader { source, report };
    let Some(root) = reader.table(&Field::root(&source.root), &keys::ROOT) else {
        return Err(reader.report);
    };
    let names = |key: &str| source.root.get(key);
    let declared = Declared {
        upstreams: Names::of_map(names("upstreams")),
        policies: Names::of_map(names("policies")),
        secrets: Names::of_map(names("secrets")),
    };
    let listeners = listeners::listeners(&mut reader, &root);
    let config = Config {
        admin: listeners::admin(&mut reader, &root, &listeners),
        server: listeners::server(&mut reader, &root),
        plugins: listeners::plugins(&mut reader, &root),
        state: listeners::state(&mut reader, &root),
        access_log: listeners::access_log(&mut reader, &root),
        secrets: listeners::secrets(&mut reader, &root),
        upstreams: upstreams::upstreams(&mut reader, &root),
        policies: policies::policies(&mut reader, &root, &declared),
        apis: apis::apis(&mut reader, &root, &declared, &Names::of_list(names("listeners"))),
        products: consumers::products(&mut reader, &root, &Names::of_list(names("apis"))),
        consumers: consumers::consumers(&mut reader, &root, &Names::of_list(names("products"))),
        listeners,
    };
    let mut report = reader.report;
    if report.errors() > 0 {
        return Err(report);
    }
    advice::advise(&config, &mut report);
    Ok((config, report))
}
