//! What each call is answered with.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::call::{Call, Ids, Known, Named, New, Table};
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
    /// It has got its answer.
    Answered,
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

    /// None: the call has been answered already.
    pub fn to(&self, call: &Notification, target: &Target<'_>) -> Option<Answer> {
        let Some(known) = self.table.find(call.arch, call.number) else { return Some(Answer::Continue) };
        let request = Request { answers: self, call, known, target };
        match request.outcome() {
            Ok(value) => Some(Answer::Value(value)),
            Err(Otherwise::Kernel) => Some(Answer::Continue),
            Err(Otherwise::Fails(errno)) => Some(Answer::Errno(errno.raw_os_error())),
            Err(Otherwise::Answered) => None,
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
            Call::Create { named, new } => self.create(named, new),
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
        let (parent, name) = paths::find_parent(self.target, at, &path).ok_or(Otherwise::Kernel)?;
        self.still_waits()?;
        let bits = mode & 0o7777 & !self.umask();
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
            let _ = rustix::fs::unlinkat(&parent, &name, AtFlags::empty());
            return Err(errno.into());
        }
        Ok(0)
    }

    fn umask(&self) -> u32 {
        let umask = self.target.status_line("Umask");
        umask.and_then(|text| u32::from_str_radix(&text, 8).ok()).unwrap_or(0o022)
    }

    /// Makes what belongs to an emulated user, unless it is there already. Root's own files are made by the
    /// kernel: they belong to root without any record.
    fn create(&self, named: Named, new: New) -> Outcome {
        let who = self.given()?;
        let (uid, gid) = (who.user.file_system, who.group.file_system);
        if (uid, gid) == (0, 0) || self.known.arch == Arch::Arm {
            return Err(Otherwise::Kernel);
        }
        let first = usize::from(new == New::Symlink);
        let (at, path) = match named {
            Named::At { .. } => (self.descriptor(first), self.path(first + 1)?),
            _ => (libc::AT_FDCWD, self.path(first)?),
        };
        let path = match new {
            New::Directory { .. } => CString::new(trimmed(path.to_bytes())).map_err(|_| Otherwise::Kernel)?,
            _ => path,
        };
        let (parent, name) = paths::find_parent(self.target, at, &path).ok_or(Otherwise::Kernel)?;
        if rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err(Otherwise::Kernel);
        }
        let above = Found::new(parent)?;
        let gid = match u32::from(above.status.stx_mode) & libc::S_ISGID {
            0 => gid,
            _ => self.answers.owners.of(&above).map_or(0, |above| above.gid),
        };
        let make = Make { directory: &above.file, name: &name, owner: (uid, gid) };
        match new {
            New::File { flags, mode } => {
                let flags = flags.map_or(libc::O_CREAT | libc::O_WRONLY, |at| self.argument(at) as i32);
                self.make_file(&make, flags, self.argument(mode) as u32)
            }
            New::Directory { mode } => {
                let mode = Mode::from_raw_mode(self.argument(mode) as u32 & 0o7777 & !self.umask());
                self.still_waits()?;
                rustix::fs::mkdirat(make.directory, make.name, mode)?;
                self.own(&make)
            }
            New::Symlink => {
                let holds = self.path(0)?;
                self.still_waits()?;
                rustix::fs::symlinkat(&holds, make.directory, make.name)?;
                self.own(&make)
            }
        }
    }

    /// Records the owner of what was just made. Where that fails it is root's, as without emulation.
    fn own(&self, make: &Make<'_>) -> Outcome {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(file) = rustix::fs::openat(make.directory, make.name, flags, Mode::empty()) {
            self.record(make, file);
        }
        Ok(0)
    }

    fn record(&self, make: &Make<'_>, file: OwnedFd) -> Option<OwnedFd> {
        let found = Found::new(file).ok()?;
        let (uid, gid) = make.owner;
        let mode = found.status.stx_mode.into();
        let _ = self.answers.owners.put(&found, Recorded { uid, gid, mode, device: (0, 0) });
        Some(found.file)
    }

    /// The caller gets the descriptor: opened once more, a file of mode 0444 would not be writable.
    fn make_file(&self, make: &Make<'_>, flags: i32, mode: u32) -> Outcome {
        if flags & (libc::O_PATH | libc::O_DIRECTORY) != 0 {
            return Err(Otherwise::Kernel);
        }
        let mode = Mode::from_raw_mode(mode & 0o7777 & !self.umask());
        self.still_waits()?;
        let exclusive = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = OFlags::from_bits_retain(flags.cast_unsigned()) | exclusive;
        let file =
            rustix::fs::openat(make.directory, make.name, opened, mode).map_err(|_| Otherwise::Kernel)?;
        let file = self.record(make, file).ok_or(Otherwise::Kernel)?;
        match self.target.give(file.as_fd(), flags & libc::O_CLOEXEC != 0) {
            Ok(()) => Err(Otherwise::Answered),
            Err(error) => {
                // An older kernel makes it itself, as root's.
                if flags & libc::O_EXCL != 0 || error.raw_os_error() == Some(libc::EMFILE) {
                    let _ = rustix::fs::unlinkat(make.directory, make.name, AtFlags::empty());
                }
                Err(Otherwise::Kernel)
            }
        }
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

/// A place for a new file.
struct Make<'a> {
    directory: &'a OwnedFd,
    name: &'a CString,
    owner: (u32, u32),
}

/// Without slashes at the end, which mkdir(2) takes.
fn trimmed(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

/// new_decode_dev of linux/kdev_t.h.
fn decode_device(number: u32) -> (u32, u32) {
    ((number & 0xf_ff00) >> 8, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}
