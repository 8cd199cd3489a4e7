//! Processes named so that a number used again is not taken for them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::host::read_proc;
use crate::sys::process::{has_ended, send_signal, send_signal_to};

/// What a monitor calls itself (proc_pid_comm(5)).
pub const MONITOR: &str = "sbx-monitor";

/// A PID and the time of its start, which together are unique within one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    pub pid: i32,
    /// Clock ticks after the boot (proc_pid_stat(5), field 22).
    pub start: u64,
}

impl ProcessRef {
    /// The process that has this PID now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: start_time(pid)? })
    }

    /// A descriptor of the process, if it still is the same one.
    pub fn open(self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        (start_time(self.pid) == Some(self.start)).then_some(pidfd)
    }

    pub fn is_alive(self) -> bool {
        self.open().is_some_and(|pidfd| !has_ended(pidfd))
    }

    /// The same in fewer system calls: a number used again passes for the process.
    pub fn may_be_alive(self) -> bool {
        Pid::from_raw(self.pid)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            .is_some_and(|pidfd| !has_ended(pidfd))
    }

    /// Kills the process, with its group where it leads one, and waits until it is gone.
    pub fn kill(self, patience: Duration) {
        let Some(pidfd) = self.open() else { return };
        if group_of(self.pid) == Some(self.pid) {
            let _ = send_signal(-self.pid, libc::SIGKILL);
        }
        let _ = send_signal_to(pidfd.as_fd(), libc::SIGKILL);
        ends_within(&pidfd, patience);
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// ESRCH where the process has ended.
    pub fn signal(self, signal: i32) -> std::io::Result<()> {
        let gone = || std::io::Error::from_raw_os_error(libc::ESRCH);
        send_signal_to(self.open().ok_or_else(gone)?.as_fd(), signal)
    }

    /// Waits until the process has ended; false when it has not within `patience`.
    pub fn ends_within(self, patience: Duration) -> bool {
        self.open().is_none_or(|pidfd| ends_within(&pidfd, patience))
    }
}

fn ends_within(pidfd: &OwnedFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while !has_ended(pidfd) {
        if Instant::now() >= until {
            return false;
        }
        let mut polled = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
        let step = rustix::event::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let _ = rustix::event::poll(&mut polled, Some(&step));
    }
    true
}

fn stat_field(pid: i32, number: usize) -> Option<u64> {
    let stat = read_proc(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    after_name.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

fn start_time(pid: i32) -> Option<u64> {
    stat_field(pid, 22)
}

fn group_of(pid: i32) -> Option<i32> {
    stat_field(pid, 5)?.try_into().ok()
}

/// The numbers of all processes that /proc shows.
pub fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Kills every process in the user namespace with this inode number, or in one below it: what is left of a
/// container that shared the PID namespace of the host. Those of `spared` go on.
pub fn kill_user_namespace(inode: u64, spared: &[ProcessRef]) {
    kill_in_user_namespace(inode, &|pid| spared.iter().any(|server| server.pid == pid));
}

fn kill_in_user_namespace(inode: u64, spared: &dyn Fn(i32) -> bool) {
    // Those killed may have forked meanwhile; the rounds end when one finds nobody.
    for _ in 0..50 {
        let mut found = false;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            else {
                continue;
            };
            if lives_in(pid, inode) && !spared(pid) && !has_ended(&pidfd) {
                found = true;
                let _ = send_signal_to(pidfd.as_fd(), libc::SIGKILL);
            }
        }
        if !found {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The same where nobody holds the namespace any more, and the kernel may have given its number to another: what has a
/// living monitor above it is another container's.
pub fn kill_orphans_of_user_namespace(inode: u64) {
    kill_in_user_namespace(inode, &|pid| is_monitored(pid));
}

/// Whether a monitor of a container is among the ancestors of a process.
fn is_monitored(pid: i32) -> bool {
    let mut ancestor = pid;
    // Deeper trees than that have no container in them.
    for _ in 0..4096 {
        match stat_field(ancestor, 4).and_then(|parent| i32::try_from(parent).ok()) {
            Some(parent) if parent > 1 => ancestor = parent,
            _ => return false,
        }
        if read_proc(format!("/proc/{ancestor}/comm")).is_ok_and(|name| name.trim_end() == MONITOR) {
            return true;
        }
    }
    false
}

/// Whether a process is in the user namespace or in one that was made in it.
fn lives_in(pid: i32, inode: u64) -> bool {
    let number = |namespace: &fs::File| namespace.metadata().map_or(0, |metadata| metadata.ino());
    let own = fs::metadata("/proc/self/ns/user").map_or(0, |metadata| metadata.ino());
    let Ok(mut namespace) = fs::File::open(format!("/proc/{pid}/ns/user")) else { return false };
    // The kernel nests them 32 deep (user_namespaces(7)).
    for _ in 0..32 {
        match number(&namespace) {
            found if found == inode => return true,
            found if found == own => return false,
            _ => {}
        }
        let Ok(parent) = crate::sys::process::parent_namespace(namespace.as_fd()) else { return false };
        namespace = parent.into();
    }
    false
}

/// Identifies this boot (random(4), /proc/sys/kernel/random/boot_id).
pub fn boot_id() -> String {
    read_proc("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_not_taken_for_the_process() {
        let own = ProcessRef::of(std::process::id() as i32).unwrap();
        assert!(own.is_alive());
        assert!(!ProcessRef { start: own.start + 1, ..own }.is_alive());
    }
}
