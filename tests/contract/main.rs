//! Holds `docs/contract.md` to `wit/policy.wit`: the page is made from it, and this says when it must
//! be made again: `WITGATE_WRITE=1 cargo test -p witgate --test contract`.

#![allow(clippy::unwrap_used, reason = "tests fail by panic")]

mod words;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use wit_parser::{Docs, FunctionKind, Interface, Resolve, TypeDefKind, TypeId, World, WorldItem};
use words::{signature, ty};

const HEAD: &str = "# The contract, `witgate:policy`

Made from [`wit/policy.wit`](../wit/policy.wit). What a policy exports stands in the
[worlds](#worlds); what it may import, in the interfaces before them. `witgate plugin new` writes a
policy for one of the worlds, in the language that you name.

";

#[test]
fn the_page_is_that_of_the_contract() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("contract.md");
    let made = page();
    if std::env::var_os("WITGATE_WRITE").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap();
    assert!(there == made, "docs/contract.md is old: WITGATE_WRITE=1 cargo test -p witgate --test contract");
}

fn page() -> String {
    let (resolve, package) = witgate_toolchain::contract().unwrap();
    let package = &resolve.packages[package];
    let mut page = HEAD.to_string();
    tell(&mut page, &package.docs);
    for (name, id) in &package.interfaces {
        let _ = writeln!(page, "## {name}\n");
        interface(&mut page, &resolve, &resolve.interfaces[*id]);
    }
    page += "## Worlds\n\nAll of them import `plan`, `env`, `log` and `metrics`.\n\n";
    for (name, id) in &package.worlds {
        let _ = writeln!(page, "### {name}\n");
        world(&mut page, &resolve, &resolve.worlds[*id]);
    }
    while page.contains("\n\n\n") {
        page = page.replace("\n\n\n", "\n\n");
    }
    page.truncate(page.trim_end().len());
    page + "\n"
}

fn interface(page: &mut String, resolve: &Resolve, interface: &Interface) {
    tell(page, &interface.docs);
    for (name, id) in &interface.types {
        definition(page, resolve, name, *id);
        let methods = interface.functions.values().filter(|function| function.kind.resource() == Some(*id));
        for function in methods {
            let kind = match function.kind {
                FunctionKind::Constructor(_) => "constructor",
                FunctionKind::Static(_) => "static",
                _ => "method",
            };
            let signature = signature(resolve, function);
            item(page, &format!("`{name}.{signature}`, {kind}"), &function.docs);
        }
        page.push('\n');
    }
    let free = interface.functions.values().filter(|function| function.kind.resource().is_none());
    for function in free {
        item(page, &format!("`{}`", signature(resolve, function)), &function.docs);
    }
    page.push('\n');
}

fn definition(page: &mut String, resolve: &Resolve, name: &str, id: TypeId) {
    let definition = &resolve.types[id];
    let mut told = |kind: &str| {
        let _ = writeln!(page, "**{name}**, {kind}\n");
        tell(page, &definition.docs);
    };
    match &definition.kind {
        TypeDefKind::Record(record) => {
            told("record");
            for field in &record.fields {
                item(page, &format!("`{}: {}`", field.name, ty(resolve, &field.ty)), &field.docs);
            }
        }
        TypeDefKind::Variant(variant) => {
            told("variant");
            for case in &variant.cases {
                let payload = case.ty.as_ref().map(|payload| format!("({})", ty(resolve, payload)));
                item(page, &format!("`{}{}`", case.name, payload.unwrap_or_default()), &case.docs);
            }
        }
        TypeDefKind::Enum(list) => {
            told("enum");
            for case in &list.cases {
                item(page, &format!("`{}`", case.name), &case.docs);
            }
        }
        TypeDefKind::Resource => told("resource"),
        // What is used from another interface is told there.
        TypeDefKind::Type(wit_parser::Type::Id(_)) => {}
        kind => told(&format!("`{}`", words::kind(resolve, kind))),
    }
}

fn world(page: &mut String, resolve: &Resolve, world: &World) {
    tell(page, &world.docs);
    let imports: Vec<_> = world
        .imports
        .values()
        .filter_map(|item| match item {
            WorldItem::Interface { id, .. } => resolve.interfaces[*id].name.as_deref(),
            WorldItem::Function(_) | WorldItem::Type { .. } => None,
        })
        .filter(|name| *name != "types")
        .map(|name| format!("`{name}`"))
        .collect();
    let _ = writeln!(page, "Imports {}. Exports:\n", imports.join(", "));
    for export in world.exports.values() {
        match export {
            WorldItem::Function(function) => {
                item(page, &format!("`{}`", signature(resolve, function)), &function.docs);
            }
            WorldItem::Interface { id, .. } => {
                let name = resolve.interfaces[*id].name.as_deref().unwrap();
                let _ = writeln!(page, "- the interface [{name}](#{name})");
            }
            WorldItem::Type { .. } => {}
        }
    }
    page.push('\n');
}

fn tell(page: &mut String, docs: &Docs) {
    if let Some(text) = docs.contents.as_deref() {
        let _ = writeln!(page, "{}\n", text.trim());
    }
}

fn item(page: &mut String, what: &str, docs: &Docs) {
    let text = docs.contents.as_deref().unwrap_or_default().trim();
    let about = if text.is_empty() { String::new() } else { format!(": {}", text.replace('\n', "\n  ")) };
    let _ = writeln!(page, "- {what}{about}");
}
