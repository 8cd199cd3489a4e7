//! What people see of a build: the steps as podman writes them, on standard error.

use crate::build::builder::Outcome;
use crate::output::harmless;

#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Nothing but errors.
    pub quiet: bool,
}

impl Report {
    /// `STEP 2/5: RUN make`, with `[1/3]` before it where there are several stages.
    pub fn step(&self, (stage, stages): (usize, usize), (number, total): (usize, usize), text: &str) {
        let prefix = if stages > 1 { format!("[{stage}/{stages}] ") } else { String::new() };
        self.line(&format!("{prefix}STEP {number}/{total}: {text}"));
    }

    /// What a step that may make a layer came to.
    pub fn outcome(&self, outcome: &Outcome) {
        let cached = if outcome.cached { "Using cache " } else { "" };
        match &outcome.layer {
            Some(layer) => self.line(&format!("--> {cached}{}", layer.diff_id.short())),
            None if outcome.cached => self.line("--> Using cache"),
            None => self.line("--> no file was changed"),
        }
    }

    pub fn line(&self, text: &str) {
        if !self.quiet {
            use std::io::Write;
            // Nobody is left to be told that nobody reads it.
            let _ = writeln!(std::io::stderr(), "{}", harmless::lines(text));
        }
    }
}
