//! What hooks answer: verdicts are built by chaining edits.

use crate::{BodyVerdict, Edit, Reply, Verdict};

impl Verdict {
    /// Nothing to change: the start of every verdict.
    pub fn proceed() -> Self {
        Verdict::Proceed
    }

    /// Stop here and answer.
    pub fn respond(reply: Reply) -> Self {
        Verdict::Respond(reply)
    }

    /// Replaces all values of a field. Like all edits dropped on [`respond`](Self::respond).
    #[must_use]
    pub fn set(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit(Edit::Set((name.into(), value.into())))
    }

    /// Adds one value to a field.
    #[must_use]
    pub fn append(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit(Edit::Append((name.into(), value.into())))
    }

    /// Removes all values of a field.
    #[must_use]
    pub fn remove(self, name: impl Into<String>) -> Self {
        self.edit(Edit::Remove(name.into()))
    }

    /// Leaves bytes for this policy's later hooks of this exchange.
    #[must_use]
    pub fn note(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.edit(Edit::Note(bytes.into()))
    }

    #[must_use]
    pub fn edit(self, edit: Edit) -> Self {
        match self {
            Verdict::Proceed => Verdict::Amend(vec![edit]),
            Verdict::Amend(mut edits) => {
                edits.push(edit);
                Verdict::Amend(edits)
            }
            Verdict::Respond(reply) => Verdict::Respond(reply),
        }
    }

    /// The edits, if it has any.
    pub fn edits(&self) -> &[Edit] {
        match self {
            Verdict::Amend(edits) => edits,
            Verdict::Proceed | Verdict::Respond(_) => &[],
        }
    }

    /// The answer, if it is one.
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Verdict::Respond(reply) => Some(reply),
            Verdict::Proceed | Verdict::Amend(_) => None,
        }
    }
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Verdict::Respond(reply)
    }
}

/// No edits: proceed, which costs nothing.
impl From<Vec<Edit>> for Verdict {
    fn from(edits: Vec<Edit>) -> Self {
        if edits.is_empty() { Verdict::Proceed } else { Verdict::Amend(edits) }
    }
}

impl BodyVerdict {
    /// The body stays as it is: the start of a verdict that leaves it.
    pub fn proceed() -> Self {
        BodyVerdict::Proceed
    }

    /// Another body, whose length the host writes into the headers.
    pub fn replace(bytes: impl Into<Vec<u8>>) -> Self {
        BodyVerdict::Replace((bytes.into(), Vec::new()))
    }

    /// Stop here and answer.
    pub fn respond(reply: Reply) -> Self {
        BodyVerdict::Respond(reply)
    }

    /// Replaces all values of a field. Like all edits dropped on [`respond`](Self::respond).
    #[must_use]
    pub fn set(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit(Edit::Set((name.into(), value.into())))
    }

    /// Adds one value to a field.
    #[must_use]
    pub fn append(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.edit(Edit::Append((name.into(), value.into())))
    }

    /// Removes all values of a field.
    #[must_use]
    pub fn remove(self, name: impl Into<String>) -> Self {
        self.edit(Edit::Remove(name.into()))
    }

    /// Leaves bytes for this policy's later hooks of this exchange.
    #[must_use]
    pub fn note(self, bytes: impl Into<Vec<u8>>) -> Self {
        self.edit(Edit::Note(bytes.into()))
    }

    #[must_use]
    pub fn edit(mut self, edit: Edit) -> Self {
        match &mut self {
            BodyVerdict::Proceed => return BodyVerdict::Amend(vec![edit]),
            BodyVerdict::Amend(edits) | BodyVerdict::Replace((_, edits)) => edits.push(edit),
            BodyVerdict::Respond(_) => {}
        }
        self
    }
}

impl From<Reply> for BodyVerdict {
    fn from(reply: Reply) -> Self {
        BodyVerdict::Respond(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_chain() {
        let verdict = Verdict::proceed().set("a", "1").append("b", "2").remove("c").note(*b"n");
        let expected = [
            Edit::Set(("a".into(), "1".into())),
            Edit::Append(("b".into(), "2".into())),
            Edit::Remove("c".into()),
            Edit::Note(b"n".to_vec()),
        ];
        assert_eq!(verdict.edits(), expected);
        assert_eq!(Verdict::from(Vec::new()), Verdict::Proceed);
    }

    #[test]
    fn an_answer_stays_an_answer() {
        let verdict = Verdict::respond(Reply::new(204)).set("a", "1");
        assert_eq!(verdict.reply().map(|reply| reply.status), Some(204));
    }

    #[test]
    fn a_body_can_be_kept_while_headers_change() {
        assert_eq!(
            BodyVerdict::proceed().set("a", "1"),
            BodyVerdict::Amend(vec![Edit::Set(("a".into(), "1".into()))])
        );
        assert_eq!(
            BodyVerdict::replace("x").remove("a"),
            BodyVerdict::Replace((b"x".to_vec(), vec![Edit::Remove("a".into())]))
        );
    }
}
