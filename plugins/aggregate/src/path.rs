//! Paths of parts: templates whose values cannot change where the path leads.

use witgate::template::{self, Piece};
use witgate::{Plan, Read, Request, uri};

/// The path and query of a part.
pub(crate) struct Path(Vec<Piece<Value>>);

struct Value {
    read: Read,
    name: String,
}

impl Path {
    pub(crate) fn parse(text: &str, plan: &mut Plan) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` does not start with `/`"));
        }
        if text.contains(|c: char| !c.is_ascii_graphic() || c == '#') {
            return Err(format!("`{text}` has characters that a path must encode"));
        }
        let pieces = template::parse(text, |name| Value { read: plan.read(name), name: name.into() })?;
        let mut in_query = false;
        for piece in &pieces {
            match piece {
                Piece::Text(text) => in_query |= text.contains('?'),
                Piece::Value(Value { name, .. }) if name == ":query" && !in_query => {
                    return Err("`{:query}` stands after a `?`".into());
                }
                Piece::Value(_) => {}
            }
        }
        Ok(Path(pieces))
    }

    /// The error is for the client.
    pub(crate) fn fill(&self, request: &Request) -> Result<String, String> {
        let mut path = String::with_capacity(64);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Value(value) => value.push(&mut path, request)?,
            }
        }
        let before_query = path.split('?').next().unwrap_or("");
        // Values have no slash left, so that a segment of dots is the doing of one of them.
        if before_query.split('/').any(uri::is_dots) {
            return Err("a value would lead to another place".into());
        }
        Ok(path)
    }
}

impl Value {
    fn push(&self, path: &mut String, request: &Request) -> Result<(), String> {
        let in_query = path.contains('?');
        let Ok(value) = request.one(self.read) else {
            return Err(format!("`{}` was sent more than once", self.name));
        };
        match value {
            Some(query) if self.name == ":query" => path.push_str(query),
            // What the request's path is, the router has checked.
            Some(whole) if self.name == ":path" && !in_query => path.push_str(whole),
            Some(value) if !value.is_empty() => uri::encode_into(path, value),
            _ if in_query => {}
            // `/employees/{claim:sub}` without the claim would be the list of all employees.
            _ => return Err(format!("`{}` has no value", self.name)),
        }
        Ok(())
    }
}
