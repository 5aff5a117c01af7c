//! What a policy said in `configure` that it reads, writes and wants, and what it asked the host for.
//!
//! Filled by the `plan` import, bounded here; `chain` turns the names into what a hook is handed.
//! Never judges a name: a name that `chain` does not know refuses the configuration there.

use std::time::Duration;

/// Names in one list of a plan; more make no readable policy and no cheap hook.
pub const NAMES_MAX: usize = 256;
/// Bytes of one name.
const NAME_BYTES_MAX: usize = 256;
/// The most that a policy may have collected of a body.
pub const BODY_BYTES_MAX: u32 = 64 << 20;
/// The shortest period of `on-tick`.
const TICK_MIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// It streams past; the policy never sees it.
    #[default]
    Skip,
    /// Collected up to so many bytes and given in one call.
    Buffer(u32),
    /// Given chunk by chunk to a body filter.
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// Answer with the failure.
    Deny,
    /// Go on without the policy.
    Skip,
}

/// What a guest asked for in `configure` that must be granted, by the name that `allow` lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    Bucket(String),
    File(String),
    Secret(String),
    Url(String),
}

/// The plan as the guest gave it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub request_reads: Vec<String>,
    pub response_reads: Vec<String>,
    pub log_reads: Vec<String>,
    pub writes: Vec<String>,
    pub request_body: BodyMode,
    pub response_body: BodyMode,
    pub on_error: Option<OnError>,
    pub tick: Option<Duration>,
    /// What was wrong with it; any refuses the configuration.
    pub faults: Vec<String>,
}

impl Plan {
    pub(super) fn names(&mut self, list: fn(&mut Plan) -> &mut Vec<String>, what: &str, names: Vec<String>) {
        if names.len() > NAMES_MAX {
            self.fault(format!("{what} lists {} names; at most {NAMES_MAX} are allowed", names.len()));
        } else if let Some(long) = names.iter().find(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            self.fault(format!(
                "{what} has a name of {} bytes; 1 to {NAME_BYTES_MAX} are allowed",
                long.len()
            ));
        } else {
            *list(self) = names.into_iter().map(lower_kind).collect();
        }
    }

    pub(super) fn body(&mut self, list: fn(&mut Plan) -> &mut BodyMode, what: &str, mode: BodyMode) {
        match mode {
            BodyMode::Buffer(limit) if limit == 0 || limit > BODY_BYTES_MAX => {
                self.fault(format!("{what} wants {limit} bytes; 1 to {BODY_BYTES_MAX} are allowed"));
            }
            mode => *list(self) = mode,
        }
    }

    pub(super) fn tick(&mut self, period: Duration) {
        if period < TICK_MIN {
            self.fault(format!(
                "tick-millis is {}; at least {} is allowed",
                period.as_millis(),
                TICK_MIN.as_millis()
            ));
        } else {
            self.tick = Some(period);
        }
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < 16 {
            self.faults.push(text);
        }
    }
}

/// Lower-cases a name up to what is case-sensitive in it: the names of parameters, query
/// parameters, cookies, claims and context values stay as they are.
fn lower_kind(name: String) -> String {
    const SENSITIVE: &[&str] = &["param:", "query:", "cookie:", "claim:", "context:"];
    let lower = name.to_ascii_lowercase();
    match SENSITIVE.iter().find(|kind| lower.starts_with(**kind)) {
        Some(kind) => format!("{kind}{}", &name[kind.len()..]),
        None => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_but_for_what_is_case_sensitive() {
        let mut plan = Plan::default();
        let names = ["X-Role", ":Path", "Param:Id", "REQUEST-HEADER:Accept", "Claim:Sub"];
        plan.names(|p| &mut p.request_reads, "request-reads", names.map(String::from).to_vec());
        assert_eq!(plan.request_reads, ["x-role", ":path", "param:Id", "request-header:accept", "claim:Sub"]);
    }

    #[test]
    fn what_is_out_of_bounds_is_a_fault() {
        let mut plan = Plan::default();
        plan.names(|p| &mut p.writes, "writes", vec!["a".into(); NAMES_MAX + 1]);
        plan.names(|p| &mut p.writes, "writes", vec![String::new()]);
        plan.body(|p| &mut p.request_body, "request-body", BodyMode::Buffer(0));
        plan.tick(Duration::from_millis(1));
        assert_eq!(plan.faults.len(), 4);
        assert_eq!(plan.writes, Vec::<String>::new());
    }
}
