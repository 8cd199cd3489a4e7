//! `--user` and `--group-add`, looked up in the container's own passwd and group files.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// Bytes of /etc/passwd or /etc/group that are read; an image's files are hostile input.
pub const MAX_FILE: usize = 16 << 20;
/// The kernel's NGROUPS_MAX (setgroups(2)).
const MAX_GROUPS: usize = 65_536;

/// Who the command runs as, in the container's IDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// For setgroups(2): the primary group first, then supplementary and added ones, each once.
    pub groups: Vec<u32>,
    /// An absolute path; `/` where the passwd file names none.
    pub home: String,
    /// None for a number without an entry in the passwd file.
    pub name: Option<String>,
}

/// A line of passwd(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswdEntry<'a> {
    pub name: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    pub home: &'a [u8],
}

/// A line of group(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEntry<'a> {
    pub name: &'a [u8],
    pub gid: u32,
    members: &'a [u8],
}

impl GroupEntry<'_> {
    fn has_member(&self, name: &[u8]) -> bool {
        self.members.split(|byte| *byte == b',').any(|member| member == name)
    }
}

/// The well-formed lines of a passwd file. A line with a broken number is left out: to read it as 0 would
/// make somebody root.
pub fn passwd_entries(text: &[u8]) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        Some(PasswdEntry { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

/// The well-formed lines of a group file.
pub fn group_entries(text: &[u8]) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = id(fields.nth(1)?)?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.starts_with(b"#"))
}

/// A user or group ID; the largest number means "no change" to the kernel and is none.
fn id(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

/// Resolves `--user NAME|UID[:GROUP|GID]` as docker and runc do. `passwd` and `group` are the texts of the
/// container's files, empty where it has none.
///
/// A number is always an ID, never a name. Without `user` it is `default` (with exactly those two IDs), else
/// root. Supplementary groups come from the group file when the user is in the passwd file and no group
/// was given. `groups_add` holds names and numbers.
///
/// # Errors
/// A name that is not in its file, a number that is no ID, a file or list of groups that is too large.
pub fn resolve(
    user: Option<&str>,
    groups_add: &[String],
    passwd: &[u8],
    group: &[u8],
    default: Option<(u32, u32)>,
) -> Result<ResolvedUser> {
    for (text, file) in [(passwd, "passwd"), (group, "group")] {
        if text.len() > MAX_FILE {
            return Err(Error::new(format!("cannot read the container's `/etc/{file}`"))
                .because("it is larger than 16 MiB"));
        }
    }
    let (name, group_name) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((name, group_name)) => (name, group_name),
        None => ("", ""),
    };
    let wanted = match (name, default) {
        ("", Some((uid, _))) => Wanted::Id(uid),
        ("", None) => Wanted::Id(0),
        _ => wanted(name, "user")?,
    };
    let found = passwd_entries(passwd).find(|entry| match &wanted {
        Wanted::Id(uid) => entry.uid == *uid,
        Wanted::Name(name) => entry.name == name.as_bytes(),
    });
    let uid = match (&found, wanted) {
        (Some(entry), _) => entry.uid,
        (None, Wanted::Id(uid)) => uid,
        (None, Wanted::Name(name)) => {
            return Err(Error::new(format!(
                "unable to find user {name}: no matching entries in passwd file"
            ))
            .hint("name a user of the container's `/etc/passwd`, or give a number"));
        }
    };
    let mut chosen = Groups::default();
    let gid = match (group_name, default) {
        ("", Some((_, gid))) if name.is_empty() => chosen.primary(gid),
        ("", _) => {
            let gid = chosen.primary(found.map_or(0, |entry| entry.gid));
            if let Some(entry) = found {
                for group in group_entries(group).filter(|group| group.has_member(entry.name)) {
                    chosen.add(group.gid)?;
                }
            }
            gid
        }
        _ => chosen.primary(find_groups(&[group_name], group)?[0]),
    };
    let added: Vec<&str> = groups_add.iter().map(String::as_str).collect();
    for gid in find_groups(&added, group)? {
        chosen.add(gid)?;
    }
    Ok(ResolvedUser {
        uid,
        gid,
        groups: chosen.list,
        home: found.and_then(|entry| home(entry.home)).unwrap_or_else(|| "/".to_owned()),
        name: found.and_then(|entry| String::from_utf8(entry.name.to_vec()).ok()),
    })
}

