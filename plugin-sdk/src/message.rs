//! What hooks see: the declared values of a request, of a response, of a finished exchange.

use std::rc::Rc;

use crate::block::Lent;
use crate::{Read, Values, host};

/// A request, as far as the plan declared it.
#[derive(Debug)]
pub struct Request {
    fields: Fields,
}

/// A response, as far as the plan declared it, and what an earlier hook of this policy left.
#[derive(Debug)]
pub struct Response {
    fields: Fields,
    note: Vec<u8>,
}

/// A finished exchange, as far as the plan declared it.
#[derive(Debug)]
pub struct Entry {
    fields: Fields,
}

/// A whole body, and what an earlier hook of this policy left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body {
    pub bytes: Vec<u8>,
    pub note: Vec<u8>,
}

/// A header that may come once came more than once. As text it makes a hook's `Err`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated;

/// How a hook names a value: by the [`Read`] that the plan gave, or by name.
pub trait Field<M> {
    #[doc(hidden)]
    fn index(&self, names: &[String]) -> usize;
}

#[derive(Debug)]
struct Fields {
    names: Rc<[String]>,
    values: Given,
}

/// The values of one call, wherever they are.
#[derive(Debug)]
pub enum Given {
    Owned(Values),
    Lent(Lent),
}

impl Given {
    fn get(&self, index: usize) -> Option<&str> {
        match self {
            Given::Owned(values) => values.get(index)?.as_deref(),
            Given::Lent(values) => values.get(index),
        }
    }

    fn len(&self) -> usize {
        match self {
            Given::Owned(values) => values.len(),
            Given::Lent(values) => values.count(),
        }
    }
}

impl From<Values> for Given {
    fn from(values: Values) -> Given {
        Given::Owned(values)
    }
}

macro_rules! view {
    ($message:ident) => {
        impl $message {
            /// The value, if the message has it. The lines of a repeated header are joined with a
            /// newline: where one is expected, ask for [`one`](Self::one).
            ///
            /// Panics if `field` is a name that the plan did not declare, which no test misses.
            pub fn get(&self, field: impl Field<Self>) -> Option<&str> {
                self.fields.get(field.index(&self.fields.names))
            }

            /// The value; an error if the header was repeated.
            pub fn one(&self, field: impl Field<Self>) -> Result<Option<&str>, Repeated> {
                match self.get(field) {
                    Some(value) if value.as_bytes().contains(&b'\n') => Err(Repeated),
                    value => Ok(value),
                }
            }

            /// The lines of a header that may be repeated, none if it is absent.
            pub fn lines(&self, field: impl Field<Self>) -> impl Iterator<Item = &str> {
                self.get(field).into_iter().flat_map(|value| value.split('\n'))
            }

            /// The names that the plan declared with their values, in that order.
            pub fn values(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
                let names = self.fields.names.iter().map(String::as_str);
                names.enumerate().map(|(index, name)| (name, self.fields.values.get(index)))
            }

            pub(crate) fn fits(&self) -> Result<(), String> {
                let (planned, passed) = (self.fields.names.len(), self.fields.values.len());
                if planned == passed {
                    Ok(())
                } else {
                    Err(format!("{passed} values were passed, {planned} were planned"))
                }
            }
        }
    };
}

view!(Request);
view!(Response);
view!(Entry);

impl Request {
    pub(crate) fn new(names: Rc<[String]>, values: Given) -> Self {
        Request { fields: Fields { names, values } }
    }

    /// All headers, repeated ones line by line. The plan must read `headers:*`.
    pub fn headers(&self) -> Vec<(String, String)> {
        host::message::headers()
    }
}

impl Response {
    pub(crate) fn new(names: Rc<[String]>, values: Given, note: Vec<u8>) -> Self {
        Response { fields: Fields { names, values }, note }
    }

    /// What an earlier hook left for this exchange; empty if nothing.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// All headers, repeated ones line by line. The plan must read `headers:*`.
    pub fn headers(&self) -> Vec<(String, String)> {
        host::message::headers()
    }
}

impl Entry {
    pub(crate) fn new(names: Rc<[String]>, values: Values) -> Self {
        Entry { fields: Fields { names, values: values.into() } }
    }
}

impl Fields {
    fn get(&self, index: usize) -> Option<&str> {
        self.values.get(index)
    }
}

impl<M> Field<M> for Read<M> {
    fn index(&self, _names: &[String]) -> usize {
        Read::index(*self)
    }
}

impl<M> Field<M> for &str {
    fn index(&self, names: &[String]) -> usize {
        match names.iter().position(|name| name.eq_ignore_ascii_case(self)) {
            Some(index) => index,
            // Not an absent value: a guard that takes a misspelt name for "not sent" would let
            // everybody in. The host turns the panic into `on_error`.
            None => panic!("`{self}` is not declared in the plan"),
        }
    }
}

impl<M> Field<M> for &String {
    fn index(&self, names: &[String]) -> usize {
        Field::<M>::index(&self.as_str(), names)
    }
}

impl std::fmt::Display for Repeated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a header that may come once came more than once")
    }
}

impl std::error::Error for Repeated {}

impl From<Repeated> for String {
    fn from(repeated: Repeated) -> String {
        repeated.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(values: &[Option<&str>]) -> Request {
        let names: Vec<String> = ["Authorization", "accept"].map(String::from).to_vec();
        let values: Values = values.iter().map(|value| value.map(String::from)).collect();
        Request::new(names.into(), values.into())
    }

    #[test]
    fn values_by_name() {
        let request = request(&[Some("a"), None]);
        assert_eq!(request.get("authorization"), Some("a"));
        assert_eq!(request.get(&String::from("ACCEPT")), None);
        assert_eq!(request.fits(), Ok(()));
    }

    #[test]
    fn repeated_lines() {
        let request = request(&[Some("a\nb"), Some("c")]);
        assert_eq!(request.one("authorization"), Err(Repeated));
        assert_eq!(request.one("accept"), Ok(Some("c")));
        assert_eq!(request.lines("authorization").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    #[should_panic(expected = "`cookie` is not declared")]
    fn an_undeclared_name_is_no_absent_value() {
        request(&[None, None]).get("cookie");
    }

    #[test]
    fn a_host_that_breaks_its_promise_is_noticed() {
        assert!(request(&[None]).fits().is_err());
    }
}
