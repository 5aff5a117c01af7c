//! Checks `products` and `consumers`.

use std::collections::HashMap;
use std::time::Duration;

use super::super::diagnostic::Diagnostic;
use super::super::model::{Consumer, Product, Quota, Subscription};
use super::super::source::Value;
use super::super::units;
use super::keys;
use super::reader::{Field, Names, Reader, Table};

pub(super) fn products<'s>(reader: &mut Reader<'s>, root: &Table<'s>, apis: &Names<'_>) -> Vec<Product> {
    let mut names = HashMap::new();
    let mut products = Vec::new();
    for field in reader.list(root, "products").unwrap_or_default() {
        let Some(table) = reader.table(&field, &keys::PRODUCT) else { continue };
        let name = reader.name(&table, units::name, &mut names);
        if table.get("apis").is_none() {
            reader.missing(&table, "apis", "the APIs that the product grants");
        }
        products.push(Product {
            at: reader.at(&field),
            display_name: reader
                .unit_at(&table, "display_name", units::label)
                .unwrap_or_else(|| name.clone()),
            name,
            apis: reader.references(&table, "apis", "API", apis),
            quota: quota(reader, &table),
        });
    }
    products
}

fn quota<'s>(reader: &mut Reader<'s>, product: &Table<'s>) -> Option<Quota> {
    let table = reader.table_at(product, "quota", &keys::QUOTA)?;
    for (key, expected) in [("requests", "a whole number"), ("per", "a duration such as `30d`")] {
        if table.get(key).is_none() {
            reader.missing(&table, key, expected);
        }
    }
    Some(Quota {
        requests: reader.integer(&table, "requests", 1, 1..=1_000_000_000_000),
        per: reader.some_duration(&table, "per", Duration::from_secs(1)),
    })
}

pub(super) fn consumers<'s>(
    reader: &mut Reader<'s>,
    root: &Table<'s>,
    products: &Names<'_>,
) -> Vec<Consumer> {
    let mut names = HashMap::new();
    let mut hashes = HashMap::new();
    let mut consumers = Vec::new();
    for field in reader.list(root, "consumers").unwrap_or_default() {
        let Some(table) = reader.table(&field, &keys::CONSUMER) else { continue };
        let name = reader.name(&table, units::label, &mut names);
        let fields = reader.filled_list(&table, "subscriptions").unwrap_or_default();
        let subscriptions =
            fields.iter().filter_map(|field| subscription(reader, field, products, &mut hashes)).collect();
        consumers.push(Consumer { at: reader.at(&field), name, subscriptions });
    }
    consumers
}

fn subscription<'s>(
    reader: &mut Reader<'s>,
    field: &Field<'s>,
    products: &Names<'_>,
    hashes: &mut HashMap<[u8; 32], u32>,
) -> Option<Subscription> {
    let table = reader.table(field, &keys::SUBSCRIPTION)?;
    let product = match table.get("product") {
        Some(field) => reader.reference(&field, "product", products),
        None => {
            reader.missing(&table, "product", "the name of a product");
            None
        }
    };
    let mut keys = Vec::new();
    for field in reader.filled_list(&table, "keys").unwrap_or_default() {
        if let Some(hash) = key(reader, field.hidden(), hashes) {
            keys.push(hash);
        }
    }
    Some(Subscription {
        at: reader.at(field),
        product: product.unwrap_or_default(),
        keys,
        suspended: reader.boolean(&table, "suspended", false),
        expires: reader.unit_at(&table, "expires", units::instant),
    })
}

/// Never shows what was written, which may be the key itself.
fn key<'s>(
    reader: &mut Reader<'s>,
    field: Field<'s>,
    hashes: &mut HashMap<[u8; 32], u32>,
) -> Option<[u8; 32]> {
    let clear = match &field.node.value {
        Value::Text(text) => !text.reveal().starts_with("sha256:"),
        Value::Number(_) => true,
        _ => false,
    };
    if clear {
        let at = reader.at(&field);
        reader.push(Diagnostic::error(&at, "a subscription key stands here in clear").expecting(
            "its hash, `sha256:…`; `witgate key add NAME` makes a key, shows it once and writes its hash",
        ));
        return None;
    }
    let hash = reader.unit(&field, units::key_hash)?;
    if let Some(line) = hashes.get(&hash) {
        let at = reader.at(&field);
        let message = format!("the key is given twice (first on line {line})");
        reader.push(Diagnostic::error(&at, message).expecting("a key of its own for each subscription"));
        return None;
    }
    hashes.insert(hash, field.node.place.line);
    Some(hash)
}
