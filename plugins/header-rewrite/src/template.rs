//! What a header gets: text with values of the exchange, taken apart once.

use witgate::Read;
use witgate::template::{self, Piece};

/// A header's value, `M` the message whose hook fills it.
pub(crate) struct Template<M>(Vec<Piece<Value<M>>>);

struct Value<M> {
    read: Read<M>,
    /// Of a header, whose lines a newline parts; anywhere else that is a character of the value.
    has_lines: bool,
}

/// What a template makes of an exchange.
pub(crate) enum Filled {
    Value(String),
    /// One of its values is missing.
    Absent,
    /// What came out cannot stand in a header.
    Unfit,
}

impl<M> Template<M> {
    /// `read` declares a value by its name in the plan.
    pub(crate) fn parse(text: &str, mut read: impl FnMut(String) -> Read<M>) -> Result<Self, String> {
        if text.contains(|c: char| c.is_ascii_control() && c != '\t') {
            return Err("the value has a line break or another control character".into());
        }
        let value = |name: &str| {
            let family = name.split_once(':').map(|(family, _)| family);
            let has_lines = family.is_none_or(|family| family.eq_ignore_ascii_case("request-header"));
            Value { read: read(name.into()), has_lines }
        };
        template::parse(text, value).map(Template)
    }

    pub(crate) fn fill<'a>(&self, get: impl Fn(Read<M>) -> Option<&'a str>) -> Filled {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Value(value) => match get(value.read) {
                    Some(text) if value.has_lines => push_lines(&mut filled, text),
                    Some(text) => filled.push_str(text),
                    None => return Filled::Absent,
                },
            }
        }
        match witgate::field_value(&filled) {
            Some(value) if value.len() == filled.len() => Filled::Value(filled),
            Some(value) => Filled::Value(value.into()),
            None => Filled::Unfit,
        }
    }
}

/// Lines of a repeated header become a list (RFC 9110 5.2), because a value has one line.
fn push_lines(out: &mut String, value: &str) {
    for (index, line) in value.split('\n').enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(line);
    }
}
