//! The tree that paths are looked up in, a node per segment: literals, `{name}`, `{*rest}`.
//!
//! `table` builds one per host for the prefixes of APIs, and one per API for its operations.
//! Paths are already normal (`message::path`). Never allocates in a lookup of at most four parameters,
//! unless a segment has escapes.
//!
//! Own code instead of a radix tree of bytes, because specificity is by whole segments, a node
//! may fit and yet not have the method (then the search goes on), and path parameters (`;x=1`)
//! are not part of a segment's name. Names are compared decoded: `%3A` is another spelling of `:` to a
//! path, but the same to most upstreams. Segments are compared from the left; at each, a literal goes
//! before `{name}` and that before `{*rest}`. A node is visited at most once in a search.
//!
//! One trailing slash of a path makes no difference, so that nobody gets past an operation's
//! policies with `/admin/`. `{name}` takes one segment; `{*rest}` all that is left, also nothing.

use foldhash::fast::RandomState;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use crate::message::path::{decode_segment, normalise};

/// Deepest template or prefix; it bounds the recursion of a search.
const SEGMENTS_MAX: usize = 64;

/// Literal children of a node that are looked through one by one; a hash costs about as much as
/// this many comparisons.
const FEW: usize = 6;

/// A segment of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    /// `{name}`
    One(Box<str>),
    /// `{*name}`, the last one only.
    Rest(Box<str>),
}

/// Why a template or prefix is refused; for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    NotAbsolute,
    /// `normalise` refuses it, or it is not in normal form, such as `/a/../b`.
    NotNormal,
    /// A `;`, a `{` or `}` inside a segment, `{}` or `{*}`.
    BadSegment,
    RestNotLast,
    RepeatedName,
    TooDeep,
}

impl TemplateFault {
    pub const fn text(self) -> &'static str {
        match self {
            TemplateFault::NotAbsolute => "it must begin with a slash",
            TemplateFault::NotNormal => "its segments must not be empty, dots or ambiguous",
            TemplateFault::BadSegment => "a segment is plain text, `{name}` or `{*name}`",
            TemplateFault::RestNotLast => "`{*name}` must be the last segment",
            TemplateFault::RepeatedName => "a parameter's name comes twice",
            TemplateFault::TooDeep => "it has more than 64 segments",
        }
    }
}

/// The segments of a template, literals in normal form. One trailing slash is left out.
pub(super) fn parse_template(template: &str) -> Result<Vec<Segment>, TemplateFault> {
    let inner = template.strip_prefix('/').ok_or(TemplateFault::NotAbsolute)?;
    let mut segments = Vec::new();
    if inner.is_empty() {
        return Ok(segments);
    }
    for text in inner.strip_suffix('/').unwrap_or(inner).split('/') {
        if segments.len() == SEGMENTS_MAX {
            return Err(TemplateFault::TooDeep);
        }
        if matches!(segments.last(), Some(Segment::Rest(_))) {
            return Err(TemplateFault::RestNotLast);
        }
        let segment = match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            Some(name) => {
                let (name, rest) = name.strip_prefix('*').map_or((name, false), |name| (name, true));
                if name.is_empty() || !name.bytes().all(is_name_byte) {
                    return Err(TemplateFault::BadSegment);
                }
                if segments.iter().any(|segment| segment_name(segment) == Some(name)) {
                    return Err(TemplateFault::RepeatedName);
                }
                if rest { Segment::Rest(name.into()) } else { Segment::One(name.into()) }
            }
            None => Segment::Literal(parse_literal(text)?),
        };
        segments.push(segment);
    }
    Ok(segments)
}

/// The segments of a prefix, in normal form.
pub(super) fn parse_prefix(prefix: &str) -> Result<Vec<Segment>, TemplateFault> {
    let segments = if prefix.is_empty() { Vec::new() } else { parse_template(prefix)? };
    if segments.iter().any(|segment| segment_name(segment).is_some()) {
        return Err(TemplateFault::BadSegment);
    }
    Ok(segments)
}

/// The names of a template's parameters, in the order of `Params`. Empty if it is refused.
pub fn parameter_names(template: &str) -> Vec<Box<str>> {
    let segments = parse_template(template).unwrap_or_default();
    segments.iter().filter_map(segment_name).map(Box::from).collect()
}

