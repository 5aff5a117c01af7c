//! Types that configurations are made of: each knows its JSON form, its schema and its mistakes.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// A duration as people write it: a number and a unit (`ms`, `s`, `m`, `h`, `d`), such as `1m`.
/// Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

/// One string or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OneOrMany(Vec<String>);

impl Period {
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || {
            format!("`{text}` is not a duration: expected a number and a unit (ms, s, m, h, d), such as `1m`")
        };
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(refused)?;
        let (number, unit) = text.split_at(unit_at);
        let unit_millis: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refused()),
        };
        let number: u64 = number.parse().map_err(|_| refused())?;
        match number.checked_mul(unit_millis) {
            Some(0) => Err(format!("`{text}` is no time at all")),
            Some(millis) => Ok(Period(Duration::from_millis(millis))),
            None => Err(format!("`{text}` is too long")),
        }
    }

    pub fn duration(self) -> Duration {
        self.0
    }

    /// In whole milliseconds, if 32 bits hold them (49 days).
    pub fn millis(self) -> Option<u32> {
        u32::try_from(self.0.as_millis()).ok()
    }
}

impl OneOrMany {
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }

    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Period::parse(&text).map_err(Error::custom)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, one: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![one.into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut many: A) -> Result<OneOrMany, A::Error> {
                let mut strings = Vec::new();
                while let Some(string) = many.next_element()? {
                    strings.push(string);
                }
                Ok(OneOrMany(strings))
            }
        }
        deserializer.deserialize_any(Strings)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "array"], "items": { "type": "string" } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods() {
        let check = |text: &str, millis: u64| {
            assert_eq!(
                Period::parse(text).map(Period::duration),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        };
        check("250ms", 250);
        check("1m", 60_000);
        check("30d", 2_592_000_000);
        for bad in ["", "1", "m", "1 m", "-1s", "1.5s", "0s", "1w", "1mm", "99999999999999999999s", "９s"] {
            assert!(Period::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Period::parse("50d").expect("valid").millis(), None);
    }

    #[test]
    fn one_or_many() {
        let parse = serde_json::from_str::<OneOrMany>;
        assert_eq!(parse("\"a\"").expect("valid").as_slice(), ["a"]);
        assert_eq!(parse("[\"a\",\"b\"]").expect("valid").into_vec(), ["a", "b"]);
        assert!(parse("1").is_err());
        assert!(parse("[1]").is_err());
    }
}
