//! The claims of a verified token.
//!
//! Made by `verifier` once the signature is good; handed to the policy as text and read by
//! `chain` for `claim:NAME`. Names must be unique at every depth (RFC 7519 4): otherwise two
//! parsers, the gateway's and a policy's, could read two different tokens.

use super::TokenFault;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// What a token says, after it was verified.
pub struct Claims {
    json: Box<str>,
    values: Map<String, Value>,
    /// Seconds since the Unix epoch.
    expires: Option<f64>,
    not_before: Option<f64>,
    issued: Option<f64>,
}

impl Claims {
    pub(super) fn parse(json: String) -> Result<Claims, TokenFault> {
        let mut parser = serde_json::Deserializer::from_str(&json);
        let values = match Unique.deserialize(&mut parser) {
            Ok(Value::Object(values)) if parser.end().is_ok() => values,
            _ => return Err(TokenFault::Malformed),
        };
        let [expires, not_before, issued] = ["exp", "nbf", "iat"].map(|name| match values.get(name) {
            None => Ok(None),
            // Without `arbitrary_precision` every number is a finite f64.
            Some(Value::Number(number)) => Ok(number.as_f64()),
            Some(_) => Err(TokenFault::Malformed),
        });
        Ok(Claims { expires: expires?, not_before: not_before?, issued: issued?, values, json: json.into() })
    }

    /// The claims as JSON text, as they were signed.
    pub fn json(&self) -> &str {
        &self.json
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A claim as one text, as it goes into a header: a string as it is, anything else as JSON.
    /// None for a missing claim and for null.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.values.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }

    /// `now`: since the Unix epoch. A token is good until the last instant before `exp` plus the
    /// leeway, and from `nbf` and `iat` less the leeway on.
    pub(super) fn check_time(&self, now: Duration, leeway_seconds: f64) -> Result<(), TokenFault> {
        let now = now.as_secs_f64();
        if self.expires.is_some_and(|expires| now >= expires + leeway_seconds) {
            return Err(TokenFault::Expired);
        }
        let early = |start: Option<f64>| start.is_some_and(|start| now + leeway_seconds < start);
        if early(self.not_before) || early(self.issued) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(())
    }

    /// Memory that it holds, roughly.
    pub(super) fn bytes(&self) -> usize {
        // The parsed values take about three times their text.
        256 + self.json.len() * 4
    }
}

/// Parses JSON and refuses repeated names.
struct Unique;

impl<'de> DeserializeSeed<'de> for Unique {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique names")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = sequence.next_element_seed(Unique)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Unique)?;
            if values.insert(name, value).is_some() {
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        Ok(Value::Object(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Claims, TokenFault> {
        Claims::parse(json.to_owned())
    }

    #[test]
    fn only_objects_with_unique_names() {
        for bad in [
            "",
            "null",
            "[]",
            "\"a\"",
            "{} {}",
            "{",
            r#"{"sub":"a","sub":"b"}"#,
            r#"{"realm":{"roles":[],"roles":["admin"]}}"#,
            r#"{"list":[{"a":1,"\u0061":2}]}"#,
            r#"{"exp":"1"}"#,
            r#"{"exp":null}"#,
            r#"{"nbf":[1]}"#,
            r#"{"iat":true}"#,
            r#"{"exp":1e999}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&format!("{}{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000))).is_err());
    }

    #[test]
    fn claims_as_text() {
        let claims =
            parse(r#"{"s":"é\n","n":1.5,"big":18446744073709551615,"b":true,"z":null,"l":["a",{"b":1}]}"#)
                .unwrap();
        let text = |name| claims.text(name).map(Cow::into_owned);
        assert_eq!(text("s").as_deref(), Some("é\n"));
        assert_eq!(text("n").as_deref(), Some("1.5"));
        assert_eq!(text("big").as_deref(), Some("18446744073709551615"));
        assert_eq!(text("b").as_deref(), Some("true"));
        assert_eq!(text("l").as_deref(), Some(r#"["a",{"b":1}]"#));
        assert_eq!((text("z"), text("none")), (None, None));
    }

    #[test]
    fn times_have_exact_borders() {
        let check = |json: &str, now: f64, leeway: f64| {
            parse(json).unwrap().check_time(Duration::from_secs_f64(now), leeway)
        };
        assert_eq!(check(r#"{"exp":1000}"#, 999.999, 0.0), Ok(()));
        assert_eq!(check(r#"{"exp":1000}"#, 1000.0, 0.0), Err(TokenFault::Expired));
        assert_eq!(check(r#"{"exp":1000}"#, 1029.999, 30.0), Ok(()));
        assert_eq!(check(r#"{"exp":1000}"#, 1030.0, 30.0), Err(TokenFault::Expired));
        assert_eq!(check(r#"{"exp":1000.5}"#, 1000.4, 0.0), Ok(()));
        assert_eq!(check(r#"{"exp":-1}"#, 0.0, 0.0), Err(TokenFault::Expired));
        assert_eq!(check(r#"{"exp":1e300}"#, 1e9, 0.0), Ok(()));
        for name in ["nbf", "iat"] {
            let json = format!(r#"{{"{name}":1000}}"#);
            assert_eq!(check(&json, 999.999, 0.0), Err(TokenFault::NotYetValid));
            assert_eq!(check(&json, 1000.0, 0.0), Ok(()));
            assert_eq!(check(&json, 970.0, 30.0), Ok(()));
            assert_eq!(check(&json, 969.999, 30.0), Err(TokenFault::NotYetValid));
        }
    }
}
