//! The process that asks: its IDs, names and powers, gathered without the name service's libraries.

use std::cell::OnceCell;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Host;
use super::map::{MapLine, parse_proc};
use crate::error::{Error, Result, Step};

/// capabilities(7), numbers of linux/capability.h.
pub const CAP_SETGID: u32 = 6;
pub const CAP_SETUID: u32 = 7;
pub const CAP_SETFCAP: u32 = 31;

/// Everything about the caller that decides what it may map.
#[derive(Debug, Clone)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// None: not in /etc/passwd (LDAP, sssd, or no name at all).
    pub user_name: Option<String>,
    /// The primary group of the passwd entry; `newgrp` makes it differ from `gid`.
    pub passwd_gid: Option<u32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Effective capabilities over the caller's own user namespace, a bit each.
    pub effective: u64,
    /// The capability bounding set: what a set-user-ID program can get at most.
    pub bounding: u64,
    /// PR_SET_NO_NEW_PRIVS: set-user-ID bits and file capabilities are ignored.
    pub no_new_privs: bool,
    /// The maps of the caller's own user namespace.
    pub uid_map: Vec<MapLine>,
    pub gid_map: Vec<MapLine>,
    /// setgroups(2) is denied in the caller's user namespace, and so in every one below it.
    pub setgroups_denied: bool,
    /// Major and minor version of the kernel.
    pub kernel: (u32, u32),
    /// What `getent` said, asked at most once.
    pub(super) asked_name: OnceCell<Option<String>>,
}

impl Caller {
    /// Asks the kernel and /etc/passwd. Starts no process.
    pub fn current(host: &Host) -> Result<Self> {
        use rustix::process;
        let (uid, gid) = (process::getuid().as_raw(), process::getgid().as_raw());
        if (uid, gid) != (process::geteuid().as_raw(), process::getegid().as_raw()) {
            return Err(Error::new("cannot decide whose IDs to map")
                .because("the effective user or group is not the real one")
                .hint("run sbx as the user itself; it needs no set-user-ID bit"));
        }
        let passwd = std::fs::read(&host.passwd).unwrap_or_default();
        let entry = passwd_entry(&String::from_utf8_lossy(&passwd), uid);
        let (user_name, passwd_gid) = entry.map_or((None, None), |(name, gid)| (Some(name), Some(gid)));
        let capabilities =
            rustix::thread::capabilities(None).step(|| "cannot read the caller's capabilities")?;
        Ok(Self {
            uid,
            gid,
            user_name,
            passwd_gid,
            groups: process::getgroups()
                .step(|| "cannot read the caller's groups")?
                .into_iter()
                .map(|group| group.as_raw())
                .collect(),
            effective: capabilities.effective.bits(),
            bounding: bounding_set(),
            no_new_privs: rustix::thread::no_new_privs().unwrap_or(false),
            uid_map: own_map(&host.proc_self.join("uid_map"))?,
            gid_map: own_map(&host.proc_self.join("gid_map"))?,
            setgroups_denied: std::fs::read(host.proc_self.join("setgroups"))
                .is_ok_and(|text| text.starts_with(b"deny")),
            kernel: kernel_version(&rustix::system::uname().release().to_string_lossy()),
            asked_name: OnceCell::new(),
        })
    }

    pub fn has(&self, capability: u32) -> bool {
        self.effective >> capability & 1 == 1
    }

    pub fn may_gain(&self, capability: u32) -> bool {
        self.bounding >> capability & 1 == 1
    }

    /// The login name, asked from `getent` where /etc/passwd does not have it.
    pub fn name(&self, host: &Host) -> Option<&str> {
        self.user_name.as_deref().or_else(|| self.asked_name.get_or_init(|| self.ask_name(host)).as_deref())
    }

