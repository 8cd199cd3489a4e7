//! A container whose mounts and devices are listed by the author of its bundle: the same process, on another way to
//! its command. What the host has for it is opened as the caller, before anything changes (OCI runtime specification,
//! runtime.md, Lifecycle, gives the order of the hooks).

mod devices;
pub mod hooks;
pub mod joined;
pub mod mapping;
mod mounts;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::DumpableBehavior;

use crate::container::listed::{Attached, Listed};
use crate::container::spec::{Namespace, Spec};
use crate::container::user::{self, ResolvedUser};
use crate::error::{Error, Result, Step};
use crate::sandbox::child::Inside;
use crate::sandbox::command::{AccountFiles, lost};
use crate::sandbox::inroot::InRoot;
use crate::sandbox::listed::joined::Joined;
use crate::sandbox::message::{FromChild, ToChild};
use crate::sandbox::namespaces::{self, NEW_TIME};
use crate::sandbox::{kernel_mounts, root, userns};
use crate::sys::open_files::Room;
use crate::sys::process::exit_now;

/// The byte that starts a container, and the one that has it close itself to those who come before that: until the start
/// it is sbx.
pub const START: u8 = b'!';
pub const CLOSE: u8 = b'c';

/// What the process of a container that is created waits at, when nobody who made it is left.
pub struct Gate {
    /// A FIFO, open for reading and writing: [`START`] is the word to go, and who writes it sees by the end of all readers
    /// that the command is being executed.
    pub fifo: OwnedFd,
    /// A file that takes the reason why it is not.
    pub complaint: OwnedFd,
}

impl Gate {
    /// Waits for the word.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn wait(&self) -> Result<()> {
        loop {
            let mut word = [0_u8; 1];
            match rustix::io::read(&self.fifo, &mut word) {
                Ok(1) if word[0] == CLOSE => {
                    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
                        .step(|| "cannot close the process to others")?;
                }
                Ok(1) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).step(|| "cannot wait for the start of the container"),
            }
        }
    }

    /// Says why the command is not executed.
    pub fn complain(&self, error: &Error) {
        if let (Ok(text), Ok(file)) = (serde_json::to_vec(error), self.complaint.try_clone()) {
            let _ = File::from(file).write_all(&text);
        }
    }
}

/// What [`Gate::complain`] has left.
pub fn complaint(file: &mut File) -> Option<Error> {
    let mut text = Vec::new();
    file.take(1 << 20).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Inside<'_> {
    /// From empty namespaces to the last steps.
    pub(super) fn set_up_listed(&self, listed: &Listed) -> Result<ResolvedUser> {
        rustix::process::setsid().step(|| "cannot make a session for the container")?;
        let room = Room::make(listed.mounts.len() as u64);
        let sources = mounts::open_sources(listed, &self.mapped)?;
        root::detach_from_host()?;
        self.own_network()?;
        self.name_the_host()?;
        offset_time(listed)?;
        let (inroot, joined) = self.root_of_the_bundle()?;
        self.wait_for_their_maps()?;
        let shares_root = match &joined {
            Some(joined) => joined.shares_root(self.spec, listed)?,
            None => false,
        };

        let protected = mounts::mount_all(&inroot, self.spec, listed, sources)?;
        if !shares_root {
            devices::make_all(&inroot, self.spec, listed)?;
        }
        self.set_sysctls(&inroot)?;
        self.channel.send(&FromChild::Mounted).step(lost)?;
        match self.channel.receive().step(lost)? {
            Some((ToChild::HooksDone, _)) => {}
            _ => exit_now(125),
        }
        // Who is killed while he makes the container leaves nobody behind who goes on with it.
        let place = hooks::Place {
            for_the_sake_of: Some(self.channel.as_fd()),
            ..hooks::Place::of_bundle(self.spec)
        };
        hooks::run("createContainer", &listed.hooks.create_container, place, || {
            hooks::document(self.spec, "creating", own_pid())
        })?;
        let streams = self.streams(&inroot)?;
        kernel_mounts::protect(&inroot, &self.spec.security.read_only_paths)?;
        kernel_mounts::mask(&inroot, self.spec.security.masked_paths.iter())?;
        protected.iter().try_for_each(mounts::make_read_only)?;
        drop(room);
        self.working_directory(&inroot)?;
        let user = exact_user(self.spec, &inroot)?;
        if let Some(joined) = joined {
            joined.enter(&inroot, |attached| self.announce(attached))?;
        } else if listed.no_pivot {
            enter_without_pivot(&inroot)?;
        } else {
            root::enter(&inroot)?;
            root::let_go()?;
        }
        if self.spec.read_only {
            root::make_read_only(Path::new("/"), false)?;
        }
        if let Some(flags) = listed.root_propagation {
            let flags = MountPropagationFlags::from_bits_truncate(flags as u32);
            rustix::mount::mount_change("/", flags).step(|| "cannot set the propagation of the root")?;
        }
        self.limits()?;
        be_of_personality(listed)?;
        self.last_steps().take_streams(&self.stdio, streams, &user)?;
        Ok(user)
    }

    /// The root as the bundle has it, or as the mount namespace has it that is joined.
    fn root_of_the_bundle(&self) -> Result<(InRoot, Option<Joined<'_>>)> {
        let Some(namespace) = &self.mounts else { return Ok((self.mount_root()?, None)) };
        let root = self.spec.bound_root().ok_or_else(|| Error::new("the bundle has no root"))?;
        let (joined, inroot) = Joined::open(namespace, root, self.directory.path())?;
        Ok((inroot, Some(joined)))
    }

    /// What others will see of the container has to be on record before they do: it is taken away again.
    fn announce(&self, attached: Attached) -> Result<()> {
        self.channel.send(&FromChild::Attaching(attached)).step(lost)?;
        match self.channel.receive().step(lost)? {
            Some((ToChild::Recorded, _)) => Ok(()),
            _ => exit_now(125),
        }
    }

    /// Loopback, and nothing else: the rest is the engine's.
    fn own_network(&self) -> Result<()> {
        if self.spec.namespaces.net != Namespace::Private {
            return Ok(());
        }
        if self.makes_network {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|errno| crate::host::userns::explain_clone_failure(&errno.into()))?;
        }
        crate::sys::net::loopback_up().step(|| "cannot bring the loopback interface up")
    }

    fn wait_for_their_maps(&self) -> Result<()> {
        match self.channel.receive().step(lost)? {
            Some((ToChild::Mapped, _)) => {}
            _ => exit_now(125),
        }
        userns::become_root()?;
        // Nothing of the container runs yet, and whoever connects its network has to find its namespaces. Whom it
        // shares processes or powers with could look into sbx.
        let shared = self.spec.identity.join.as_ref().is_some_and(|join| *join != Namespace::Host)
            || self.spec.namespaces.pid != Namespace::Private
            || self.mounts.is_some();
        let behaviour = if shared { DumpableBehavior::NotDumpable } else { DumpableBehavior::Dumpable };
        rustix::process::set_dumpable_behavior(behaviour).step(|| "cannot close the process to others")
    }

    /// What is left when everything but the command is done: the creator hears of it, and the word to go is waited for.
    pub(super) fn wait_at_the_gate(&self) -> Result<()> {
        self.channel.send(&FromChild::Ready).step(lost)?;
        match &self.gate {
            Some(gate) => gate.wait(),
            None => match self.channel.receive().step(lost)? {
                Some((ToChild::Go, _)) => Ok(()),
                _ => exit_now(125),
            },
        }
    }
}