fn parse_literal(text: &str) -> Result<Box<str>, TemplateFault> {
    if text.contains(['{', '}', ';']) {
        return Err(TemplateFault::BadSegment);
    }
    let path = format!("/{text}");
    let normal = normalise(&path).map_err(|_| TemplateFault::NotNormal)?;
    // Dots were resolved away if it is now nothing; no slash can have come in.
    match normal.strip_prefix('/').map(decode_segment) {
        Some(decoded) if decoded.contains(';') => Err(TemplateFault::BadSegment),
        Some(decoded) if !decoded.is_empty() => Ok(decoded.into()),
        _ => Err(TemplateFault::NotNormal),
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn segment_name(segment: &Segment) -> Option<&str> {
    match segment {
        Segment::Literal(_) => None,
        Segment::One(name) | Segment::Rest(name) => Some(name),
    }
}

/// The places of a template's parameters in the path, in order. Owns no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(SmallVec<[(u32, u32); 4]>);

impl Params {
    /// The value of a parameter, percent-encoded as it stands, by its place in the template (see
    /// `parameter_names`); `path` must be the one that was looked up.
    pub fn get<'p>(&self, path: &'p str, index: usize) -> Option<&'p str> {
        path.get(self.range(index)?)
    }

    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        self.0.get(index).map(|&(start, end)| start as usize..end as usize)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct Tree<L> {
    /// The first is the root. Children are named by their index.
    nodes: Vec<Node<L>>,
}

#[derive(Debug)]
struct Node<L> {
    literals: Literals,
    one: Option<u32>,
    /// What ends here.
    leaf: Option<L>,
    /// What `{*rest}` below here leads to.
    rest: Option<L>,
}

impl<L> Default for Node<L> {
    fn default() -> Node<L> {
        Node { literals: Literals::Few(Vec::new()), one: None, leaf: None, rest: None }
    }
}

impl<L> Default for Tree<L> {
    fn default() -> Tree<L> {
        Tree { nodes: vec![Node::default()] }
    }
}

impl<L> Tree<L> {
    /// The leaf of a template, made if there is none.
    pub(super) fn entry(&mut self, template: &[Segment], make: impl FnOnce() -> L) -> &mut L {
        let mut at = 0;
        for segment in template {
            let fresh = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
            let node = &mut self.nodes[at];
            let child = match segment {
                Segment::Literal(name) => node.literals.entry(name, fresh),
                Segment::One(_) => *node.one.get_or_insert(fresh),
                // Always the last.
                Segment::Rest(_) => break,
            };
            if child == fresh {
                self.nodes.push(Node::default());
            }
            at = child as usize;
        }
        let node = &mut self.nodes[at];
        let leaf =
            if matches!(template.last(), Some(Segment::Rest(_))) { &mut node.rest } else { &mut node.leaf };
        leaf.get_or_insert_with(make)
    }

    /// The leaf of the longest prefix, and the end of that prefix in the path. Looks at literals
    /// only.
    pub(super) fn longest(&self, path: &str) -> Option<(&L, usize)> {
        let mut node = self.nodes.first()?;
        let mut best = node.leaf.as_ref().map(|leaf| (leaf, 0));
        let (mut at, plain) = (0, is_plain(path));
        while let Some(segment) = next_segment(path, at) {
            let text = &path[segment.clone()];
            let child = if plain { node.literals.get(text) } else { node.literals.get(&name(text)) };
            let Some(child) = child else { break };
            node = self.nodes.get(child as usize)?;
            at = segment.end;
            if let Some(leaf) = &node.leaf {
                best = Some((leaf, at));
            }
        }
        best
    }

    /// The first leaf, the most specific first, that `take` takes, with its parameters. The path
    /// is looked at from `from`, the end of a prefix.
    pub(super) fn find<'t, R>(
        &'t self,
        path: &str,
        from: usize,
        mut take: impl FnMut(&'t L) -> Option<R>,
    ) -> Option<(R, Params)> {
        let mut params = Params::default();
        let way = Way { path, plain: is_plain(path) };
        let found = self.descend(self.nodes.first()?, way, from, &mut params, &mut take)?;
        Some((found, params))
    }

    /// No deeper than the deepest template.
    fn descend<'t, R>(
        &'t self,
        node: &'t Node<L>,
        way: Way<'_>,
        at: usize,
        params: &mut Params,
        take: &mut impl FnMut(&'t L) -> Option<R>,
    ) -> Option<R> {
        let Way { path, plain } = way;
        let segment = next_segment(path, at);
        match &segment {
            Some(segment) => {
                let text = &path[segment.clone()];
                let child = if plain { node.literals.get(text) } else { node.literals.get(&name(text)) };
                if let Some(child) = child.and_then(|child| self.node(child))
                    && let Some(found) = self.descend(child, way, segment.end, params, take)
                {
                    return Some(found);
                }
                if let Some(child) = node.one.and_then(|child| self.node(child)) {
                    params.0.push(place(segment));
                    if let Some(found) = self.descend(child, way, segment.end, params, take) {
                        return Some(found);
                    }
                    params.0.pop();
                }
            }
            None => {
                if let Some(found) = node.leaf.as_ref().and_then(&mut *take) {
                    return Some(found);
                }
            }
        }
        let found = node.rest.as_ref().and_then(take)?;
        // Without the slash before it; with a slash at its end if the path has one.
        let start = (at + 1).min(path.len());
        params.0.push(place(&(start..path.len())));
        Some(found)
    }

    fn node(&self, index: u32) -> Option<&Node<L>> {
        self.nodes.get(index as usize)
    }
}

/// The place of the segment after `at`, which is the place of a slash or the end; none if nothing
/// but a slash is left.
fn next_segment(path: &str, at: usize) -> Option<Range<usize>> {
    let start = at + 1;
    let rest = path.as_bytes().get(start..)?;
    let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    (length > 0).then_some(start..start + length)
}

/// A path that is looked up.
#[derive(Clone, Copy)]
struct Way<'p> {
    path: &'p str,
    plain: bool,
}

