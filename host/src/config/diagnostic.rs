//! What is wrong with a configuration, said so that a person can mend it at once.
//!
//! Made by `source` and `check`, added to by `compile` (a plugin that refuses its configuration),
//! printed by `cli` and logged at a reload. Never shows an expanded value, nor a line on which a
//! secret stands in clear.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::model::At;

/// So many diagnostics are kept; of the rest only the number. A person mends a page at a time,
/// and a hostile file must not cost memory without bound.
const DIAGNOSTICS_MAX: usize = 500;
/// So many declared names are listed before `… and N more`.
const DECLARED_MAX: usize = 12;
/// Longer lines are cut to a window around the mistake.
const EXCERPT_CHARS_MAX: usize = 120;
/// So many names are compared with a wrong one; there may be thousands of both.
const NEAREST_NAMES_MAX: usize = 2000;
/// Names longer than this are compared with nothing.
const NEAREST_CHARS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// Legal, but probably not what was meant.
    Warning,
}

/// One mistake and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub at: At,
    pub severity: Severity,
    /// Lower case, no full stop, the value as written.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// The valid name nearest to the one written.
    pub nearest: Option<String>,
    /// The names that would have been valid, in file order.
    pub declared: Vec<String>,
}

impl Diagnostic {
    pub fn error(at: &At, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(at, Severity::Error, message.into())
    }

    pub fn warning(at: &At, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(at, Severity::Warning, message.into())
    }

    fn new(at: &At, severity: Severity, message: String) -> Diagnostic {
        Diagnostic { at: at.clone(), severity, message, expected: None, nearest: None, declared: Vec::new() }
    }

    pub fn expecting(mut self, expected: impl Into<String>) -> Diagnostic {
        self.expected = Some(expected.into());
        self
    }

    pub fn with_nearest(mut self, nearest: Option<&str>) -> Diagnostic {
        self.nearest = nearest.map(str::to_owned);
        self
    }

    /// Names what is declared, and the nearest of them to `written`.
    pub fn with_declared<'n>(
        mut self,
        written: &str,
        declared: impl IntoIterator<Item = &'n str>,
    ) -> Diagnostic {
        let declared: Vec<&str> = declared.into_iter().collect();
        self.nearest = nearest(written, declared.iter().copied()).map(str::to_owned);
        self.declared = declared.iter().take(DECLARED_MAX).map(|name| (*name).to_owned()).collect();
        if declared.len() > DECLARED_MAX {
            self.declared.push(format!("… and {} more", declared.len() - DECLARED_MAX));
        }
        self
    }

    /// `did you mean …? (declared: …)`; empty where there is nothing to say.
    fn advice(&self) -> String {
        let declared = self.declared.join(", ");
        match (&self.nearest, self.declared.is_empty()) {
            (Some(nearest), true) => format!("did you mean `{nearest}`?"),
            (Some(nearest), false) => format!("did you mean `{nearest}`? (declared: {declared})"),
            (None, true) => String::new(),
            (None, false) => format!("declared: {declared}"),
        }
    }

    fn write(&self, out: &mut impl fmt::Write, listing: Option<&Listing>) -> fmt::Result {
        out.write_str(&printable(&self.at.file))?;
        if self.at.line > 0 {
            write!(out, ":{}:{}", self.at.line, self.at.column)?;
        }
        out.write_str(": ")?;
        if self.severity == Severity::Warning {
            out.write_str("warning: ")?;
        }
        if !self.at.path.is_empty() {
            write!(out, "{}: ", printable(&self.at.path))?;
        }
        writeln!(out, "{}", printable(&self.message))?;
        let advice = printable(&self.advice());
        match listing.and_then(|listing| listing.excerpt(&self.at)) {
            Some(excerpt) => {
                writeln!(out, "   | {}", excerpt.line)?;
                let carets = format!("{}{}", " ".repeat(excerpt.before), "^".repeat(excerpt.width));
                writeln!(out, "{}", format!("   | {carets} {advice}").trim_end())?;
            }
            None if !advice.is_empty() => writeln!(out, "   = {advice}")?,
            None => {}
        }
        if let Some(expected) = &self.expected {
            writeln!(out, "   = expected {}", printable(expected))?;
        }
        Ok(())
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "file": *self.at.file,
            "line": self.at.line,
            "column": self.at.column,
            "path": self.at.path,
            "message": self.message,
            "expected": self.expected,
            "nearest": self.nearest,
            "declared": self.declared,
        })
    }
}

