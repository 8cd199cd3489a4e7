//! Capabilities (capabilities(7)) as a set, their names, and `--cap-add`, `--cap-drop`, `--privileged`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Names without `CAP_`, each at its number in linux/capability.h (Linux 5.9 added the last).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The word that stands for every capability of the kernel.
const ALL: &str = "ALL";

/// One capability: its number in linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    pub const CHOWN: Self = Self(0);
    pub const DAC_OVERRIDE: Self = Self(1);
    pub const DAC_READ_SEARCH: Self = Self(2);
    pub const FOWNER: Self = Self(3);
    pub const FSETID: Self = Self(4);
    pub const KILL: Self = Self(5);
    pub const SETGID: Self = Self(6);
    pub const SETUID: Self = Self(7);
    pub const SETPCAP: Self = Self(8);
    pub const NET_BIND_SERVICE: Self = Self(10);
    pub const NET_RAW: Self = Self(13);
    pub const SYS_MODULE: Self = Self(16);
    pub const SYS_RAWIO: Self = Self(17);
    pub const SYS_CHROOT: Self = Self(18);
    pub const SYS_PTRACE: Self = Self(19);
    pub const SYS_PACCT: Self = Self(20);
    pub const SYS_ADMIN: Self = Self(21);
    pub const SYS_BOOT: Self = Self(22);
    pub const SYS_NICE: Self = Self(23);
    pub const SYS_TIME: Self = Self(25);
    pub const SYS_TTY_CONFIG: Self = Self(26);
    pub const MKNOD: Self = Self(27);
    pub const AUDIT_WRITE: Self = Self(29);
    pub const SETFCAP: Self = Self(31);
    pub const SYSLOG: Self = Self(34);
    pub const PERFMON: Self = Self(38);
    pub const BPF: Self = Self(39);

    /// Reads a name, `CAP_` optional, in any case. An unknown name is an error that offers the nearest one.
    pub fn parse(name: &str) -> Result<Self> {
        let bare = bare(name);
        if let Some(number) = NAMES.iter().position(|known| *known == bare) {
            return Ok(Self(number as u8));
        }
        let error = Error::new(format!("unknown capability `{name}`"));
        let nearest = NAMES.iter().map(|known| (distance(known, &bare), known)).min();
        Err(match nearest {
            Some((distance, known)) if distance <= 3 && distance * 2 <= bare.len() => {
                error.hint(format!("did you mean `CAP_{known}`?"))
            }
            _ => error.hint("capabilities(7) lists them all; `ALL` stands for every one"),
        })
    }

    /// The number, as prctl(2) takes it for PR_CAPBSET_DROP.
    pub fn number(self) -> u8 {
        self.0
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "CAP_{name}"),
            // A kernel newer than the table.
            None => write!(f, "CAP_{}", self.0),
        }
    }
}

/// A set of capabilities, one bit each, numbered as in linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapSet(pub u64);

impl CapSet {
    pub const EMPTY: Self = Self(0);

    /// What a container has without `--cap-add` and `--cap-drop`: docker's fourteen. podman leaves out
    /// AUDIT_WRITE, MKNOD and NET_RAW; in a user namespace they reach nothing of the host.
    pub const DEFAULT: Self = Self(
        Capability::CHOWN.bit()
            | Capability::DAC_OVERRIDE.bit()
            | Capability::FSETID.bit()
            | Capability::FOWNER.bit()
            | Capability::MKNOD.bit()
            | Capability::NET_RAW.bit()
            | Capability::SETGID.bit()
            | Capability::SETUID.bit()
            | Capability::SETFCAP.bit()
            | Capability::SETPCAP.bit()
            | Capability::NET_BIND_SERVICE.bit()
            | Capability::SYS_CHROOT.bit()
            | Capability::KILL.bit()
            | Capability::AUDIT_WRITE.bit(),
    );

    /// Every capability that the running kernel knows.
    pub fn all() -> Self {
        Self::up_to(last_known())
    }

    fn up_to(last: u8) -> Self {
        Self(u64::MAX >> (63 - last.min(63)))
    }

    /// The set that `--cap-add`, `--cap-drop` and `--privileged` ask for, each word a name, a list of names
    /// with commas, or `ALL`. As with podman and docker `--cap-add ALL` takes exceptions from `--cap-drop`
    /// and the other way round. As with podman one name in both lists is an error. Other than there,
    /// `--privileged` honours `--cap-drop`.
    pub fn from_add_drop(add: &[String], drop: &[String], privileged: bool) -> Result<Self> {
        // Ordinary runs need not ask the kernel.
        let known = if privileged || !add.is_empty() { Self::all() } else { Self::DEFAULT };
        let (add, add_all) = Self::parse_words(add)?;
        let (drop, drop_all) = Self::parse_words(drop)?;
        if add_all && drop_all {
            return Err(Error::new("`--cap-add ALL` and `--cap-drop ALL` exclude each other"));
        }
        if let Some(twice) = add.intersection(drop).iter().next() {
            return Err(Error::new(format!("`{twice}` is in `--cap-add` and in `--cap-drop`")));
        }
        if let Some(unknown) = add.without(known).iter().next() {
            return Err(Error::new(format!("this kernel does not know `{unknown}`")));
        }
        let base = match (drop_all, add_all || privileged) {
            (true, _) => Self::EMPTY,
            (false, true) => known,
            (false, false) => Self::DEFAULT,
        };
        Ok(base.without(drop).union(add))
    }

