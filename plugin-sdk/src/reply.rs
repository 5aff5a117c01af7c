//! Answers that a policy makes itself, problem documents (RFC 9457) above all.

use serde::Serialize;

use crate::Reply;

impl Reply {
    /// An empty answer. `status`: 200 to 599.
    pub fn new(status: u16) -> Self {
        Reply { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A problem document: `{"status":401,"title":"…"}`, to which [`detail`](Self::detail) and
    /// [`member`](Self::member) add.
    pub fn problem(status: u16, title: &str) -> Self {
        let mut body = format!("{{\"status\":{status},\"title\":").into_bytes();
        write_json(&mut body, title);
        body.push(b'}');
        let headers = vec![("content-type".into(), PROBLEM.into())];
        Reply { status, headers, body }
    }

    /// What happened this time, for the person who reads the problem document. The client sees it.
    #[must_use]
    pub fn detail(self, text: &str) -> Self {
        self.member("detail", text)
    }

    /// One more member of a problem document; on other answers nothing happens.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Serialize) -> Self {
        if self.get("content-type") == Some(PROBLEM) && self.body.pop_if(|last| *last == b'}').is_some() {
            self.body.push(b',');
            write_json(&mut self.body, name);
            self.body.push(b':');
            write_json(&mut self.body, value);
            self.body.push(b'}');
        }
        self
    }

    /// When the client may come again, in seconds (RFC 9110, 10.2.3); nothing happens without a number.
    #[must_use]
    pub fn retry_after(self, seconds: impl Into<Option<u32>>) -> Self {
        match seconds.into() {
            Some(seconds) => self.header("retry-after", seconds.to_string()),
            None => self,
        }
    }

    /// `application/json`.
    pub fn json(status: u16, value: &impl Serialize) -> Result<Self, String> {
        let body = serde_json::to_vec(value).map_err(|error| error.to_string())?;
        Ok(Reply::new(status).header("content-type", "application/json").body(body))
    }

    /// `text/plain`.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        let kind = "text/plain; charset=utf-8";
        Reply::new(status).header("content-type", kind).body(text.into().into_bytes())
    }

    /// Sends the client elsewhere. `status`: 301, 302, 303, 307 or 308.
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Reply::new(status).header("location", location)
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }

    /// The first line of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter();
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

const PROBLEM: &str = "application/problem+json";

/// Writing into memory fails only for maps whose keys are no strings: `null` stands for those.
fn write_json(out: &mut Vec<u8>, value: impl Serialize) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, &value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(reply: &Reply) -> serde_json::Value {
        serde_json::from_slice(&reply.body).expect("valid JSON")
    }

    #[test]
    fn a_problem_grows_and_escapes() {
        let reply = Reply::problem(401, "No \"key\"").detail("a\nb").member("part", 3);
        let expected = serde_json::json!({"status": 401, "title": "No \"key\"", "detail": "a\nb", "part": 3});
        assert_eq!(json(&reply), expected);
        assert_eq!(reply.get("Content-Type"), Some("application/problem+json"));
    }

    #[test]
    fn a_member_that_is_no_json_leaves_the_document_whole() {
        let odd = std::collections::HashMap::from([(vec![1], 2)]);
        assert_eq!(json(&Reply::problem(400, "x").member("odd", odd))["odd"], serde_json::Value::Null);
    }

    #[test]
    fn other_answers_have_no_members() {
        assert_eq!(Reply::text(200, "{}").detail("x").body, b"{}");
        assert_eq!(Reply::redirect(302, "/x").get("location"), Some("/x"));
        assert_eq!(json(&Reply::json(200, &[1, 2]).expect("serialisable")), serde_json::json!([1, 2]));
    }
}