/// The name among `names` that a person most probably meant by `written`: at most a third of its
/// letters away, and never without a letter in common.
pub fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let length = written.chars().count();
    if length == 0 || length > NEAREST_CHARS_MAX {
        return None;
    }
    let folded = written.to_lowercase().replace(['_', ' '], "-");
    names
        .into_iter()
        .take(NEAREST_NAMES_MAX)
        .filter(|name| name.len() <= NEAREST_CHARS_MAX)
        .map(|name| (strsim::damerau_levenshtein(&folded, &name.to_lowercase().replace('_', "-")), name))
        .filter(|(distance, name)| {
            *distance <= (length.max(name.chars().count()) / 3).max(1) && *distance < length
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The text of a configuration file, kept to show lines of it beside what is wrong with them.
#[derive(Default)]
pub struct Listing {
    text: String,
    /// Byte offsets of the lines' beginnings.
    line_starts: Vec<usize>,
    /// Widths in characters of keys and one-line scalars, by line and column.
    widths: HashMap<(u32, u32), u32>,
    /// Line ranges (inclusive, from 1) where a secret stands in clear: never shown.
    hidden: Vec<(u32, u32)>,
}

impl fmt::Debug for Listing {
    /// The text may hold secrets in clear.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listing({} bytes)", self.text.len())
    }
}

struct Excerpt {
    line: String,
    before: usize,
    width: usize,
}

impl Listing {
    pub(super) fn new(text: String) -> Listing {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Listing { text, line_starts, ..Listing::default() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn set_width(&mut self, line: u32, column: u32, chars: u32) {
        self.widths.insert((line, column), chars);
    }

    pub(super) fn hide(&mut self, first_line: u32, last_line: u32) {
        self.hidden.push((first_line, last_line));
    }

    /// The number (from 1) of the line on which the byte at `offset` stands.
    pub(super) fn line_of(&self, offset: usize) -> u32 {
        u32::try_from(self.line_starts.partition_point(|start| *start <= offset)).unwrap_or(u32::MAX)
    }

    /// A line's text by its number, from 1.
    pub(super) fn line(&self, number: u32) -> Option<&str> {
        let start = *self.line_starts.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        self.text.get(start..)?.lines().next()
    }

    fn excerpt(&self, at: &At) -> Option<Excerpt> {
        if self.hidden.iter().any(|(first, last)| (*first..=*last).contains(&at.line)) {
            return None;
        }
        let line = self.line(at.line)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let count = line.chars().count();
        if line.trim().is_empty() || column > count {
            return None;
        }
        let first = if count > EXCERPT_CHARS_MAX { column.saturating_sub(EXCERPT_CHARS_MAX / 3) } else { 0 };
        let mut shown: String = line.chars().skip(first).take(EXCERPT_CHARS_MAX).map(one_column).collect();
        let mut before = column - first;
        let room = shown.chars().count().saturating_sub(before).max(1);
        if first > 0 {
            shown.insert_str(0, "… ");
            before += 2;
        }
        if count > first + EXCERPT_CHARS_MAX {
            shown.push_str(" …");
        }
        let width = self.widths.get(&(at.line, at.column)).copied().unwrap_or(1);
        let width = usize::try_from(width).unwrap_or(1).clamp(1, room);
        Some(Excerpt { line: shown.trim_end().to_owned(), before, width })
    }
}

/// Tabs and control characters as one column each, so that carets stand where they should and a
/// terminal obeys nobody.
fn one_column(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Control characters escaped: names and values of a file must not drive the reader's terminal.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// All that is to be said of one configuration, in file order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    listing: Option<Arc<Listing>>,
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    files: Vec<PathBuf>,
}

impl Report {
    pub(super) fn new(listing: Option<Arc<Listing>>, files: Vec<PathBuf>) -> Report {
        Report { listing, files, ..Report::default() }
    }

    pub fn push(&mut self, diagnostic: Diagnostic) {
        match diagnostic.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.diagnostics.len() < DIAGNOSTICS_MAX {
            self.diagnostics.push(diagnostic);
        } else if diagnostic.severity == Severity::Error
            && let Some(warning) = self.diagnostics.iter_mut().find(|kept| kept.severity == Severity::Warning)
        {
            // What refuses the file must be seen; a warning can wait.
            *warning = diagnostic;
        }
    }

    /// Whether further diagnostics are only counted, so that advice for them is in vain.
    pub(super) fn is_full(&self) -> bool {
        self.diagnostics.len() >= DIAGNOSTICS_MAX
    }

    /// How many errors there are; with one, the configuration is refused.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// In file order; of several in one place, the first found first.
    pub fn diagnostics(&self) -> Vec<&Diagnostic> {
        let mut ordered: Vec<&Diagnostic> = self.diagnostics.iter().collect();
        ordered.sort_by_key(|diagnostic| (diagnostic.at.line, diagnostic.at.column));
        ordered
    }

    /// The files that were read, or tried: what to watch for the mending.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// `3 errors, 1 warning`; empty if there is nothing.
    pub fn tally(&self) -> String {
        let count = |number: usize, noun: &str| match number {
            0 => None,
            1 => Some(format!("1 {noun}")),
            _ => Some(format!("{number} {noun}s")),
        };
        let counts = [count(self.errors, "error"), count(self.warnings, "warning")];
        counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// All diagnostics and the tally, the latter with what follows from it:
    /// `render("; the running configuration is unchanged")` at a reload, `render("")` else.
    pub fn render(&self, consequence: &str) -> String {
        let mut out = String::new();
        for diagnostic in self.diagnostics() {
            // Writing to a string never fails.
            let _ = diagnostic.write(&mut out, self.listing.as_deref());
        }
        let omitted = (self.errors + self.warnings).saturating_sub(self.diagnostics.len());
        if omitted > 0 {
            let _ = writeln!(out, "… and {omitted} more");
        }
        if self.errors + self.warnings > 0 {
            let _ = writeln!(out, "{}{consequence}", self.tally());
        }
        out
    }

    pub fn to_json(&self) -> serde_json::Value {
        self.diagnostics().iter().map(|diagnostic| diagnostic.to_json()).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(""))
    }
}

impl std::error::Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32, column: u32, path: &str) -> At {
        At { file: "witgate.yaml".into(), line, column, path: path.to_owned() }
    }

    fn report(text: &str) -> Report {
        let mut listing = Listing::new(text.to_owned());
        listing.set_width(2, 13, 8);
        listing.hide(3, 3);
        Report::new(Some(Arc::new(listing)), Vec::new())
    }

    #[test]
    fn renders_in_file_order_with_the_line_and_the_nearest_name() {
        let mut report = report("a: 1\n  upstream: employes\n");
        report.push(
            Diagnostic::error(&at(2, 13, "apis[a].upstream"), "no upstream is named \"employes\"")
                .with_declared("employes", ["employees", "flights"]),
        );
        report.push(
            Diagnostic::error(&at(1, 4, "a"), "\"1\" is not a duration").expecting("a number and a unit"),
        );
        assert_eq!(
            report.render("; the running configuration is unchanged"),
            "witgate.yaml:1:4: a: \"1\" is not a duration\n\
             \x20  | a: 1\n\
             \x20  |    ^\n\
             \x20  = expected a number and a unit\n\
             witgate.yaml:2:13: apis[a].upstream: no upstream is named \"employes\"\n\
             \x20  |   upstream: employes\n\
             \x20  |             ^^^^^^^^ did you mean `employees`? (declared: employees, flights)\n\
             2 errors; the running configuration is unchanged\n"
        );
    }

    #[test]
    fn a_line_with_a_secret_is_not_shown() {
        let mut report = report("a: 1\nb: 2\n{ address: x, token: hunter2 }\n");
        report.push(Diagnostic::error(&at(3, 12, "admin.address"), "no").with_nearest(Some("y")));
        let text = report.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("= did you mean `y`?"), "{text}");
        assert!(!format!("{report:?}").contains("hunter2"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut report = report("a: \u{1b}[31mred\n");
        report.push(Diagnostic::error(&at(1, 4, "a\u{7}"), "got \u{1b}[2J"));
        assert!(!report.to_string().contains(['\u{1b}', '\u{7}']));
    }

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let mut report = report(&format!("{}wrong{}\n", "x".repeat(5000), "y".repeat(5000)));
        report.push(Diagnostic::error(&at(1, 5001, ""), "no"));
        let text = report.to_string();
        assert!(text.len() < 500, "{text}");
        let lines: Vec<&str> = text.lines().collect();
        let caret = lines[2].chars().position(|c| c == '^');
        assert_eq!(caret, lines[1].chars().position(|c| c == 'w'));
    }

    #[test]
    fn the_number_kept_is_bounded_and_errors_come_before_warnings() {
        let mut report = report("a\n");
        for _ in 0..2 * DIAGNOSTICS_MAX {
            report.push(Diagnostic::warning(&at(1, 1, ""), "hm"));
        }
        report.push(Diagnostic::error(&at(1, 1, ""), "no"));
        assert_eq!(report.diagnostics().len(), DIAGNOSTICS_MAX);
        assert!(report.diagnostics().iter().any(|kept| kept.severity == Severity::Error));
        assert!(report.to_string().ends_with("… and 501 more\n1 error, 1000 warnings\n"));
    }

    #[test]
    fn nearest_names() {
        let names = ["employees", "flights", "least_request", "a"];
        assert_eq!(nearest("employes", names), Some("employees"));
        assert_eq!(nearest("fligths", names), Some("flights"));
        assert_eq!(nearest("least-request", names), Some("least_request"));
        assert_eq!(nearest("x", names), None);
        assert_eq!(nearest("zebra", names), None);
        assert_eq!(nearest("", names), None);
    }
}