/// Whether a path's segments are their names, as nearly always. To its end in any case, which is quicker than
/// to stop at the first byte that is another.
fn is_plain(path: &str) -> bool {
    !path.bytes().fold(false, |other, byte| other | (byte == b';') | (byte == b'%'))
}

/// A segment decoded and without its parameters: servers of some makes serve `/admin;x`, and after
/// decoding `/admin%3Bx`, as `/admin`, so these must meet the same policies.
fn name(segment: &str) -> Cow<'_, str> {
    match segment.bytes().position(|byte| matches!(byte, b';' | b'%')) {
        None => Cow::Borrowed(segment),
        Some(end) if segment.as_bytes()[end] == b';' => Cow::Borrowed(&segment[..end]),
        Some(_) => {
            let mut decoded = decode_segment(segment).into_owned();
            decoded.truncate(decoded.find(';').unwrap_or(decoded.len()));
            Cow::Owned(decoded)
        }
    }
}

/// Heads are limited to far less than 4 GiB.
fn place(range: &Range<usize>) -> (u32, u32) {
    let offset = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
    (offset(range.start), offset(range.end))
}

#[derive(Debug)]
enum Literals {
    Few(Vec<(Box<str>, u32)>),
    Many(HashMap<Box<str>, u32, RandomState>),
}

impl Literals {
    fn get(&self, name: &str) -> Option<u32> {
        match self {
            Literals::Few(list) => {
                list.iter().find(|(literal, _)| **literal == *name).map(|(_, child)| *child)
            }
            Literals::Many(map) => map.get(name).copied(),
        }
    }

