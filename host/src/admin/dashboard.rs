//! One read-only page that shows what `/config`, `/plugins` and `/upstreams` say, as tables.
//!
//! Called by `route`. Has no script and fetches nothing; its style is allowed by hash, so
//! whatever a name or a configuration contains cannot run.

use super::answer::{self, Answer};
use super::{Ready, Source};
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde_json::Value;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8884}\
td{overflow-wrap:anywhere}\
ul{margin:0;padding-left:1.1rem}\
.none{opacity:.6}";

/// Rows shown of one table; `/config` has them all.
const ROWS_MAX: usize = 1_000;
/// Levels of nested values shown as lists; deeper ones are shown as JSON.
const LEVELS_MAX: usize = 4;

pub(super) struct Dashboard {
    policy: HeaderValue,
}

impl Dashboard {
    pub(super) fn new() -> Dashboard {
        let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        // Base64 and the words above are all valid; without a policy of its own the page would
        // lose its style, no more.
        let closed = || HeaderValue::from_static("default-src 'none'");
        Dashboard { policy: HeaderValue::try_from(policy).unwrap_or_else(|_| closed()) }
    }

    pub(super) fn page(&self, source: &dyn Source) -> Answer {
        let ready = match source.ready() {
            Ready::Yes => "ready",
            Ready::Starting => "starting",
            Ready::Draining => "draining",
        };
        let config = source.config();
        let mut page = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>witgate</title>\
             <style>{STYLE}</style></head><body><h1>witgate {version}: {ready}</h1><p>\
             <a href=\"/config\">config</a> · <a href=\"/plugins\">plugins</a> · \
             <a href=\"/upstreams\">upstreams</a> · <a href=\"/metrics\">metrics</a></p>",
            version = env!("CARGO_PKG_VERSION"),
        );
        section(&mut page, "APIs", config.get("apis").unwrap_or(&Value::Null));
        section(&mut page, "Upstreams", &source.upstreams());
        section(&mut page, "Plugins and policies", &source.plugins());
        page.push_str("</body></html>\n");
        answer::html(page, self.policy.clone())
    }
}

/// A table of a list of objects (or an object of them, whose keys become names): its columns are
/// the keys of all rows, in the order of their first appearance.
fn section(out: &mut String, title: &str, value: &Value) {
    // A string takes all that is written to it, here and below.
    let _ = write!(out, "<h2>{title}</h2>");
    let rows: Vec<(Option<&str>, &Value)> = match value {
        Value::Array(rows) => rows.iter().map(|row| (None, row)).collect(),
        Value::Object(rows) => rows.iter().map(|(name, row)| (Some(name.as_str()), row)).collect(),
        _ => Vec::new(),
    };
    if rows.is_empty() {
        out.push_str("<p class=\"none\">none</p>");
        return;
    }
    let mut columns: Vec<&str> = Vec::new();
    for (_, row) in rows.iter().take(ROWS_MAX) {
        for name in row.as_object().into_iter().flat_map(|row| row.keys()) {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    // The name first, wherever the map keeps it.
    columns.sort_by_key(|column| *column != "name");
    let keyed = rows.iter().any(|(name, _)| name.is_some());
    out.push_str("<table><thead><tr>");
    if keyed {
        out.push_str("<th>name</th>");
    }
    for column in &columns {
        let _ = write!(out, "<th>{}</th>", Escaped(column));
    }
    out.push_str("</tr></thead><tbody>");
    for (name, row) in rows.iter().take(ROWS_MAX) {
        out.push_str("<tr>");
        if let Some(name) = name {
            let _ = write!(out, "<td>{}</td>", Escaped(name));
        }
        for column in &columns {
            out.push_str("<td>");
            cell(out, row.get(column).unwrap_or(&Value::Null), LEVELS_MAX);
            out.push_str("</td>");
        }
        if columns.is_empty() {
            out.push_str("<td>");
            cell(out, row, LEVELS_MAX);
            out.push_str("</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    if rows.len() > ROWS_MAX {
        let _ = write!(out, "<p class=\"none\">and {} more</p>", rows.len() - ROWS_MAX);
    }
}

fn cell(out: &mut String, value: &Value, levels: usize) {
    match value {
        Value::Null => {}
        Value::String(text) => {
            let _ = write!(out, "{}", Escaped(text));
        }
        Value::Array(values) if levels > 0 && !values.is_empty() => {
            out.push_str("<ul>");
            for value in values {
                out.push_str("<li>");
                cell(out, value, levels - 1);
                out.push_str("</li>");
            }
            out.push_str("</ul>");
        }
        Value::Object(fields) if levels > 0 && !fields.is_empty() => {
            for (index, (name, value)) in fields.iter().filter(|(_, value)| !value.is_null()).enumerate() {
                let separator = if index > 0 { ", " } else { "" };
                let _ = write!(out, "{separator}{}: ", Escaped(name));
                cell(out, value, levels - 1);
            }
        }
        other => {
            let _ = write!(out, "{}", Escaped(&other.to_string()));
        }
    }
}

/// Text that is no markup, in an element or a quoted attribute.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table(value: &Value) -> String {
        let mut out = String::new();
        section(&mut out, "T", value);
        out
    }

    #[test]
    fn rows_of_different_keys_share_a_table() {
        let text =
            table(&json!([{ "name": "a", "x": 1 }, { "name": "b", "y": [true, { "url": "u", "n": null }] }]));
        let expected = "<h2>T</h2><table><thead><tr><th>name</th><th>x</th><th>y</th></tr></thead><tbody>\
            <tr><td>a</td><td>1</td><td></td></tr>\
            <tr><td>b</td><td></td><td><ul><li>true</li><li>url: u</li></ul></td></tr></tbody></table>";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_object_of_objects_is_a_table_too() {
        let text = table(&json!({ "employees": { "balance": "random" }, "flights": {} }));
        assert!(
            text.contains("<tr><td>employees</td><td>random</td></tr><tr><td>flights</td><td></td></tr>"),
            "{text}"
        );
        assert!(table(&json!(["a"])).contains("<td>a</td>"));
    }

    #[test]
    fn nothing_is_told_to_be_nothing() {
        for value in [json!(null), json!([]), json!({}), json!("x")] {
            assert!(table(&value).contains("none"));
        }
    }

    #[test]
    fn markup_in_values_stays_text() {
        let evil = "<script>alert('1')</script>\"&";
        let text = table(&json!([{ evil: evil, "list": [{ evil: [[[[[evil]]]]] }] }]));
        assert!(!text.contains("<script") && !text.contains("alert('"), "{text}");
        assert!(text.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"));
    }

    #[test]
    fn a_huge_table_is_cut() {
        let rows: Vec<Value> = (0..ROWS_MAX + 5).map(|n| json!({ "n": n })).collect();
        let text = table(&Value::Array(rows));
        assert_eq!(text.matches("<tr><td>").count(), ROWS_MAX);
        assert!(text.contains("and 5 more"));
    }
}
