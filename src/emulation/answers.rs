//! What each call is answered with.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::call::{Call, Ids, Known, Named, Table};
use super::credentials::{Credentials, Set};
use super::identities::{self, Identities};
use super::owners::{Found, Owners, apply};
use super::target::Target;
use super::{layout, paths};
use crate::error::{Error, Result};
use crate::layers::owners::Recorded;
use crate::seccomp::arch::Arch;
use crate::sys::notify::{Answer, Notification};
use crate::sys::remote;

/// NGROUPS_MAX of linux/limits.h.
const MOST_GROUPS: u64 = 65536;

pub struct Answers {
    table: Table,
    owners: Owners,
    identities: Identities,
}

/// Why a call is not answered with success.
enum Otherwise {
    /// The kernel does it better.
    Kernel,
    Fails(Errno),
}

impl From<Errno> for Otherwise {
    fn from(errno: Errno) -> Self {
        Self::Fails(errno)
    }
}

type Outcome = Result<i64, Otherwise>;

impl Answers {
    /// # Errors
    /// No filter can be made for the architecture.
    pub fn new(owners: Owners) -> Result<Self> {
        let native = Arch::native().ok_or_else(|| Error::new("cannot emulate root on this architecture"))?;
        Ok(Self { table: Table::new(native), owners, identities: Identities::default() })
    }

    /// Writes down what is to outlive the container.
    pub fn save(&self) {
        self.owners.save();
    }

    pub fn to(&self, call: &Notification, target: &Target<'_>) -> Answer {
        let Some(known) = self.table.find(call.arch, call.number) else { return Answer::Continue };
        let request = Request { answers: self, call, known, target };
        match request.outcome() {
            Ok(value) => Answer::Value(value),
            Err(Otherwise::Kernel) => Answer::Continue,
            Err(Otherwise::Fails(errno)) => Answer::Errno(errno.raw_os_error()),
        }
    }
}

struct Request<'a> {
    answers: &'a Answers,
    call: &'a Notification,
    known: Known,
    target: &'a Target<'a>,
}