    /// The named capabilities, and whether `ALL` was among the words.
    fn parse_words(words: &[String]) -> Result<(Self, bool)> {
        let mut set = Self::EMPTY;
        let mut all = false;
        for name in words.iter().flat_map(|word| word.split(',')) {
            if bare(name) == ALL {
                all = true;
            } else {
                set = set.with(Capability::parse(name)?);
            }
        }
        Ok((set, all))
    }

    pub fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    #[must_use]
    pub fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// From the lowest number to the highest.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        (0..64).map(Capability).filter(move |capability| self.contains(*capability))
    }

    /// `CAP_CHOWN`, `CAP_KILL`, … in the order of their numbers.
    pub fn names(self) -> Vec<String> {
        self.iter().map(|capability| capability.to_string()).collect()
    }
}

/// The highest capability that the running kernel knows (/proc/sys/kernel/cap_last_cap, Linux 3.2); where
/// /proc does not say, that of the table.
pub fn last_known() -> u8 {
    std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(NAMES.len() as u8 - 1)
}

/// Upper case, without `CAP_`.
fn bare(name: &str) -> String {
    let upper = name.trim().to_ascii_uppercase();
    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
}

/// How many letters must be inserted, removed or replaced to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    // Hostile words need no exact answer.
    if b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn set(add: &str, drop: &str) -> Vec<String> {
        CapSet::from_add_drop(&words(add), &words(drop), false).unwrap().names()
    }

    #[test]
    fn constants_carry_the_numbers_of_their_names() {
        for (capability, name) in [
            (Capability::CHOWN, "CHOWN"),
            (Capability::SYS_ADMIN, "sys_admin"),
            (Capability::SYS_PTRACE, "CAP_SYS_PTRACE"),
            (Capability::SETFCAP, "cap_setfcap"),
            (Capability::SYSLOG, "SYSLOG"),
            (Capability::BPF, "BPF"),
            (Capability::PERFMON, "PERFMON"),
        ] {
            assert_eq!(Capability::parse(name).unwrap(), capability);
        }
        assert_eq!(Capability::parse("CHECKPOINT_RESTORE").unwrap().number(), 40);
    }

    #[test]
    fn the_default_is_dockers_fourteen() {
        let mut names = CapSet::from_add_drop(&[], &[], false).unwrap().names();
        names.sort();
        assert_eq!(
            names.join(" "),
            "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD \
             CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT"
        );
    }

    #[test]
    fn names_are_added_and_dropped() {
        assert_eq!(set("net_admin,CAP_SYS_PTRACE", "ALL"), ["CAP_NET_ADMIN", "CAP_SYS_PTRACE"]);
        assert!(set("", "all").is_empty());
        assert!(!set("", "cap_mknod").contains(&"CAP_MKNOD".to_owned()));
        assert_eq!(set("SYS_ADMIN", "").len(), 15);
        let almost = set("ALL", "SYS_ADMIN");
        assert_eq!(almost.len(), usize::from(last_known()));
        assert!(!almost.contains(&"CAP_SYS_ADMIN".to_owned()));
    }

    #[test]
    fn privileged_is_every_capability_but_the_dropped() {
        let all = CapSet::from_add_drop(&[], &[], true).unwrap();
        assert_eq!(all, CapSet::all());
        let less = CapSet::from_add_drop(&[], &words("SYS_TIME"), true).unwrap();
        assert_eq!(all.without(less).names(), ["CAP_SYS_TIME"]);
        assert!(CapSet::from_add_drop(&[], &words("ALL"), true).unwrap().is_empty());
    }

    #[test]
    fn contradictions_and_unknown_names_are_errors() {
        let refused = |add: &str, drop: &str| {
            CapSet::from_add_drop(&words(add), &words(drop), false).unwrap_err().report()
        };
        assert!(refused("SYS_ADMN", "").contains("did you mean `CAP_SYS_ADMIN`?"));
        assert!(refused("", "nonsense").contains("unknown capability `nonsense`"));
        assert!(refused("KILL", "cap_kill").contains("`CAP_KILL`"));
        assert!(refused("ALL", "ALL").contains("exclude each other"));
        assert!(refused(&"X".repeat(100_000), "").contains("unknown capability"));
        assert!(refused("KILL,", "").contains("unknown capability ``"));
    }

    #[test]
    fn all_covers_every_bit_up_to_the_last() {
        assert_eq!(CapSet::up_to(40).0, 0x1ff_ffff_ffff);
        assert_eq!(CapSet::up_to(63).0, u64::MAX);
        assert_eq!(CapSet::up_to(200).0, u64::MAX);
        assert_eq!(CapSet::up_to(41).iter().last().unwrap().to_string(), "CAP_41");
    }
}
