//! What a header gets: text with values of the exchange, taken apart once.

use witgate::Read;
use witgate::template::{self, Piece};

/// A header's value, `M` the message whose hook fills it.
pub(crate) struct Template<M>(Vec<Piece<Read<M>>>);

impl<M> Template<M> {
    /// `read` declares a value by its name in the plan.
    pub(crate) fn parse(text: &str, mut read: impl FnMut(String) -> Read<M>) -> Result<Self, String> {
        if text.contains(|c: char| c.is_ascii_control() && c != '\t') {
            return Err("the value has a line break or another control character".into());
        }
        template::parse(text, |name| read(name.into())).map(Template)
    }

    /// None if one of the values is absent.
    pub(crate) fn fill<'a>(&self, get: impl Fn(Read<M>) -> Option<&'a str>) -> Option<String> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Value(read) => push_lines(&mut filled, get(*read)?),
            }
        }
        Some(filled)
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