impl Request<'_> {
    fn outcome(&self) -> Outcome {
        match self.known.call {
            Call::Chown { named, owner } => self.chown(named, owner),
            Call::Stat { named, buffer } => self.stat(named, self.argument(buffer)),
            Call::Statx => self.statx(),
            Call::MakeNode { named, mode } => self.make_node(named, mode),
            Call::Set(ids) => {
                let id = self.id(0).ok_or(Errno::INVAL)?;
                self.change(ids, |set, privileged| set.set(id, privileged))
            }
            Call::SetReal(ids) => {
                let (real, effective) = (self.id(0), self.id(1));
                self.change(ids, |set, privileged| set.set_real(real, effective, privileged))
            }
            Call::SetAll(ids) => {
                let wanted = [self.id(0), self.id(1), self.id(2)];
                self.change(ids, |set, privileged| set.set_all(wanted, privileged))
            }
            Call::SetFileSystem(ids) => self.set_file_system(ids),
            Call::SetGroups => self.set_groups(),
            Call::Get(ids) => self.get(ids).map(|set| set.real.into()),
            Call::GetEffective(ids) => self.get(ids).map(|set| set.effective.into()),
            Call::GetAll(ids) => self.get_all(ids),
            Call::GetGroups => self.get_groups(),
            Call::KeepCapabilities => self.keep_capabilities(),
            Call::Limit { old, word } => self.limit(old, word),
        }
    }

    fn argument(&self, number: usize) -> u64 {
        self.call.arguments[number]
    }

    fn id(&self, number: usize) -> Option<u32> {
        self.known.id(self.argument(number))
    }

    /// A descriptor's number, or AT_FDCWD.
    fn descriptor(&self, number: usize) -> i32 {
        self.argument(number) as i32
    }

    fn path(&self, number: usize) -> Result<CString, Otherwise> {
        self.target.read_path(self.argument(number)).ok_or(Otherwise::Kernel)
    }

    /// The file that a call names.
    fn file(&self, named: Named) -> Result<OwnedFd, Otherwise> {
        let (at, path, flags) = match named {
            Named::Descriptor => return self.by_descriptor(),
            Named::Path { follow } => {
                (libc::AT_FDCWD, self.path(0)?, if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW })
            }
            Named::At { flags } => {
                let flags = self.argument(flags) as i32;
                // Since Linux 6.11 no path may be given at all.
                if flags & libc::AT_EMPTY_PATH != 0 && self.argument(1) == 0 {
                    return self.by_descriptor();
                }
                (self.descriptor(0), self.path(1)?, flags)
            }
        };
        if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            return self.by_descriptor();
        }
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        paths::find(self.target, at, &path, follow).ok_or(Otherwise::Kernel)
    }

    fn by_descriptor(&self) -> Result<OwnedFd, Otherwise> {
        paths::descriptor(self.target, self.descriptor(0)).ok_or(Otherwise::Kernel)
    }

    /// The credentials of the process, and whether they are other than the kernel's.
    fn credentials(&self) -> Result<(Credentials, bool), Otherwise> {
        match self.answers.identities.of(self.target) {
            Some(given) => Ok(((*given).clone(), true)),
            None => identities::real(self.target).map(|real| (real, false)).ok_or(Otherwise::Kernel),
        }
    }

    /// Whether the process is root with a capability that the container has.
    fn may(&self, who: &Credentials, capability: CapabilitySet) -> bool {
        let real = rustix::thread::capabilities(rustix::process::Pid::from_raw(self.target.tid));
        let kept = || who.keeper.is_some() && who.keeper == self.program();
        (who.is_root() || kept()) && real.is_ok_and(|sets| sets.effective.contains(capability))
    }

    /// What the process executes.
    fn program(&self) -> Option<(u64, u64)> {
        let found = rustix::fs::fstat(self.target.open("exe")?).ok()?;
        Some((found.st_dev, found.st_ino))
    }

    /// The kernel has its way, too: what it keeps is real.
    fn keep_capabilities(&self) -> Outcome {
        let (mut who, _) = self.credentials()?;
        let keeper = (self.argument(1) != 0).then(|| self.program()).flatten();
        if who.keeper != keeper {
            who.keeper = keeper;
            self.answers.identities.give(self.target, who)?;
        }
        Err(Otherwise::Kernel)
    }

    /// The limit that holds the number of the credentials: it limits nothing, is not changed, and looks as it
    /// would without them.
    fn limit(&self, old: Option<usize>, word: usize) -> Outcome {
        let Some(buffer) = old.map(|old| self.argument(old)).filter(|buffer| *buffer != 0) else {
            return Ok(0);
        };
        let (_, hard) = remote::limit(self.target.tid, libc::RLIMIT_RSS).map_err(|_| Otherwise::Kernel)?;
        let bytes = match word {
            8 => [hard, hard].map(u64::to_ne_bytes).concat(),
            _ => [hard, hard].map(|limit| u32::try_from(limit).unwrap_or(u32::MAX).to_ne_bytes()).concat(),
        };
        self.give(buffer, &bytes)
    }

    fn chown(&self, named: Named, owner: usize) -> Outcome {
        let found = Found::new(self.file(named)?)?;
        let (who, _) = self.credentials()?;
        let privileged = self.may(&who, CapabilitySet::CHOWN);
        self.still_waits()?;
        self.answers.owners.change(&found, (self.id(owner), self.id(owner + 1)), &who, privileged)?;
        Ok(0)
    }

    fn still_waits(&self) -> Result<(), Otherwise> {
        if self.target.is_waiting() { Ok(()) } else { Err(Otherwise::Kernel) }
    }

    fn stat(&self, named: Named, buffer: u64) -> Outcome {
        let mut found = Found::new(self.file(named)?).map_err(|_| Otherwise::Kernel)?;
        let recorded = self.answers.owners.of(&found).ok_or(Otherwise::Kernel)?;
        apply(&recorded, &mut found.status);
        let bytes = layout::stat(self.known.arch, &found.status).ok_or(Otherwise::Kernel)?;
        self.give(buffer, &bytes)
    }

    fn statx(&self) -> Outcome {
        let file = self.file(Named::At { flags: 2 })?;
        let flags = self.argument(2) as i32 & libc::AT_STATX_SYNC_TYPE;
        let mask = self.argument(3) as u32 | libc::STATX_BASIC_STATS;
        let mut found = Found::with(file, flags, mask).map_err(|_| Otherwise::Kernel)?;
        let recorded = self.answers.owners.of(&found).ok_or(Otherwise::Kernel)?;
        apply(&recorded, &mut found.status);
        self.give(self.argument(4), remote::status_bytes(&found.status))
    }

    /// Bytes that the caller gets; where its memory takes none the kernel says what it thinks of that.
    fn give(&self, address: u64, bytes: &[u8]) -> Outcome {
        if self.target.write(address, bytes) { Ok(0) } else { Err(Otherwise::Kernel) }
    }

    /// A device becomes an empty file with a record (mknod(2)).
    fn make_node(&self, named: Named, mode_at: usize) -> Outcome {
        let (at, path) = match named {
            Named::At { .. } => (self.descriptor(0), self.path(1)?),
            _ => (libc::AT_FDCWD, self.path(0)?),
        };
        let (mode, number) = (self.argument(mode_at) as u32, self.argument(mode_at + 1) as u32);
        let (who, _) = self.credentials()?;
        if !self.may(&who, CapabilitySet::MKNOD) {
            return Err(Errno::PERM.into());
        }
        let umask = self.target.status_line("Umask").and_then(|text| u32::from_str_radix(&text, 8).ok());
        let (parent, name) = paths::find_parent(self.target, at, &path).ok_or(Otherwise::Kernel)?;
        self.still_waits()?;
        let bits = mode & 0o7777 & !umask.unwrap_or(0o022);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(bits))?;
        let recorded = Recorded {
            uid: who.user.file_system,
            gid: who.group.file_system,
            mode: mode & libc::S_IFMT | bits,
            device: decode_device(number),
        };
        let made = rustix::fs::fchmod(&file, Mode::from_raw_mode(bits))
            .and_then(|()| Found::new(file))
            .and_then(|found| self.answers.owners.put(&found, recorded));
        if let Err(errno) = made {
            let _ = rustix::fs::unlinkat(&parent, &name, rustix::fs::AtFlags::empty());
            return Err(errno.into());
        }
        Ok(0)
    }

    fn change(&self, ids: Ids, change: impl FnOnce(&mut Set, bool) -> Result<(), Errno>) -> Outcome {
        let (mut who, _) = self.credentials()?;
        let (capability, set) = match ids {
            Ids::User => (CapabilitySet::SETUID, who.user),
            Ids::Group => (CapabilitySet::SETGID, who.group),
        };
        let mut changed = set;
        change(&mut changed, self.may(&who, capability))?;
        self.store(ids, &mut who, changed)?;
        Ok(0)
    }

    fn store(&self, ids: Ids, who: &mut Credentials, changed: Set) -> Result<(), Otherwise> {
        let set = match ids {
            Ids::User => &mut who.user,
            Ids::Group => &mut who.group,
        };
        if *set != changed {
            *set = changed;
            self.answers.identities.give(self.target, who.clone())?;
        }
        Ok(())
    }

    fn set_file_system(&self, ids: Ids) -> Outcome {
        let (mut who, _) = self.credentials()?;
        let (capability, mut set) = match ids {
            Ids::User => (CapabilitySet::SETUID, who.user),
            Ids::Group => (CapabilitySet::SETGID, who.group),
        };
        let old = set.set_file_system(self.id(0), self.may(&who, capability));
        self.store(ids, &mut who, set)?;
        Ok(old.into())
    }

    fn set_groups(&self) -> Outcome {
        let (mut who, _) = self.credentials()?;
        if !self.may(&who, CapabilitySet::SETGID) {
            return Err(Errno::PERM.into());
        }
        let count = self.argument(0);
        if count > MOST_GROUPS {
            return Err(Errno::INVAL.into());
        }
        let mut bytes = vec![0; count as usize * self.id_size()];
        if !bytes.is_empty() && self.target.read(self.argument(1), &mut bytes) != Some(bytes.len()) {
            return Err(Errno::FAULT.into());
        }
        let id = |bytes: &[u8]| match *bytes {
            [a, b, c, d] => u32::from_ne_bytes([a, b, c, d]),
            [a, b] => u16::from_ne_bytes([a, b]).into(),
            _ => 0,
        };
        who.groups = bytes.chunks(self.id_size()).map(id).collect();
        self.answers.identities.give(self.target, who)?;
        Ok(0)
    }

    fn id_size(&self) -> usize {
        if self.known.short_ids { 2 } else { 4 }
    }

    /// What was given; the kernel answers for a process that has its real ones.
    fn given(&self) -> Result<std::sync::Arc<Credentials>, Otherwise> {
        self.answers.identities.of(self.target).ok_or(Otherwise::Kernel)
    }

    fn get(&self, ids: Ids) -> Result<Set, Otherwise> {
        let given = self.given()?;
        Ok(match ids {
            Ids::User => given.user,
            Ids::Group => given.group,
        })
    }

    fn get_all(&self, ids: Ids) -> Outcome {
        let set = self.get(ids)?;
        for (at, id) in [set.real, set.effective, set.saved].into_iter().enumerate() {
            self.give(self.argument(at), self.id_bytes(id).as_slice())?;
        }
        Ok(0)
    }

    fn get_groups(&self) -> Outcome {
        let groups = &self.given()?.groups;
        let room = self.argument(0) as i32;
        let count = groups.len() as i64;
        if room == 0 {
            return Ok(count);
        }
        if i64::from(room) < count {
            return Err(Errno::INVAL.into());
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|id| self.id_bytes(*id)).collect();
        if !bytes.is_empty() {
            self.give(self.argument(1), &bytes)?;
        }
        Ok(count)
    }

    fn id_bytes(&self, id: u32) -> Vec<u8> {
        if self.known.short_ids {
            // What does not fit is shown as the overflow ID (linux/highuid.h).
            u16::try_from(id).unwrap_or(65534).to_ne_bytes().to_vec()
        } else {
            id.to_ne_bytes().to_vec()
        }
    }
}

/// new_decode_dev of linux/kdev_t.h.
fn decode_device(number: u32) -> (u32, u32) {
    ((number & 0xf_ff00) >> 8, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}
