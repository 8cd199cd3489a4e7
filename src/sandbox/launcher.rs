//! A process between the monitor and the container's first: it enters what the monitor itself must not, and makes the
//! container's process there.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::CloneFlags;
use rustix::process::DumpableBehavior;

use crate::error::{Error, Result, Step};
use crate::identity;
use crate::layers::{Upper, fuse_overlayfs};
use crate::sandbox::child::Inside;
use crate::sandbox::launch::{Sandbox, clone_failed, open_userns};
use crate::sandbox::message::{FromLauncher, ToLauncher};
use crate::sandbox::namespaces::{Join, to_make};
use crate::sandbox::userns::become_root;
use crate::sys::channel::Channel;
use crate::sys::process::{Clone, Fork, clone3, clone3_into, exit_now, fork, send_signal, wait_for};

/// A process between: it enters or makes the canonical namespace and what else is joined, makes the
/// container's process there as a child of the monitor, and stays, if need be, as the server of its root.
pub(super) struct Launcher {
    pub(super) pid: i32,
    pub(super) channel: Channel,
}

/// What is there before the launcher: namespaces to join, the user namespace of bridges, the container's cgroup.
pub(super) type Existing<'e> = (&'e [Join], Option<BorrowedFd<'e>>, Option<BorrowedFd<'e>>);

/// Starts the launcher and waits until it has made the container's process; whether that is in its cgroup already.
///
/// # Errors
/// The host refuses something. The launcher is gone then.
pub(super) fn through_launcher(
    inside: Inside<'_>,
    channel: Channel,
    existing: Existing<'_>,
) -> Result<(Sandbox, Launcher, bool)> {
    let identity = &inside.spec.identity;
    let (ours, theirs) = Channel::pair().step(|| "cannot make a socket pair")?;
    let monitor = std::process::id();
    let launcher = match fork().step(|| "cannot start a process")? {
        Fork::Child => {
            drop(ours);
            launch(inside, channel, theirs, existing, monitor)
        }
        Fork::Parent(pid) => Launcher { pid, channel: ours },
    };
    drop(theirs);
    drop(inside.channel);
    let lost = || "cannot talk to the launcher";
    let mut userns = None;
    let launched = loop {
        match launcher.channel.receive().step(lost)? {
            Some((FromLauncher::Unmapped, _)) => {
                let mapped =
                    identity::start_write(identity, launcher.pid).and_then(identity::PendingWrite::wait);
                if let Err(error) = mapped {
                    break Err(error);
                }
                userns = Some(open_userns(launcher.pid)?);
                launcher.channel.send(&ToLauncher::Mapped).step(lost)?;
            }
            Some((FromLauncher::Launched { pid, grouped }, Some(pidfd))) => break Ok((pid, pidfd, grouped)),
            Some((FromLauncher::Failed(error), _)) => break Err(error),
            _ => break Err(Error::new(lost())),
        }
    };
    match launched {
        Ok((pid, pidfd, grouped)) => {
            let userns = match (userns, existing.1) {
                (Some(userns), _) => userns,
                (None, Some(canonical)) => {
                    File::from(canonical.try_clone_to_owned().step(|| "cannot copy a descriptor")?)
                }
                // The launcher is in the namespace that was joined, and not as closed as the other.
                (None, None) if identity.join.is_some() => open_userns(launcher.pid)?,
                (None, None) => open_userns(pid)?,
            };
            Ok((Sandbox::new(pid, pidfd, userns, channel), launcher, grouped))
        }
        Err(error) => {
            let _ = send_signal(launcher.pid, libc::SIGKILL);
            let _ = wait_for(launcher.pid);
            Err(error)
        }
    }
}

