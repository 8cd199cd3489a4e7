//! `sbx doctor`: every prerequisite on this host, what stops working without it, and the exact mend.

mod cgroups;
pub mod ids;
pub mod layers;
mod nesting;
mod network;
pub mod packages;
mod places;
mod user_namespaces;

use std::path::PathBuf;

use serde::Serialize;

use crate::host::paths::Surroundings;
use packages::PackageManager;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// `sbx run` works with something less.
    Warning,
    /// `sbx run` does not work without it.
    Missing,
}

/// One prerequisite, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Stable, for scripts.
    pub id: &'static str,
    pub title: &'static str,
    pub status: Status,
    /// What is there.
    pub found: String,
    /// What does not work as it is; none where all is well.
    pub stops_working: Option<String>,
    /// A command line where one mends it, else a sentence.
    pub mend: Option<String>,
}

impl Check {
    fn ok(id: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        Self { id, title, status: Status::Ok, found: found.into(), stops_working: None, mend: None }
    }

    fn warn(self, stops_working: impl Into<String>, mend: impl Into<String>) -> Self {
        self.with(Status::Warning, stops_working, mend)
    }

    fn missing(self, stops_working: impl Into<String>, mend: impl Into<String>) -> Self {
        self.with(Status::Missing, stops_working, mend)
    }

    fn with(self, status: Status, stops_working: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { status, stops_working: Some(stops_working.into()), mend: Some(mend.into()), ..self }
    }
}

/// For whom and on what the checks are made.
#[derive(Debug, Clone)]
pub struct Situation {
    pub surroundings: Surroundings,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// The effective user is 0 in their user namespace.
    pub privileged: bool,
    pub packages: PackageManager,
}

impl Situation {
    pub fn current(root: Option<PathBuf>) -> Self {
        let surroundings = Surroundings::current();
        let privileged = surroundings.uid == 0;
        let packages = PackageManager::of(&crate::host::system::distribution());
        Self { surroundings, root, privileged, packages }
    }
}

/// Makes every check, in the order in which `sbx run` needs what they are about. Nothing is left changed.
pub fn examine(situation: &Situation) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(user_namespaces::checks(situation));
    checks.extend(ids::checks(situation));
    checks.extend(places::checks(situation));
    let blocker = blocker(&checks);
    checks.extend(layers::checks(situation, blocker));
    checks.extend(network::checks(situation));
    checks.extend(cgroups::checks(situation));
    checks.extend(nesting::checks(blocker));
    if situation.privileged {
        checks
            .iter_mut()
            .filter_map(|check| check.mend.as_mut())
            .for_each(|mend| *mend = mend.replace("sudo ", ""));
    }
    checks
}

/// The failed check that others need: they can't be made, and mending it may mend them.
fn blocker(checks: &[Check]) -> Option<&'static str> {
    let needed = |check: &&Check| ["user-namespaces", "store", "store-file-system"].contains(&check.id);
    let failed = checks.iter().filter(needed).find(|check| check.status == Status::Missing);
    failed.map(|check| check.title)
}

/// The mend of a check that needs another one.
fn mend_first(blocker: &str) -> String {
    format!("mend the check `{blocker}` first")
}

/// 0: `sbx run` has all it needs; 1: it hasn't.
pub fn exit_code(checks: &[Check]) -> u8 {
    u8::from(checks.iter().any(|check| check.status == Status::Missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_fails() {
        let ok = Check::ok("a", "A", "found");
        let warning = ok.clone().warn("x", "y");
        assert_eq!(exit_code(&[ok.clone(), warning.clone()]), 0);
        assert_eq!(exit_code(&[ok.clone(), warning, ok.missing("x", "y")]), 1);
    }

    #[test]
    fn a_failed_check_blocks_those_that_need_it() {
        let ok = Check::ok("store", "store", "found");
        assert_eq!(blocker(std::slice::from_ref(&ok)), None);
        assert_eq!(blocker(&[ok.missing("x", "y")]), Some("store"));
        assert_eq!(blocker(&[Check::ok("a", "A", "found").missing("x", "y")]), None);
    }

    #[test]
    fn root_is_not_told_to_use_sudo() {
        let root = Situation { privileged: true, ..Situation::current(None) };
        let mends: Vec<_> = examine(&root).into_iter().filter_map(|check| check.mend).collect();
        assert!(mends.iter().all(|mend| !mend.contains("sudo")), "{mends:?}");
    }

    #[test]
    fn whatever_is_not_well_says_what_stops_working_and_how_to_mend_it() {
        let checks = examine(&Situation::current(None));
        let mut ids: Vec<_> = checks.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), checks.len(), "two checks share an ID");
        for check in checks {
            let explained = check.stops_working.is_some() && check.mend.is_some();
            assert_eq!(explained, check.status != Status::Ok, "{check:?}");
            assert!(!check.found.is_empty(), "{check:?}");
        }
    }
}
