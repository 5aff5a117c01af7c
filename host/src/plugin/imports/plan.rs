//! `plan`: what the policy wants, heard in `configure` only.

use crate::plugin::bindings::witgate::policy::plan::{BodyMode as WitMode, Fallback, Host};
use crate::plugin::guest::Guest;
use crate::plugin::plan::{BodyMode, OnError, Plan};
use std::time::Duration;

impl Guest {
    fn draft(&mut self, say: impl FnOnce(&mut Plan)) {
        // Outside `configure` there is no plan to add to, and nothing to tell the guest by.
        if let Some(plan) = &mut self.plan {
            say(plan);
        }
    }
}

impl Host for Guest {
    fn request_reads(&mut self, names: Vec<String>) {
        self.draft(|plan| plan.names(|plan| &mut plan.request_reads, "request-reads", names));
    }
    fn response_reads(&mut self, names: Vec<String>) {
        self.draft(|plan| plan.names(|plan| &mut plan.response_reads, "response-reads", names));
    }
    fn log_reads(&mut self, names: Vec<String>) {
        self.draft(|plan| plan.names(|plan| &mut plan.log_reads, "log-reads", names));
    }
    fn writes(&mut self, names: Vec<String>) {
        self.draft(|plan| plan.names(|plan| &mut plan.writes, "writes", names));
    }
    fn request_body(&mut self, mode: WitMode, limit: u32) {
        self.draft(|plan| plan.body(|plan| &mut plan.request_body, "request-body", body_mode(mode, limit)));
    }
    fn response_body(&mut self, mode: WitMode, limit: u32) {
        self.draft(|plan| plan.body(|plan| &mut plan.response_body, "response-body", body_mode(mode, limit)));
    }
    fn on_error(&mut self, action: Fallback) {
        self.draft(|plan| {
            plan.on_error = Some(match action {
                Fallback::Deny => OnError::Deny,
                Fallback::Skip => OnError::Skip,
            });
        });
    }
    fn tick_millis(&mut self, period: u32) {
        self.draft(|plan| plan.tick(Duration::from_millis(u64::from(period))));
    }
}

fn body_mode(mode: WitMode, limit: u32) -> BodyMode {
    match mode {
        WitMode::Skip => BodyMode::Skip,
        WitMode::Buffer => BodyMode::Buffer(limit),
        WitMode::Stream => BodyMode::Stream,
    }
}
