//! Picks the wanted claims out of a token's claims, without building a tree of the rest.

use std::fmt;

use serde_json::Value;
use witgate::serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The names of the claims that are wanted.
pub(crate) struct Wanted(Vec<String>);

/// The text of each wanted claim, in the order of the names.
pub(crate) type Texts = Vec<Option<String>>;

impl Wanted {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Wanted(names)
    }

    /// Strings as they are, null as absent, all else as JSON. `claims`: a JSON object.
    pub(crate) fn of(&self, claims: &str) -> Result<Texts, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(claims);
        let texts = self.deserialize(&mut json)?;
        json.end()?;
        Ok(texts)
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Texts;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Texts, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Wanted {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of claims")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut claims: A) -> Result<Texts, A::Error> {
        let mut texts = vec![None; self.0.len()];
        while let Some(index) = claims.next_key_seed(Position(&self.0))? {
            match index {
                Some(index) => {
                    texts[index] = match claims.next_value()? {
                        Value::Null => None,
                        Value::String(text) => Some(text),
                        other => Some(other.to_string()),
                    }
                }
                None => _ = claims.next_value::<IgnoredAny>()?,
            }
        }
        Ok(texts)
    }
}

/// Reads a key as its position among the wanted ones, without copying it.
struct Position<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a claim's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|wanted| wanted == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_claims_as_text() {
        let wanted = Wanted::new(["sub", "roles", "n", "none", "null", "ok"].map(String::from).to_vec());
        let claims = r#"{"x":{"sub":1},"sub":"a\"b","roles":["a","b"],"n":1.50,"null":null,"ok":true}"#;
        let expected = [Some("a\"b"), Some(r#"["a","b"]"#), Some("1.5"), None, None, Some("true")];
        let texts = wanted.of(claims).expect("claims");
        assert_eq!(texts.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let wanted = Wanted::new(vec!["sub".into()]);
        for bad in ["", "[]", "\"sub\"", "{", "{} {}", "{\"sub\":}"] {
            assert!(wanted.of(bad).is_err(), "{bad}");
        }
    }
}