/// The launcher's life.
fn launch(
    inside: Inside<'_>,
    channel: Channel,
    monitor_channel: Channel,
    existing: Existing<'_>,
    monitor: u32,
) -> ! {
    let (spec, directory) = (inside.spec, inside.directory);
    let _ = rustix::thread::set_name(c"sbx-launcher");
    let _ = crate::sys::process::die_with_parent(monitor);
    // The child lets go of its copy, or the monitor would not see that the launcher was killed.
    let mut to_monitor = Some(monitor_channel);
    let launched = launch_child(inside, channel, &mut to_monitor, existing);
    let Some(monitor_channel) = to_monitor else { exit_now(125) };
    match launched {
        Ok((pid, pidfd, grouped)) => {
            let launched = FromLauncher::Launched { pid, grouped };
            if monitor_channel.send_with(&launched, pidfd.as_fd()).is_err() {
                exit_now(125);
            }
        }
        Err(error) => {
            let _ = monitor_channel.send(&FromLauncher::Failed(error));
            exit_now(125);
        }
    }
    match monitor_channel.receive() {
        Ok(Some((ToLauncher::ServeRoot, Some(device)))) => {
            let Ok(program) = fuse_overlayfs::available() else { exit_now(125) };
            fuse_overlayfs::Server {
                program: &program,
                device,
                userns: None,
                root: &spec.root,
                owner: spec.sole_owner(),
                upper: &Upper::of(spec, directory),
                stage: &directory.stage(),
                log: &directory.root_server_log(),
            }
            .become_server(monitor)
        }
        _ => exit_now(0),
    }
}

fn launch_child(
    inside: Inside<'_>,
    channel: Channel,
    to_monitor: &mut Option<Channel>,
    (joins, below, group): Existing<'_>,
) -> Result<(i32, OwnedFd, bool)> {
    let identity = &inside.spec.identity;
    let monitor_channel = to_monitor.as_ref().ok_or_else(|| Error::new("cannot talk to the monitor"))?;
    let mut flags = libc::CLONE_PARENT | to_make(inside.spec);
    if identity.join.is_some() {
        // The user namespace comes first in the list.
        joins.iter().try_for_each(Join::enter)?;
        // What is there already may trace what comes in, and that stands in the host's root for a while: it
        // is closed from its first moment on. A network helper finds the new namespace at this process, which
        // is in nobody's sight.
        if flags & libc::CLONE_NEWNET != 0 {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| clone_failed(&errno.into()))?;
            flags &= !libc::CLONE_NEWNET;
        }
        crate::sandbox::command::set_oom_score(inside.spec)?;
        crate::sys::process::forget_arguments(c"sbx").step(|| "cannot hide the command line")?;
        set_dumpable(DumpableBehavior::NotDumpable)?;
    } else if let Some(canonical) = below {
        nix::sched::setns(canonical, CloneFlags::CLONE_NEWUSER)
            .step(|| "cannot join the user namespace of the networks")?;
        become_root()?;
        joins.iter().try_for_each(Join::enter)?;
        flags |= libc::CLONE_NEWUSER;
    } else if let Some(_nested) = &identity.nested {
        nix::sched::unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(|errno| crate::host::userns::explain_clone_failure(&errno.into()))?;
        monitor_channel.send(&FromLauncher::Unmapped).step(|| "cannot talk to the monitor")?;
        monitor_channel.receive::<ToLauncher>().step(|| "cannot talk to the monitor")?;
        become_root()?;
        joins.iter().try_for_each(Join::enter)?;
        flags |= libc::CLONE_NEWUSER;
    } else {
        joins.iter().try_for_each(Join::enter)?;
        flags |= libc::CLONE_NEWUSER;
    }
    let makes_cgroup = flags & libc::CLONE_NEWCGROUP != 0;
    let mut grouped = group.is_some();
    let cloned = match group {
        None => clone3(flags),
        // The monitor may still move the process: what was joined can stand in the way here.
        Some(group) => clone3_into(flags & !libc::CLONE_NEWCGROUP, Some(group)).or_else(|_| {
            grouped = false;
            clone3(flags)
        }),
    };
    match cloned.map_err(|error| clone_failed(&error))? {
        Clone::Child => {
            drop((channel, to_monitor.take()));
            Inside { makes_cgroup: makes_cgroup && grouped, ..inside }.run()
        }
        Clone::Parent { pid, pidfd } => {
            set_dumpable(DumpableBehavior::Dumpable)?;
            if flags & libc::CLONE_NEWUSER != 0 {
                let written = if identity.nested.is_some() || below.is_some() {
                    identity::open_process(pid)
                        .and_then(|process| identity::write_nested(process, &identity.maps_below()))
                } else {
                    identity::start_write(identity, pid).and_then(identity::PendingWrite::wait)
                };
                if let Err(error) = written {
                    let _ = send_signal(pid, libc::SIGKILL);
                    return Err(error);
                }
            }
            Ok((pid, pidfd, grouped))
        }
    }
}

fn set_dumpable(behaviour: DumpableBehavior) -> Result<()> {
    rustix::process::set_dumpable_behavior(behaviour).step(|| "cannot close the process to others")
}
