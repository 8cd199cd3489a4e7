//! Bundles, one case a file in `tests/bundles/GROUP/`: what sbx makes of each is what crun and runc make of it, or what the
//! quoted sentence decides.
//!
//! `SBX_TEST_CASE=WORD` narrows a group to the cases with this in their names, and prints what each runtime makes of them.

mod case;
mod host;
mod peers;
mod runner;
pub mod view;

use case::Case;
use host::Host;
use peers::Peers;
use runner::Runner;

use crate::harness::cases::{self, groups};
use crate::harness::sbx;

groups! {
    "tests/bundles":
    capabilities devices document exec hooks lifecycle mappings mounts names namespaces paths process resources root seccomp sysctl terminal
}

/// Gives all cases of a group to the three, and fails with everything that is wrong.
fn check(group: &str) {
    let wanted = cases::wanted();
    let world = sbx();
    let runner = Runner::new(&world);
    let peers = Peers::new(&world, &runner);
    let host = Host::look(&world);
    let mut wrong = Vec::new();
    for path in cases::files("tests/bundles", group) {
        let case = Case::read(&path, &host);
        let ours = runner.sbx(&case);
        let theirs = || [("crun", peers.crun(&case)), ("runc", peers.runc(&case))];
        let mut made = theirs();
        let mut problems = case.judge(&ours, &made);
        if !problems.is_empty() {
            // What is kept of the others may come from a loaded machine; sbx has one try.
            peers.forget(&case);
            made = theirs();
            problems = case.judge(&ours, &made);
        }
        if wanted.is_some() {
            for (name, outcome) in
                [("sbx", &ours)].into_iter().chain(made.iter().map(|(name, made)| (*name, made)))
            {
                eprintln!("{group}/{} {name} {}", case.name, serde_json::to_string(outcome).expect("JSON"));
            }
        }
        if !problems.is_empty() {
            wrong.push(format!("{group}/{}: {}", case.name, problems.join("\n    ")));
        }
    }
    cases::none_is_wrong(&wrong);
}