pub(super) fn be_of_personality(listed: &Listed) -> Result<()> {
    match listed.personality {
        Some(personality) => {
            crate::sys::scheduling::set_personality(personality).step(|| "cannot set the personality")
        }
        None => Ok(()),
    }
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// The namespace takes effect with the exec (Linux 6.3), before which its clocks can be set.
fn offset_time(listed: &Listed) -> Result<()> {
    if listed.time_offsets.is_empty() {
        return Ok(());
    }
    let failed = || "cannot set the clocks of the time namespace";
    if crate::seccomp::running_kernel() < (6, 3) {
        return Err(
            Error::new(failed()).because("a process changes its time namespace at an exec since Linux 6.3")
        );
    }
    nix::sched::unshare(CloneFlags::from_bits_retain(NEW_TIME)).step(failed)?;
    std::fs::write("/proc/self/timens_offsets", listed.time_offsets.join("\n")).step(failed)
}

/// The user in numbers, with the home of the passwd file.
pub(super) fn exact_user(spec: &Spec, root: &InRoot) -> Result<ResolvedUser> {
    let exact = spec.process.exact.as_deref().cloned().unwrap_or_default();
    let identity = &spec.identity;
    if identity.join.is_none() {
        let (users, groups) = (identity.inner_uid_map(), identity.inner_gid_map());
        let ids = [("user", exact.uid, users), ("group", exact.gid, groups)];
        let more = exact.groups.iter().map(|gid| ("group", *gid, groups));
        for (what, id, map) in ids.into_iter().chain(more) {
            if map.to_host(id).is_none() {
                return Err(Error::new(format!("cannot run as {what} ID {id}"))
                    .because("it is not among the container's ID mappings")
                    .hint("choose another, or add a line to `uidMappings` or `gidMappings`"));
            }
        }
    }
    let has_home = spec.process.env.iter().any(|entry| entry.starts_with("HOME="));
    let (mut home, mut name) = ("/".to_owned(), None);
    if !has_home {
        let files = AccountFiles::read(root);
        if let Some(entry) = user::passwd_entries(&files.passwd).find(|entry| entry.uid == exact.uid) {
            name = Some(String::from_utf8_lossy(entry.name).into_owned());
            let found = String::from_utf8_lossy(entry.home).into_owned();
            if found.starts_with('/') {
                home = found;
            }
        }
    }
    Ok(ResolvedUser { uid: exact.uid, gid: exact.gid, groups: exact.groups, home, name })
}

/// MS_MOVE and chroot(2). The mounts of the host stay below, out of reach of whoever has no CAP_SYS_CHROOT.
fn enter_without_pivot(root: &InRoot) -> Result<()> {
    let failed = || "cannot enter the root file system";
    rustix::process::fchdir(root.directory()).step(failed)?;
    rustix::mount::mount_move(".", "/").step(failed)?;
    rustix::process::chroot(".").step(failed)?;
    rustix::process::chdir("/").step(failed)
}

/// Whether a namespace is made whose clocks are set first.
pub(super) fn delays_time(spec: &Spec) -> bool {
    spec.listed.as_ref().is_some_and(|listed| !listed.time_offsets.is_empty())
}

/// The namespaces of a container, as [`namespaces::Held`] opens them.
pub fn held(pid: i32, spec: &Spec) -> Result<namespaces::Held> {
    namespaces::Held::of(pid, spec, Vec::new())
}