enum Wanted<'a> {
    Id(u32),
    Name(&'a str),
}

fn wanted<'a>(text: &'a str, kind: &str) -> Result<Wanted<'a>> {
    let refused = |cause: &str| {
        Error::new(format!("cannot use the {kind} `{text}`"))
            .because(cause)
            .hint("write `--user NAME`, `UID`, `NAME:GROUP` or `UID:GID`")
    };
    if text.is_empty() {
        return Err(refused("it is empty"));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return id(text.as_bytes()).map(Wanted::Id).ok_or_else(|| refused("IDs go from 0 to 4294967294"));
    }
    if text.contains([':', '\n', '\0']) {
        return Err(refused("a name contains no colon, newline or NUL byte"));
    }
    Ok(Wanted::Name(text))
}

/// Looks all groups up in one pass over the file; the first entry of a name counts.
fn find_groups(texts: &[&str], group: &[u8]) -> Result<Vec<u32>> {
    let wanted: Vec<Wanted<'_>> = texts.iter().map(|text| wanted(text, "group")).collect::<Result<_>>()?;
    let mut by_name: HashMap<&[u8], Option<u32>> = wanted
        .iter()
        .filter_map(|wanted| match wanted {
            Wanted::Name(name) => Some((name.as_bytes(), None)),
            Wanted::Id(_) => None,
        })
        .collect();
    if !by_name.is_empty() {
        for entry in group_entries(group) {
            if let Some(gid) = by_name.get_mut(entry.name) {
                gid.get_or_insert(entry.gid);
            }
        }
    }
    let gid = |wanted: &Wanted<'_>| match wanted {
        Wanted::Id(gid) => Ok(*gid),
        Wanted::Name(name) => by_name.get(name.as_bytes()).copied().flatten().ok_or_else(|| {
            Error::new(format!("unable to find group {name}: no matching entries in group file"))
                .hint("name a group of the container's `/etc/group`, or give a number")
        }),
    };
    wanted.iter().map(gid).collect()
}

#[derive(Default)]
struct Groups {
    list: Vec<u32>,
    seen: std::collections::HashSet<u32>,
}

impl Groups {
    fn primary(&mut self, gid: u32) -> u32 {
        self.seen.insert(gid);
        self.list.push(gid);
        gid
    }

    fn add(&mut self, gid: u32) -> Result<()> {
        if self.seen.insert(gid) {
            self.list.push(gid);
        }
        if self.list.len() > MAX_GROUPS {
            return Err(Error::new("cannot give the user its groups")
                .because(format!("there are more than {MAX_GROUPS}, the most that the kernel takes")));
        }
        Ok(())
    }
}

