//! Text with values of the exchange in braces: `"{client:ip} {param:id}"`, `{{` and `}}` for
//! braces.

/// A part of a template, `V` whatever stands for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<V> {
    Text(String),
    Value(V),
}

/// Takes a template apart; `value` makes what stands for a value of its name in the plan, which
/// is known to exist. No two texts follow each other.
pub fn parse<V>(text: &str, mut value: impl FnMut(&str) -> V) -> Result<Vec<Piece<V>>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(escaped) = after.strip_prefix(brace) {
            plain.push_str(brace);
            rest = escaped;
            continue;
        }
        if brace == "}" {
            return Err(format!("`}}` is not opened in `{text}`; a brace is written `}}}}`"));
        }
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!("`{{` is not closed in `{text}`; a brace is written `{{{{`"));
        };
        if !crate::is_name(name) {
            return Err(format!("no value is named `{name}`"));
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Value(value(name)));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        let text = |text: &str| Piece::Text(text.to_string());
        let value = |name: &str| Piece::Value(name.to_string());
        let check = |template: &str, expected: &[Piece<String>]| {
            assert_eq!(parse(template, str::to_string).as_deref(), Ok(expected), "{template}");
        };
        check("", &[]);
        check("plain é", &[text("plain é")]);
        check("{client:ip}", &[value("client:ip")]);
        check("a{client:ip}b{param:id}", &[text("a"), value("client:ip"), text("b"), value("param:id")]);
        check("{{{client:ip}}}", &[text("{"), value("client:ip"), text("}")]);
        check("{{}}", &[text("{}")]);
    }

    #[test]
    fn mistakes() {
        for bad in ["{", "}", "{a", "a}b", "{a b}", "{{}", "{client:}", "{param:}", "{}", "{client:port}"] {
            assert!(parse(bad, str::to_string).is_err(), "{bad}");
        }
    }
}
