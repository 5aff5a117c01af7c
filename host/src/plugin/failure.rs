//! How a hook can fail, and whether the policy is to blame enough to be quarantined.
//!
//! Made by `instance`, `pool` and `chain`; `exchange` maps it to a reason. The text is for the
//! log only: it never reaches a client.

use super::instance::told;
use crate::telemetry::reason::Reason;

/// Why a hook gave no verdict that can be used.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The hook returned an error; the instance lives on.
    Error(String),
    /// The guest trapped; the instance is gone.
    Trap(String),
    /// The hook used more time than its limit.
    Timeout,
    /// The guest wanted more memory than its limit and could not go on.
    Memory,
    /// What the hook returned was refused: an undeclared edit, a status out of range, too much.
    Return(String),
    /// The policy failed too often and is kept out of the way for a while.
    Quarantined,
    /// All instances are at work.
    Busy,
    /// No instance could be made.
    Instance(String),
}

impl Failure {
    pub fn reason(&self) -> Reason {
        match self {
            Failure::Error(_) => Reason::PolicyError,
            Failure::Trap(_) | Failure::Instance(_) => Reason::PolicyTrap,
            Failure::Timeout => Reason::PolicyTimeout,
            Failure::Memory => Reason::PolicyMemory,
            Failure::Return(_) => Reason::PolicyReturn,
            Failure::Quarantined => Reason::PolicyQuarantined,
            Failure::Busy => Reason::PolicyBusy,
        }
    }

    /// Whether it counts towards quarantine. An error is an answer, and may be the client's doing.
    pub fn counts(&self) -> bool {
        matches!(
            self,
            Failure::Trap(_) | Failure::Timeout | Failure::Memory | Failure::Return(_) | Failure::Instance(_)
        )
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Error(text) => write!(f, "returned an error: {text}"),
            Failure::Trap(text) => write!(f, "trapped: {text}"),
            Failure::Timeout => f.write_str("ran out of time"),
            Failure::Memory => f.write_str("ran out of memory"),
            // Names that the guest chose stand in it, of any length.
            Failure::Return(text) => write!(f, "returned what is not allowed: {}", told(text)),
            Failure::Quarantined => f.write_str("is in quarantine"),
            Failure::Busy => f.write_str("has no free instance"),
            Failure::Instance(text) => write!(f, "could not be instantiated: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_guest_stay_on_the_line() {
        let failure = Failure::Return(format!("`x\n2026 INFO forged\u{1b}[0m` {}", "x".repeat(9_999)));
        let told = failure.to_string();
        assert!(
            told.starts_with(r"returned what is not allowed: `x\n2026 INFO forged\u{1b}[0m` xxx"),
            "{told}"
        );
        assert!(told.len() < 2_000, "{}", told.len());
    }
}