fn home(text: &[u8]) -> Option<String> {
    let usable = text.starts_with(b"/") && text.len() < libc::PATH_MAX as usize && !text.contains(&0);
    usable.then(|| String::from_utf8(text.to_vec()).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# note:x:9:9::/:\n\nbob:x:1000:1001:Bob:/home/bob:/bin/sh\n\
        broken:x:abc:0::/:\n1000:x:77:77::/seven:\nhomeless:x:5:5\nrelative:x:6:6::home:\nbin\xff:x:8:8::/\xff:\n\
        minus:x:-1:0::/:\nhuge:x:4294967295:0::/:\nbob:x:2:2::/two:\n";
    const GROUP: &[u8] =
        b"root:x:0:\nbob:x:1001:\nwheel:x:10:root,bob\naudio:x:20:bobby,bob\nvideo:x:30:bobby\n\
        dup:x:10:bob\nbad:x:zz:bob\nwheel:x:99:\nshort:x:40";

    fn run(user: &str) -> ResolvedUser {
        resolve(Some(user), &[], PASSWD, GROUP, None).unwrap()
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str, name: Option<&str>) -> ResolvedUser {
        ResolvedUser {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn names_and_numbers_of_known_users_bring_their_groups() {
        let bob = user(1000, 1001, &[1001, 10, 20], "/home/bob", Some("bob"));
        assert_eq!(run("bob"), bob);
        assert_eq!(run("1000"), bob);
        assert_eq!(run("bob:"), bob);
        assert_eq!(run("root"), user(0, 0, &[0, 10], "/root", Some("root")));
        assert_eq!(resolve(None, &[], PASSWD, GROUP, None).unwrap(), run("root"));
        assert_eq!(run(""), run("root"));
    }

    #[test]
    fn an_explicit_group_is_the_only_one() {
        assert_eq!(run("bob:wheel"), user(1000, 10, &[10], "/home/bob", Some("bob")));
        assert_eq!(run("bob:99"), user(1000, 99, &[99], "/home/bob", Some("bob")));
        assert_eq!(run("4242:7"), user(4242, 7, &[7], "/", None));
        assert_eq!(run(":short"), user(0, 40, &[40], "/root", Some("root")));
    }

    #[test]
    fn unknown_numbers_are_taken_as_they_are() {
        assert_eq!(run("4242"), user(4242, 0, &[0], "/", None));
        assert_eq!(run("4294967294"), user(u32::MAX - 1, 0, &[0], "/", None));
        assert_eq!(run("007"), user(7, 0, &[0], "/", None));
        assert_eq!(
            resolve(Some("5"), &[], b"", b"", None).unwrap(),
            user(5, 0, &[0], "/", None),
            "an image without files"
        );
        assert_eq!(run("77"), user(77, 77, &[77], "/seven", Some("1000")));
    }

    #[test]
    fn the_default_user_keeps_both_ids() {
        let default = Some((1000, 50));
        let found = resolve(None, &[], PASSWD, GROUP, default).unwrap();
        assert_eq!(found, user(1000, 50, &[50], "/home/bob", Some("bob")));
        let found = resolve(Some("root"), &[], PASSWD, GROUP, default).unwrap();
        assert_eq!((found.uid, found.gid), (0, 0));
        let found = resolve(Some(":wheel"), &[], PASSWD, GROUP, default).unwrap();
        assert_eq!((found.uid, found.gid), (1000, 10));
        assert_eq!(resolve(None, &[], b"", b"", Some((7, 8))).unwrap(), user(7, 8, &[8], "/", None));
    }

    #[test]
    fn odd_homes_become_the_root_directory() {
        assert_eq!(run("homeless").home, "/");
        assert_eq!(run("relative").home, "/");
        assert_eq!(run("8").home, "/");
        assert_eq!(run("8").name, None);
    }

    #[test]
    fn added_groups_come_once() {
        let added = ["video", "20", "20", "555", "wheel"].map(str::to_owned);
        let found = resolve(Some("bob"), &added, PASSWD, GROUP, None).unwrap();
        assert_eq!(found.groups, [1001, 10, 20, 30, 555]);
        let error = resolve(Some("bob"), &["nogroup".to_owned()], PASSWD, GROUP, None).unwrap_err();
        assert_eq!(error.message(), "unable to find group nogroup: no matching entries in group file");
        assert!(resolve(None, &[String::new()], PASSWD, GROUP, None).is_err());
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_refused() {
        for name in ["x", "broken", "minus", "huge", "# note", "-1", "+5", "b\u{f6}b"] {
            let error = resolve(Some(name), &[], PASSWD, GROUP, None).unwrap_err();
            assert_eq!(
                error.message(),
                format!("unable to find user {name}: no matching entries in passwd file")
            );
        }
        let error = resolve(Some("bob:nope"), &[], PASSWD, GROUP, None).unwrap_err();
        assert_eq!(error.message(), "unable to find group nope: no matching entries in group file");
        for text in ["4294967295", "99999999999999999999", "bob:4294967295", "bob:a:b", "a\0", "a\nb"] {
            let error = resolve(Some(text), &[], PASSWD, GROUP, None).unwrap_err();
            assert!(error.message().starts_with("cannot use the"), "{text:?}: {error}");
        }
    }

    #[test]
    fn hostile_files_are_bounded() {
        let large = vec![b'a'; MAX_FILE + 1];
        assert!(resolve(None, &[], &large, b"", None).unwrap_err().message().contains("/etc/passwd"));
        assert!(resolve(None, &[], b"", &large, None).unwrap_err().message().contains("/etc/group"));
        let many: String = (0..=MAX_GROUPS).map(|gid| format!("g{gid}:x:{gid}:root\n")).collect();
        assert!(resolve(None, &[], PASSWD, many.as_bytes(), None).unwrap_err().causes()[0].contains("65536"));
        for junk in [&b":::::"[..], b"\n\n\n", b"::0:0", b"a:b", b"\xff\xfe:\0:0:0"] {
            assert_eq!(resolve(None, &[], junk, junk, None).unwrap().uid, 0);
        }
    }
}
