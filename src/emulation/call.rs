//! Which system calls are emulated, and what stands in which of their arguments.

use std::collections::HashMap;

use crate::seccomp::arch::Arch;
use crate::seccomp::emulation::{When, numbers};

/// Where a call names its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The path is the first argument; symlinks are followed or not.
    Path { follow: bool },
    /// A descriptor is the first argument.
    Descriptor,
    /// A directory's descriptor, a path, and AT_* flags in the argument with this number.
    At { flags: usize },
}

/// What a call makes, and in which arguments it says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// Without an argument for flags they are those of creat(2).
    File {
        flags: Option<usize>,
        mode: usize,
    },
    Directory {
        mode: usize,
    },
    /// The path of the link follows what it holds.
    Symlink,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    User,
    Group,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The new owner and group stand from this argument on.
    Chown {
        named: Named,
        owner: usize,
    },
    /// The buffer is in this argument.
    Stat {
        named: Named,
        buffer: usize,
    },
    /// statx(2).
    Statx,
    /// The mode stands in this argument, the device's number in the next.
    MakeNode {
        named: Named,
        mode: usize,
    },
    /// A new file, directory or symlink.
    Create {
        named: Named,
        new: New,
    },
    Set(Ids),
    SetReal(Ids),
    SetAll(Ids),
    SetFileSystem(Ids),
    SetGroups,
    Get(Ids),
    GetEffective(Ids),
    GetAll(Ids),
    GetGroups,
    /// prctl(2) with PR_SET_KEEPCAPS.
    KeepCapabilities,
    /// The soft and hard limit RLIMIT_RSS, in which credentials are kept, are to be written to this argument;
    /// none: they are to be changed.
    Limit {
        old: Option<usize>,
        word: usize,
    },
}

/// A call as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    pub call: Call,
    pub arch: Arch,
    /// User and group IDs have 16 bits.
    pub short_ids: bool,
}

const PATH: Named = Named::Path { follow: true };
const LINK: Named = Named::Path { follow: false };

/// Without flags.
const AT: Named = Named::At { flags: 0 };

use Call::*;

#[rustfmt::skip]
const CALLS: &[(&str, Call)] = &[
    ("chown", Chown { named: PATH, owner: 1 }),
    ("chown32", Chown { named: PATH, owner: 1 }),
    ("lchown", Chown { named: LINK, owner: 1 }),
    ("lchown32", Chown { named: LINK, owner: 1 }),
    ("fchown", Chown { named: Named::Descriptor, owner: 1 }),
    ("fchown32", Chown { named: Named::Descriptor, owner: 1 }),
    ("fchownat", Chown { named: Named::At { flags: 4 }, owner: 2 }),
    ("stat", Stat { named: PATH, buffer: 1 }),
    ("stat64", Stat { named: PATH, buffer: 1 }),
    ("lstat", Stat { named: LINK, buffer: 1 }),
    ("lstat64", Stat { named: LINK, buffer: 1 }),
    ("fstat", Stat { named: Named::Descriptor, buffer: 1 }),
    ("fstat64", Stat { named: Named::Descriptor, buffer: 1 }),
    ("newfstatat", Stat { named: Named::At { flags: 3 }, buffer: 2 }),
    ("fstatat64", Stat { named: Named::At { flags: 3 }, buffer: 2 }),
    ("statx", Statx),
    ("mknod", MakeNode { named: LINK, mode: 1 }),
    ("mknodat", MakeNode { named: Named::At { flags: 0 }, mode: 2 }),
    ("open", Create { named: PATH, new: New::File { flags: Some(1), mode: 2 } }),
    ("openat", Create { named: AT, new: New::File { flags: Some(2), mode: 3 } }),
    ("creat", Create { named: PATH, new: New::File { flags: None, mode: 1 } }),
    ("mkdir", Create { named: PATH, new: New::Directory { mode: 1 } }),
    ("mkdirat", Create { named: AT, new: New::Directory { mode: 2 } }),
    ("symlink", Create { named: PATH, new: New::Symlink }),
    ("symlinkat", Create { named: AT, new: New::Symlink }),
    ("setuid", Set(Ids::User)), ("setuid32", Set(Ids::User)),
    ("setgid", Set(Ids::Group)), ("setgid32", Set(Ids::Group)),
    ("setreuid", SetReal(Ids::User)), ("setreuid32", SetReal(Ids::User)),
    ("setregid", SetReal(Ids::Group)), ("setregid32", SetReal(Ids::Group)),
    ("setresuid", SetAll(Ids::User)), ("setresuid32", SetAll(Ids::User)),
    ("setresgid", SetAll(Ids::Group)), ("setresgid32", SetAll(Ids::Group)),
    ("setfsuid", SetFileSystem(Ids::User)), ("setfsuid32", SetFileSystem(Ids::User)),
    ("setfsgid", SetFileSystem(Ids::Group)), ("setfsgid32", SetFileSystem(Ids::Group)),
    ("setgroups", SetGroups), ("setgroups32", SetGroups),
    ("getuid", Get(Ids::User)), ("getuid32", Get(Ids::User)),
    ("getgid", Get(Ids::Group)), ("getgid32", Get(Ids::Group)),
    ("geteuid", GetEffective(Ids::User)), ("geteuid32", GetEffective(Ids::User)),
    ("getegid", GetEffective(Ids::Group)), ("getegid32", GetEffective(Ids::Group)),
    ("getresuid", GetAll(Ids::User)), ("getresuid32", GetAll(Ids::User)),
    ("getresgid", GetAll(Ids::Group)), ("getresgid32", GetAll(Ids::Group)),
    ("getgroups", GetGroups), ("getgroups32", GetGroups),
    ("prctl", KeepCapabilities),
    ("prlimit64", Limit { old: Some(3), word: 8 }),
    ("setrlimit", Limit { old: None, word: 8 }),
    ("getrlimit", Limit { old: Some(1), word: 8 }),
    ("ugetrlimit", Limit { old: Some(1), word: 4 }),
];

