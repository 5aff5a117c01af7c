//! What is counted of a policy: calls of its hooks, how they ended, the time they took.
//!
//! `chain` and `plugin` count; `metric` exposes. Never decides anything, quarantine included.

use super::cell::{Count, DurationCells, Gauge, HOOK_BOUNDS, Observed, Sharded};

macro_rules! labelled {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }
        }
    };
}

labelled! {
    /// Which of a policy's functions was called.
    Hook {
        Request = "request",
        Response = "response",
        RequestBody = "request_body",
        ResponseBody = "response_body",
        Chunk = "chunk",
        Log = "log",
        Tick = "tick",
    }
}

labelled! {
    /// How a call of a hook ended.
    Verdict {
        Proceed = "proceed",
        Amend = "amend",
        Respond = "respond",
        /// The policy returned an error.
        Error = "error",
        Trap = "trap",
        Timeout = "timeout",
        Memory = "memory",
        /// What it returned was refused: an undeclared write, too many bytes.
        Return = "return",
        /// Not called: the policy is out of service.
        Quarantined = "quarantined",
        /// Not called: all instances are in use.
        Busy = "busy",
        /// Not called for another reason.
        Skipped = "skipped",
    }
}

impl Verdict {
    /// Whether the guest ran at all, so that its time counts.
    const fn ran(self) -> bool {
        !matches!(self, Verdict::Quarantined | Verdict::Busy | Verdict::Skipped)
    }
}

const HOOKS: usize = Hook::ALL.len();
const VERDICTS: usize = Verdict::ALL.len();

/// One policy's calls, over all APIs that use it.
#[derive(Debug)]
pub struct PolicyMetrics {
    shards: Sharded<PolicyCells>,
    /// Instances alive.
    pub instances: Gauge,
    /// 1 for each worker (or 1 in all, as the runtime keeps it) that holds it out of service.
    pub quarantined: Gauge,
}

#[derive(Debug, Default)]
struct PolicyCells {
    verdicts: [[Count; VERDICTS]; HOOKS],
    nanos: [Count; HOOKS],
    durations: DurationCells,
}

impl PolicyMetrics {
    pub(super) fn new(workers: usize) -> PolicyMetrics {
        PolicyMetrics {
            shards: Sharded::new(workers),
            instances: Gauge::new(workers),
            quarantined: Gauge::new(workers),
        }
    }

    /// Counts a call that took `nanos` nanoseconds.
    #[inline]
    pub fn call(&self, hook: Hook, verdict: Verdict, nanos: u64) {
        let (cells, writers) = self.shards.mine();
        cells.verdicts[hook as usize][verdict as usize].add(1, writers);
        if verdict.ran() {
            cells.nanos[hook as usize].add(nanos, writers);
            cells.durations.observe(nanos, &HOOK_BOUNDS, writers);
        }
    }

    pub(super) fn verdicts(&self, hook: Hook, verdict: Verdict) -> u64 {
        self.shards.iter().map(|cells| cells.verdicts[hook as usize][verdict as usize].get()).sum()
    }

    /// Calls in which the guest ran.
    pub(super) fn calls(&self, hook: Hook) -> u64 {
        let ran = Verdict::ALL.iter().filter(|verdict| verdict.ran());
        ran.map(|verdict| self.verdicts(hook, *verdict)).sum()
    }

    pub(super) fn nanos(&self, hook: Hook) -> u64 {
        self.shards.iter().map(|cells| cells.nanos[hook as usize].get()).sum()
    }

    pub(super) fn durations(&self) -> Observed {
        let shards: Vec<_> = self.shards.iter().map(|cells| &cells.durations).collect();
        Observed::durations(&HOOK_BOUNDS, &shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_never_ran_takes_no_time() {
        let policy = PolicyMetrics::new(1);
        policy.call(Hook::Request, Verdict::Amend, 700);
        policy.call(Hook::Request, Verdict::Trap, 300);
        policy.call(Hook::Request, Verdict::Busy, 5_000);
        policy.call(Hook::Tick, Verdict::Proceed, 1);
        assert_eq!((policy.calls(Hook::Request), policy.nanos(Hook::Request)), (2, 1_000));
        assert_eq!(policy.verdicts(Hook::Request, Verdict::Busy), 1);
        assert_eq!((policy.durations().count, policy.calls(Hook::Tick)), (3, 1));
    }

    #[test]
    fn indexes_follow_the_lists() {
        assert!(Hook::ALL.iter().enumerate().all(|(index, hook)| *hook as usize == index));
        assert!(Verdict::ALL.iter().enumerate().all(|(index, verdict)| *verdict as usize == index));
    }
}