    fn entry(&mut self, name: &str, fresh: u32) -> u32 {
        if let Some(child) = self.get(name) {
            return child;
        }
        match self {
            Literals::Few(list) if list.len() < FEW => list.push((name.into(), fresh)),
            Literals::Few(list) => {
                let all = std::mem::take(list).into_iter().chain([(name.into(), fresh)]);
                *self = Literals::Many(all.collect());
            }
            Literals::Many(map) => {
                map.insert(name.into(), fresh);
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(templates: &[&'static str]) -> Tree<&'static str> {
        let mut tree = Tree::default();
        for template in templates {
            tree.entry(&parse_template(template).expect("a template"), || *template);
        }
        tree
    }

    fn check(templates: &[&'static str], path: &str, expected: Option<(&str, &[&str])>) {
        let tree = tree(templates);
        let found = tree.find(path, 0, |leaf| Some(*leaf));
        let found = found.map(|(leaf, params)| {
            let values = (0..params.len()).map(|index| params.get(path, index).expect("in the path"));
            (leaf, values.collect::<Vec<_>>())
        });
        assert_eq!(found.as_ref().map(|(leaf, values)| (*leaf, values.as_slice())), expected, "{path}");
    }

    #[test]
    fn the_most_specific_template_wins() {
        let all = ["/{*rest}", "/{id}", "/a", "/a/{*rest}", "/{id}/x", "/a/{id}", "/"];
        let mut reversed = all;
        reversed.reverse();
        for templates in [all, reversed] {
            check(&templates, "/a", Some(("/a", &[])));
            check(&templates, "/a/", Some(("/a", &[])));
            check(&templates, "/b", Some(("/{id}", &["b"])));
            check(&templates, "/a/x", Some(("/a/{id}", &["x"])));
            check(&templates, "/b/x", Some(("/{id}/x", &["b"])));
            check(&templates, "/a/x/y", Some(("/a/{*rest}", &["x/y"])));
            check(&templates, "/b/c/d/", Some(("/{*rest}", &["b/c/d/"])));
            check(&templates, "/", Some(("/", &[])));
        }
    }

    #[test]
    fn the_search_goes_back() {
        check(&["/a/{id}/x", "/{b}/c/y"], "/a/c/y", Some(("/{b}/c/y", &["a"])));
        check(&["/a/b/c", "/{x}/b/{y}/d"], "/a/b/c/d", Some(("/{x}/b/{y}/d", &["a", "c"])));
        check(&["/a/b", "/a/{*rest}"], "/a/b/c", Some(("/a/{*rest}", &["b/c"])));
        check(&["/a/b"], "/a/b/c", None);
        check(&["/a/b"], "/a", None);
    }

    #[test]
    fn rest_may_be_nothing() {
        check(&["/files/{*rest}"], "/files", Some(("/files/{*rest}", &[""])));
        check(&["/files/{*rest}"], "/files/", Some(("/files/{*rest}", &[""])));
        check(&["/files/{*rest}"], "/filesx", None);
        check(&["/files/{id}"], "/files/", None);
    }

    #[test]
    fn parameters_of_a_segment_are_not_of_its_name() {
        check(&["/admin/{id}"], "/admin;x=1/5;v=2", Some(("/admin/{id}", &["5;v=2"])));
        check(&["/admin"], "/admin;", Some(("/admin", &[])));
    }

    #[test]
    fn literals_are_in_normal_form() {
        check(&["/caf%c3%a9"], "/caf%C3%A9", Some(("/caf%c3%a9", &[])));
        check(&["/café"], "/caf%C3%A9", Some(("/café", &[])));
    }

    #[test]
    fn many_parameters_and_children() {
        check(
            &["/{a}/{b}/{c}/{d}/{e}/{f}"],
            "/1/2/3/4/5/6",
            Some(("/{a}/{b}/{c}/{d}/{e}/{f}", &["1", "2", "3", "4", "5", "6"])),
        );
        let many = ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i"];
        for template in many {
            check(&many, template, Some((template, &[])));
        }
        check(&many, "/j", None);
    }

    #[test]
    fn a_leaf_may_be_refused() {
        let tree = tree(&["/{*rest}", "/{id}", "/a"]);
        let mut seen = Vec::new();
        let found = tree.find("/a", 0, |leaf| {
            seen.push(*leaf);
            None::<()>
        });
        assert!(found.is_none());
        assert_eq!(seen, ["/a", "/{id}", "/{*rest}"]);
    }

    #[test]
    fn prefixes_end_at_segments() {
        let tree = tree(&["/", "/api", "/api/employee"]);
        for (path, expected) in [
            ("/", ("/", 0)),
            ("/x", ("/", 0)),
            ("/api", ("/api", 4)),
            ("/api/", ("/api", 4)),
            ("/apix", ("/", 0)),
            ("/api/employees", ("/api", 4)),
            ("/api/employee/5", ("/api/employee", 13)),
            ("/api;v=2/employee/5", ("/api/employee", 17)),
        ] {
            assert_eq!(tree.longest(path).map(|(leaf, end)| (*leaf, end)), Some(expected), "{path}");
        }
        assert!(Tree::<()>::default().longest("/a").is_none());
    }

    #[test]
    fn bad_templates() {
        for (template, fault) in [
            ("", TemplateFault::NotAbsolute),
            ("a", TemplateFault::NotAbsolute),
            ("//", TemplateFault::NotNormal),
            ("/a//b", TemplateFault::NotNormal),
            ("/a/..", TemplateFault::NotNormal),
            ("/./a", TemplateFault::NotNormal),
            ("/a%2fb", TemplateFault::NotNormal),
            ("/a?b", TemplateFault::NotNormal),
            ("/{}", TemplateFault::BadSegment),
            ("/{*}", TemplateFault::BadSegment),
            ("/{a b}", TemplateFault::BadSegment),
            ("/{a}.txt", TemplateFault::BadSegment),
            ("/{a", TemplateFault::BadSegment),
            ("/a;b", TemplateFault::BadSegment),
            ("/{*a}/b", TemplateFault::RestNotLast),
            ("/{a}/{a}", TemplateFault::RepeatedName),
            ("/{a}/{*a}", TemplateFault::RepeatedName),
        ] {
            assert_eq!(parse_template(template), Err(fault), "{template}");
        }
        assert_eq!(parse_template(&"/a".repeat(65)), Err(TemplateFault::TooDeep));
        assert_eq!(parse_prefix("/a/{b}"), Err(TemplateFault::BadSegment));
        assert_eq!(parse_prefix(""), Ok(Vec::new()));
        assert_eq!(parameter_names("/{a}/b/{*c}").iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "c"]);
    }
}
