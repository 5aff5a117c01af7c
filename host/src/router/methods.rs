//! Sets of methods, and which operation on one path has which.
//!
//! `table` numbers the methods of a configuration; a set is a word of bits. Never grows on the
//! request path: a method that no operation names has no bit.

use http::Method;
use http::header::HeaderValue;

use super::table::RouteId;

/// Methods as bits.
pub(super) type MethodSet = u64;

const GET: MethodSet = 1 << 0;
const HEAD: MethodSet = 1 << 1;

/// In the order of `Allow`.
const STANDARD: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

/// The bits of all methods that a configuration names.
#[derive(Debug, Default)]
pub(super) struct MethodBits {
    extensions: Vec<Method>,
}

impl MethodBits {
    /// The bit of a method that an operation names; none if 55 extension methods have used up
    /// the word.
    pub(super) fn assign(&mut self, method: &Method) -> Option<MethodSet> {
        if self.of(method) == 0 && STANDARD.len() + self.extensions.len() < MethodSet::BITS as usize {
            self.extensions.push(method.clone());
        }
        Some(self.of(method)).filter(|bit| *bit != 0)
    }

    /// The bit of a request's method; zero if no operation names it.
    pub(super) fn of(&self, method: &Method) -> MethodSet {
        match *method {
            Method::GET => GET,
            Method::HEAD => HEAD,
            Method::POST => 1 << 2,
            Method::PUT => 1 << 3,
            Method::PATCH => 1 << 4,
            Method::DELETE => 1 << 5,
            Method::OPTIONS => 1 << 6,
            Method::TRACE => 1 << 7,
            Method::CONNECT => 1 << 8,
            _ => self
                .extensions
                .iter()
                .position(|extension| extension == method)
                .map_or(0, |index| 1 << (STANDARD.len() + index)),
        }
    }

    /// `Allow` for a set, with HEAD wherever there is GET.
    pub(super) fn allow(&self, set: MethodSet) -> HeaderValue {
        let mut list = String::new();
        for method in STANDARD.iter().chain(&self.extensions) {
            if with_head(set) & self.of(method) != 0 {
                if !list.is_empty() {
                    list.push_str(", ");
                }
                list.push_str(method.as_str());
            }
        }
        // Methods are tokens, which are values.
        HeaderValue::try_from(list).unwrap_or(HeaderValue::from_static(""))
    }
}

fn with_head(set: MethodSet) -> MethodSet {
    if set & GET != 0 { set | HEAD } else { set }
}

/// The operations on one path.
#[derive(Debug, Default)]
pub(super) struct Methods {
    /// In order of declaration; the sets do not overlap.
    named: Vec<(MethodSet, RouteId)>,
    any: Option<RouteId>,
}

impl Methods {
    /// The route of a method: its own, for HEAD that of GET, else that of all methods.
    pub(super) fn route(&self, method: MethodSet) -> Option<RouteId> {
        let of = |set| self.named.iter().find(|(named, _)| named & set != 0).map(|(_, route)| *route);
        let own = of(method);
        let own = if own.is_none() && method == HEAD { of(GET) } else { own };
        own.or(self.any)
    }

    /// All methods that are named.
    pub(super) fn named(&self) -> MethodSet {
        self.named.iter().fold(0, |set, (named, _)| set | named)
    }

    /// The first operation declared for a method by name.
    pub(super) fn first(&self) -> Option<RouteId> {
        self.named.first().map(|(_, route)| *route)
    }

    /// Adds an operation for a set of methods; fails with the one that has some of them already.
    pub(super) fn add(&mut self, set: MethodSet, route: RouteId) -> Result<(), (MethodSet, RouteId)> {
        if let Some((named, other)) = self.named.iter().find(|(named, _)| named & set != 0) {
            return Err((named & set, *other));
        }
        self.named.push((set, route));
        Ok(())
    }

    /// Adds an operation for all methods.
    pub(super) fn add_any(&mut self, route: RouteId) -> Result<(), RouteId> {
        match self.any {
            Some(other) => Err(other),
            None => {
                self.any = Some(route);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_its_bit() {
        let mut bits = MethodBits::default();
        let purge = Method::from_bytes(b"PURGE").expect("a token");
        assert_eq!(bits.of(&purge), 0);
        assert_eq!(bits.assign(&purge), Some(1 << 9));
        assert_eq!(bits.assign(&purge), Some(1 << 9));
        for (index, method) in STANDARD.iter().enumerate() {
            assert_eq!(bits.of(method), 1 << index);
        }
        assert_eq!(bits.allow(GET | 1 << 9 | 1 << 2), "GET, HEAD, POST, PURGE");
        assert_eq!(bits.allow(0), "");
    }

    #[test]
    fn the_word_may_be_used_up() {
        let mut bits = MethodBits::default();
        let method = |index: usize| Method::from_bytes(format!("M{index}").as_bytes()).expect("a token");
        assert!((0..55).all(|index| bits.assign(&method(index)).is_some()));
        assert_eq!(bits.assign(&method(55)), None);
        assert_eq!(bits.assign(&method(54)), Some(1 << 63));
    }

    #[test]
    fn head_is_get_unless_declared() {
        let mut methods = Methods::default();
        assert_eq!(methods.add(GET, RouteId(1)), Ok(()));
        assert_eq!(methods.add_any(RouteId(2)), Ok(()));
        assert_eq!(methods.route(HEAD), Some(RouteId(1)));
        assert_eq!(methods.add(HEAD, RouteId(3)), Ok(()));
        assert_eq!(methods.route(HEAD), Some(RouteId(3)));
        assert_eq!(methods.route(0), Some(RouteId(2)));
        assert_eq!(methods.add(GET | 1 << 2, RouteId(4)), Err((GET, RouteId(1))));
        assert_eq!(methods.add_any(RouteId(4)), Err(RouteId(2)));
    }
}
