//! Which lines a caller may have.

use alloc::format;

use crate::Refusal;
use crate::map::Map;
use crate::subordinate::Grants;

/// Checks one map against the file that grants ranges.
///
/// `own` is the caller's own user or group ID, `file` the file's name for the message. Returns whether a line
/// comes from the file: only then may a gid_map leave setgroups(2) allowed, because a process that
/// can drop groups sees files that a group was meant to be kept from (CVE-2014-8989, CVE-2018-7169).
pub fn authorise(map: &Map, own: u32, grants: &Grants<'_>, file: &str) -> Result<bool, Refusal> {
    let mut granted = false;
    for line in map.lines() {
        if grants.cover(line.outside, line.count) {
            // Root's files are never handed out, not even by a file that says so: no range was meant to.
            if line.outside == 0 && grants.uid != 0 {
                return Err(format!("line {line} would map root of the host").into());
            }
            granted = true;
        } else if line.count != 1 || line.outside != own {
            return Err(format!("line {line} is not within your ranges in {file}").into());
        }
    }
    Ok(granted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Accounts;

    fn verdict(triples: &str, subuid: &str, uid: u32, own: u32) -> Result<bool, Refusal> {
        let words: Vec<&[u8]> = triples.split_whitespace().map(str::as_bytes).collect();
        let grants = Grants { text: subuid.as_bytes(), accounts: Accounts(b""), uid };
        authorise(&Map::from_words(&words).unwrap(), own, &grants, "/etc/subuid")
    }

    #[test]
    fn own_id_needs_no_file_but_only_one_of_it() {
        assert_eq!(verdict("0 1000 1", "", 1000, 1000), Ok(false));
        assert!(verdict("0 1000 2", "", 1000, 1000).is_err());
        assert!(verdict("0 1001 1", "", 1000, 1000).is_err());
    }

    #[test]
    fn one_line_outside_spoils_the_whole_map() {
        assert_eq!(verdict("0 1000 1 1 100 10", "1000:100:10", 1000, 1000), Ok(true));
        assert!(verdict("0 1000 1 1 100 10 20 200 1", "1000:100:10", 1000, 1000).is_err());
    }

    #[test]
    fn host_root_is_for_root() {
        assert!(verdict("0 0 1", "1000:0:10", 1000, 1000).unwrap_err().0.contains("root"));
        assert_eq!(verdict("0 0 1", "0:0:10", 0, 0), Ok(true));
        assert_eq!(verdict("0 0 1", "", 1000, 0), Ok(false), "the caller's own group is group 0");
    }
}
