//! Tables of cases: a directory of the repository with a directory for each group, which is a test, and a file for each case.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::repository;

/// A test for each group: `check(GROUP)` of the module in which this stands.
macro_rules! groups {
    ($directory:literal: $($group:ident)*) => {
        $(#[test]
        fn $group() {
            check(stringify!($group));
        })*

        #[test]
        fn every_directory_of_cases_is_a_group() {
            let groups = [$(stringify!($group)),*].map(str::to_owned);
            assert_eq!($crate::harness::cases::directories($directory), groups.into());
        }
    };
}
pub(crate) use groups;

pub fn directories(table: &str) -> BTreeSet<String> {
    let found = fs::read_dir(repository().join(table)).expect("the cases").flatten();
    found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The word that narrows a group, where somebody looks at single cases.
pub fn wanted() -> Option<String> {
    std::env::var("SBX_TEST_CASE").ok()
}

/// The files of a group, sorted, and narrowed to what is [`wanted`].
pub fn files(table: &str, group: &str) -> Vec<PathBuf> {
    let directory = repository().join(table).join(group);
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", directory.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no case", directory.display());
    let wanted = wanted().unwrap_or_default();
    paths.retain(|path| path.file_stem().is_some_and(|name| name.to_string_lossy().contains(&wanted)));
    paths
}

/// Fails with everything that is wrong, a case each.
pub fn none_is_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