/// The names, and when a call is handed over.
pub fn names() -> Vec<(&'static str, When)> {
    let when = |call: &Call| match call {
        MakeNode { mode, .. } => When::MakesDevice(*mode as u8),
        Create { new: New::File { flags: Some(flags), .. }, .. } => {
            When::Bits(*flags as u8, libc::O_CREAT as u32)
        }
        KeepCapabilities => When::Argument(0, libc::PR_SET_KEEPCAPS as u32),
        Limit { old: Some(3), .. } => When::Argument(1, libc::RLIMIT_RSS),
        Limit { .. } => When::Argument(0, libc::RLIMIT_RSS),
        _ => When::Always,
    };
    CALLS.iter().map(|(name, call)| (*name, when(call))).collect()
}

/// Finds calls by what the kernel hands over.
pub struct Table(HashMap<(u32, u32), Known>);

impl Table {
    pub fn new(native: Arch) -> Self {
        let known = |(arch, number, place): (Arch, u32, usize)| {
            let (name, call) = CALLS[place];
            // 32-bit x86 and ARM have the calls of before Linux 2.4 under the plain names.
            let old_abi = matches!(arch, Arch::X86 | Arch::Arm);
            let of_ids = !matches!(
                call,
                Stat { .. } | Statx | MakeNode { .. } | Create { .. } | KeepCapabilities | Limit { .. }
            );
            let short_ids = old_abi && of_ids && !name.ends_with("32") && name != "fchownat";
            let call = match call {
                // prlimit64 has the same structure everywhere.
                Limit { old, .. } if old != Some(3) && old_abi => Limit { old, word: 4 },
                call => call,
            };
            ((arch.token(), number), Known { call, arch, short_ids })
        };
        Self(numbers(native, &names()).into_iter().map(known).collect())
    }

    pub fn find(&self, arch: u32, number: u32) -> Option<Known> {
        self.0.get(&(arch, number)).copied()
    }
}

impl Known {
    /// An ID as the call takes it; none: it is to stay.
    pub fn id(self, argument: u64) -> Option<u32> {
        let id = argument as u32;
        let id = if !self.short_ids {
            id
        } else if id as u16 == u16::MAX {
            u32::MAX
        } else {
            u32::from(id as u16)
        };
        (id != u32::MAX).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_every_architecture_are_known_by_their_numbers() {
        let table = Table::new(Arch::X86_64);
        let found = |arch: Arch, number| table.find(arch.token(), number);
        let chown = found(Arch::X86_64, 92).unwrap();
        assert_eq!(chown.call, Chown { named: PATH, owner: 1 });
        assert!(!chown.short_ids && found(Arch::X86, 182).unwrap().short_ids, "chown of i386");
        assert!(!found(Arch::X86, 212).unwrap().short_ids, "chown32 of i386");
        assert_eq!(found(Arch::X86_64, 262).unwrap().arch, Arch::X86_64);
        assert_eq!(found(Arch::X86_64, 1), None);
    }

    #[test]
    fn minus_one_leaves_an_id_alone() {
        let call = Known { call: SetGroups, arch: Arch::X86, short_ids: false };
        assert_eq!((call.id(0xffff_ffff), call.id(u64::MAX), call.id(0xffff)), (None, None, Some(0xffff)));
        let old = Known { short_ids: true, ..call };
        assert_eq!((old.id(0xffff), old.id(0x1_0021)), (None, Some(33)));
    }
}