    fn ask_name(&self, host: &Host) -> Option<String> {
        let output = Command::new(host.find_program("getent")?)
            .args(["passwd", &self.uid.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        passwd_entry(&String::from_utf8_lossy(&output.stdout), self.uid).map(|(name, _)| name)
    }

    /// The name, else the ID: what subuid(5) takes as an owner.
    pub fn label(&self) -> String {
        self.user_name.clone().unwrap_or_else(|| self.uid.to_string())
    }

    /// For messages: `` `bob` (user ID 1000) ``.
    pub fn describe(&self) -> String {
        match &self.user_name {
            Some(name) => format!("`{name}` (user ID {})", self.uid),
            None => format!("user ID {}", self.uid),
        }
    }
}

fn bounding_set() -> u64 {
    use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
    [CapabilitySet::SETUID, CapabilitySet::SETGID]
        .into_iter()
        .filter(|capability| capability_is_in_bounding_set(*capability).unwrap_or(true))
        .fold(0, |set, capability| set | capability.bits())
}

fn own_map(path: &Path) -> Result<Vec<MapLine>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(format!("cannot read `{}`", path.display()))
            .because(error)
            .hint("sbx needs /proc: `mount -t proc proc /proc`, or start the outer container with it")
    })?;
    parse_proc(&text).step(|| format!("cannot understand `{}`", path.display()))
}

/// Name and primary group of a user (passwd(5)): the first entry wins, as in getpwuid(3).
pub fn passwd_entry(text: &str, uid: u32) -> Option<(String, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, user, group) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (user.parse() == Ok(uid) && !name.is_empty() && !name.starts_with(['+', '-', '#']))
            .then(|| Some((name.to_owned(), group.parse().ok()?)))?
    })
}

/// `6.1.0-30-amd64` is (6, 1); what can't be read counts as old.
pub fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|byte: char| !byte.is_ascii_digit()).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ordinary user of the initial namespace.
    pub fn bob() -> Caller {
        Caller {
            uid: 1000,
            gid: 1000,
            user_name: Some("bob".to_owned()),
            passwd_gid: Some(1000),
            groups: vec![1000, 27],
            effective: 0,
            bounding: u64::MAX,
            no_new_privs: false,
            uid_map: vec![MapLine::new(0, 0, u32::MAX)],
            gid_map: vec![MapLine::new(0, 0, u32::MAX)],
            setgroups_denied: false,
            kernel: (6, 18),
            asked_name: OnceCell::new(),
        }
    }

    pub fn root() -> Caller {
        Caller {
            uid: 0,
            gid: 0,
            user_name: Some("root".to_owned()),
            passwd_gid: Some(0),
            groups: vec![0],
            effective: u64::MAX,
            ..bob()
        }
    }

    #[test]
    fn the_first_passwd_entry_of_an_id_wins() {
        let text = "root:x:0:0:root:/root:/bin/sh\n+bad:x:5:5::\nbob:x:1000:1001:Bob:/home/bob:/bin/sh\nbob2:x:1000:7::\nbroken\n";
        assert_eq!(passwd_entry(text, 1000), Some(("bob".to_owned(), 1001)));
        assert_eq!(passwd_entry(text, 0), Some(("root".to_owned(), 0)));
        assert_eq!(passwd_entry(text, 5), None);
        assert_eq!(passwd_entry(text, 7), None);
    }

    #[test]
    fn kernel_versions_have_two_numbers() {
        assert_eq!(kernel_version("6.1.0-30-amd64"), (6, 1));
        assert_eq!(kernel_version("5.12"), (5, 12));
        assert_eq!(kernel_version("6-rc1"), (6, 0));
        assert_eq!(kernel_version("odd"), (0, 0));
    }

    #[test]
    fn the_running_process_is_described() {
        let caller = Caller::current(&Host::system()).unwrap();
        assert_eq!(caller.uid, rustix::process::getuid().as_raw());
        assert_eq!(caller.has(CAP_SETUID), caller.uid == 0, "run by root or by an unprivileged user");
        assert!(!caller.uid_map.is_empty() && caller.kernel >= (3, 8));
    }
}
