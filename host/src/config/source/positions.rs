//! Where the values of one policy's configuration stand.
//!
//! Made by `check` for each policy; asked by `compile` when a plugin or its schema refuses a value,
//! and by `effective` which values to mask. Holds no value.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::model::{At, PositionOf};
use super::{Node, Place, Source, Value};

/// Where the values of a policy's configuration stand, by JSON pointer, and which are secret.
/// Holds no value.
#[derive(Debug)]
pub struct Positions {
    file: Arc<str>,
    by_pointer: HashMap<String, Position>,
}

#[derive(Debug)]
struct Position {
    place: Place,
    path: String,
    secret: bool,
}

impl Positions {
    /// `path` is the key path of `node` itself.
    pub fn of(source: &Source, node: &Node, path: &str) -> Positions {
        let mut by_pointer = HashMap::new();
        gather(node, String::new(), path.to_owned(), &mut by_pointer);
        Positions { file: source.file.clone(), by_pointer }
    }

    /// For a policy without a configuration.
    pub fn none(file: Arc<str>) -> Positions {
        Positions { file, by_pointer: HashMap::new() }
    }
}

fn gather(node: &Node, pointer: String, path: String, by_pointer: &mut HashMap<String, Position>) {
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                gather(item, format!("{pointer}/{index}"), format!("{path}[{index}]"), by_pointer);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let escaped = entry.key.replace('~', "~0").replace('/', "~1");
                gather(
                    &entry.node,
                    format!("{pointer}/{escaped}"),
                    format!("{path}.{}", entry.key),
                    by_pointer,
                );
            }
        }
        _ => {}
    }
    let secret = matches!(&node.value, Value::Text(text) if text.is_secret());
    by_pointer.insert(pointer, Position { place: node.place, path, secret });
}

impl PositionOf for Positions {
    fn position_of(&self, pointer: &str) -> Option<At> {
        self.by_pointer.get(pointer).map(|position| At {
            file: self.file.clone(),
            line: position.place.line,
            column: position.place.column,
            path: position.path.clone(),
        })
    }

    fn is_secret(&self, pointer: &str) -> bool {
        self.by_pointer.get(pointer).is_some_and(|position| position.secret)
    }
}
