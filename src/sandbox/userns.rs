//! The canonical user namespace alone, for work on files that belong to its IDs.

use nix::sched::CloneFlags;

use crate::error::{EXIT_SBX, Error, Result, Step};
use crate::identity::{self, IdMap, Identity};
use crate::sandbox::message::ToLauncher;
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, exit_now, fork, send_signal, wait_for};

/// Runs `work` as root of a new canonical user namespace, in a child process, and gives what it returns as
/// the exit code. The terminal and the streams are the caller's.
///
/// # Errors
/// Where user namespaces are refused, or the maps cannot be written.
pub fn run_in(identity: &Identity, work: impl FnOnce() -> i32) -> Result<i32> {
    wait_for(start_in(identity, work)?).step(|| "cannot wait for a process")
}

/// As [`run_in`], but gives the child's PID as soon as the child is at work.
///
/// # Errors
/// As [`run_in`]; then there is no child left.
pub fn start_in(identity: &Identity, work: impl FnOnce() -> i32) -> Result<i32> {
    let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
    match fork().step(|| "cannot start a process")? {
        Fork::Child => {
            drop(ours);
            exit_now(match enter(&theirs) {
                Ok(()) => {
                    drop(theirs);
                    work()
                }
                Err(error) => {
                    let _ = theirs.send(&error);
                    i32::from(EXIT_SBX)
                }
            })
        }
        Fork::Parent(pid) => {
            drop(theirs);
            let started = map(identity, pid, &ours).and_then(|()| match ours.receive::<Error>() {
                Ok(Some((error, _))) => Err(error),
                // It closes its end when it goes to work.
                _ => Ok(pid),
            });
            started.inspect_err(|_| {
                let _ = send_signal(pid, libc::SIGKILL);
                let _ = wait_for(pid);
            })
        }
    }
}

/// Makes the calling process root of a new canonical user namespace, for good. A child writes the maps from
/// outside and ends.
///
/// # Errors
/// As [`run_in`].
pub fn become_root_of_new(identity: &Identity) -> Result<()> {
    let failed = || "cannot talk to the process that writes the ID maps";
    let own = std::process::id().cast_signed();
    let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
    match fork().step(|| "cannot start a process")? {
        Fork::Child => {
            drop(ours);
            let mapped = match theirs.receive::<()>() {
                Ok(Some(_)) => identity::start_write(identity, own).and_then(identity::PendingWrite::wait),
                // The parent ended or could not make its namespace.
                _ => exit_now(0),
            };
            let _ = theirs.send(&mapped.err());
            exit_now(0)
        }
        Fork::Parent(mapper) => {
            drop(theirs);
            let unshared = nix::sched::unshare(CloneFlags::CLONE_NEWUSER);
            let outcome = match unshared {
                Err(errno) => Err(crate::host::userns::explain_clone_failure(&errno.into())),
                Ok(()) => ours.send(&()).step(failed).and_then(|()| {
                    match ours.receive::<Option<Error>>().step(failed)? {
                        Some((None, _)) => Ok(()),
                        Some((Some(error), _)) => Err(error),
                        None => Err(Error::new(failed()).because("it was killed")),
                    }
                }),
            };
            drop(ours);
            let _ = wait_for(mapper);
            outcome.and_then(|()| become_root())
        }
    }
}

fn map(identity: &Identity, pid: i32, channel: &Channel) -> Result<()> {
    let unshared: Option<(Option<i32>, _)> = channel.receive().step(|| "cannot talk to a process")?;
    if let Some((Some(errno), _)) = unshared {
        return Err(crate::host::userns::explain_clone_failure(&std::io::Error::from_raw_os_error(errno)));
    }
    if unshared.is_none() {
        return Err(Error::new("cannot make a user namespace").because("the process that should ended"));
    }
    identity::start_write(identity, pid)?.wait()?;
    channel.send(&ToLauncher::Mapped).step(|| "cannot talk to a process")
}

/// In the child: makes the namespace, says so, waits for the maps and becomes root.
fn enter(channel: &Channel) -> Result<()> {
    let unshared = nix::sched::unshare(CloneFlags::CLONE_NEWUSER).err().map(|errno| errno as i32);
    channel.send(&unshared).step(|| "cannot talk to the parent")?;
    channel.receive::<ToLauncher>().step(|| "cannot talk to the parent")?;
    become_root()
}

/// Takes the namespace's own root IDs, or its lowest where it has no root: a process whose IDs are not mapped
/// can make no file (EOVERFLOW). In the canonical maps these are the caller's, so that nothing changes there.
pub fn become_root() -> Result<()> {
    use rustix::fs::{Gid, Uid};
    use rustix::io::Errno;
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    let failed = || "cannot take the IDs of the container's root";
    match set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT) {
        Err(Errno::INVAL) => {
            let gid = Gid::from_raw(lowest("gid_map")?);
            set_thread_res_gid(gid, gid, gid).step(failed)?;
        }
        result => result.step(failed)?,
    }
    match set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Err(Errno::INVAL) => {
            let uid = Uid::from_raw(lowest("uid_map")?);
            set_thread_res_uid(uid, uid, uid).step(failed)
        }
        result => result.step(failed),
    }
}

fn lowest(map: &str) -> Result<u32> {
    let map = own_map(map)?;
    map.lowest_inside().ok_or_else(|| Error::new("cannot take an ID in a user namespace without any"))
}

/// The map of this process's own namespace: `uid_map` or `gid_map`.
pub fn own_map(file: &str) -> Result<IdMap> {
    let path = format!("/proc/self/{file}");
    let text = std::fs::read_to_string(&path).step(|| format!("cannot read `{path}`"))?;
    identity::map::parse_proc(&text).map(IdMap).step(|| format!("cannot understand `{path}`"))
}
