//! How the kernel treats this process among others: personality(2), ioprio_set(2), sched_setattr(2).

use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::container::listed::Scheduler;

/// Calls `start`, which starts a process that the caller then waits for, so that this process begins on the caller's
/// processor; where it returns in both, each may run everywhere again. Where two processors are all there are, the kernel
/// may put the new one behind something that works on the other, while this one lies idle; where there are more, it finds
/// an idle one.
pub fn on_this_processor<T>(start: impl FnOnce() -> T) -> T {
    let Some(allowed) = both_processors() else { return start() };
    let mut this = CpuSet::new();
    this.set(sched_getcpu());
    // Without it everything is as right, and later.
    let _ = sched_setaffinity(None, &this);
    let started = start();
    let _ = sched_setaffinity(None, &allowed);
    started
}

/// Keeps a child on the processor that is not the caller's, until it is dropped: what both do then is done at once. Where
/// two processors are all there are, the kernel may begin a new process behind the one that made it.
#[derive(Debug)]
#[must_use = "the process may run everywhere as soon as this is dropped"]
pub struct Apart(Option<(Pid, CpuSet)>);

impl Apart {
    pub fn of(pid: i32) -> Self {
        Self(both_processors().zip(Pid::from_raw(pid)).map(|(allowed, pid)| {
            let mut other = allowed;
            other.unset(sched_getcpu());
            // Without it everything is as right, and later.
            let _ = sched_setaffinity(Some(pid), &other);
            (pid, allowed)
        }))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some((pid, allowed)) = &self.0 {
            let _ = sched_setaffinity(Some(*pid), allowed);
        }
    }
}

/// The processors of the calling thread, where they are two.
fn both_processors() -> Option<CpuSet> {
    sched_getaffinity(None).ok().filter(|allowed| allowed.count() == 2)
}

/// personality(2): PER_LINUX32 and its like.
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: takes no pointers.
    if unsafe { libc::personality(libc::c_ulong::from(domain)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// ioprio_set(2) of the calling process.
///
/// # Errors
/// EPERM for the real-time class without CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(priority: i32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// sched_setattr(2) of the calling thread.
///
/// # Errors
/// EPERM without CAP_SYS_NICE, EINVAL for values that do not fit the policy.
pub fn set_scheduler(scheduler: &Scheduler) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: scheduler.policy,
        flags: scheduler.flags,
        nice: scheduler.nice,
        priority: scheduler.priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    };
    // SAFETY: the structure is the kernel's first version of 48 bytes, says its size, and is only read.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
