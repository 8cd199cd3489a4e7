//! The default filter: an allow-list with the meaning of the ones that docker and podman ship.
//!
//! Where those two differ: the calls allowed are docker's, with podman's old signal calls of 32-bit programs
//! and podman's answer about the audit system. A call that is refused on purpose fails with EPERM. All else
//! fails with ENOSYS, as with podman, so that a C library newer than this table falls back to older calls;
//! so does io_uring, for which programs have a way round. pivot_root goes with CAP_SYS_ADMIN, like the other
//! calls about mounts (docker never allows it, podman always), so that containers can be nested.
//!
//! Arguments that the kernel takes as 32-bit integers are compared as such: what is in the upper half must
//! not get past a rule.

use crate::container::capabilities::{CapSet, Capability};

use super::arch::{Arch, Row};
use super::policy::{Action, Case, Condition, Op, Policy, Verdict};
use super::table::NAMES;

/// System calls by name, looked up by the compiler.
macro_rules! rows {
    ($($name:literal),* $(,)?) => { const { &[$(row_of($name)),*] } };
}

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// Allowed to everybody, by subject.
const ALLOWED: &[&[Row]] =
    &[FILES, ATTRIBUTES, INPUT_OUTPUT, EVENTS, MEMORY, PROCESSES, SIGNALS, IDENTITY, IPC, NETWORK, TIME];

#[rustfmt::skip]
const FILES: &[Row] = rows![
    "access", "chdir", "chmod", "chown", "chown32", "close", "close_range", "creat", "dup", "dup2", "dup3",
    "faccessat", "faccessat2", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown",
    "fchown32", "fchownat", "fcntl", "fcntl64", "flock", "fstat", "fstat64", "fstatat64", "fstatfs",
    "fstatfs64", "ftruncate", "ftruncate64", "getcwd", "getdents", "getdents64", "ioctl", "lchown",
    "lchown32", "link", "linkat", "listmount", "lstat", "lstat64", "mkdir", "mkdirat", "mknod", "mknodat",
    "name_to_handle_at", "newfstatat", "open", "openat", "openat2", "readdir", "readlink", "readlinkat",
    "rename", "renameat", "renameat2", "rmdir", "stat", "stat64", "statfs", "statfs64", "statmount", "statx",
    "symlink", "symlinkat", "truncate", "truncate64", "umask", "unlink", "unlinkat",
];

#[rustfmt::skip]
const ATTRIBUTES: &[Row] = rows![
    "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "futimesat", "getxattr", "getxattrat",
    "lgetxattr", "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lsetxattr", "removexattr",
    "removexattrat", "setxattr", "setxattrat", "utime", "utimensat", "utimensat_time64", "utimes",
];

#[rustfmt::skip]
const INPUT_OUTPUT: &[Row] = rows![
    "_llseek", "arm_fadvise64_64", "arm_sync_file_range", "cachestat", "copy_file_range", "fadvise64",
    "fadvise64_64", "fdatasync", "fsync", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
    "io_pgetevents_time64", "io_setup", "io_submit", "ioprio_get", "ioprio_set", "lseek", "pipe", "pipe2",
    "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readv",
    "sendfile", "sendfile64", "splice", "sync", "sync_file_range", "sync_file_range2", "syncfs", "tee",
    "vmsplice", "write", "writev",
];

#[rustfmt::skip]
const EVENTS: &[Row] = rows![
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "poll", "ppoll",
    "ppoll_time64", "pselect6", "pselect6_time64", "select",
];

#[rustfmt::skip]
const MEMORY: &[Row] = rows![
    "brk", "cacheflush", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret",
    "mincore", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync",
    "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "remap_file_pages",
    "riscv_flush_icache",
];

#[rustfmt::skip]
const PROCESSES: &[Row] = rows![
    "arch_prctl", "breakpoint", "execve", "execveat", "exit", "exit_group", "fork", "futex",
    "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "get_robust_list",
    "get_thread_area", "getcpu", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom",
    "getrlimit", "getrusage", "getsid", "gettid", "landlock_add_rule", "landlock_create_ruleset",
    "landlock_restrict_self", "modify_ldt", "pidfd_open", "prctl", "prlimit64", "process_mrelease",
    "riscv_hwprobe", "rseq", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "set_robust_list", "set_thread_area",
    "set_tid_address", "set_tls", "setpgid", "setpriority", "setrlimit", "setsid", "sysinfo", "ugetrlimit",
    "uname", "uretprobe", "vfork", "wait4", "waitid", "waitpid",
];

#[rustfmt::skip]
const SIGNALS: &[Row] = rows![
    "kill", "pause", "pidfd_send_signal", "restart_syscall", "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaction", "sigaltstack", "signal", "signalfd",
    "signalfd4", "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "tgkill", "tkill",
];

#[rustfmt::skip]
const IDENTITY: &[Row] = rows![
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
    "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32", "setfsgid",
    "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32", "setregid",
    "setregid32", "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32",
    "setuid", "setuid32",
];

#[rustfmt::skip]
const IPC: &[Row] = rows![
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl",
    "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
];

/// socketcall, of 32-bit x86 programs, keeps its arguments in memory, where no filter sees the address family.
#[rustfmt::skip]
const NETWORK: &[Row] = rows![
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recv",
    "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg", "sendto",
    "setsockopt", "shutdown", "socketcall", "socketpair",
];

#[rustfmt::skip]
const TIME: &[Row] = rows![
    "adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer",
    "gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun",
    "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create",
    "timerfd_gettime", "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times",
];

/// Allowed with one of the capabilities, else EPERM.
#[rustfmt::skip]
const WITH_CAPABILITY: &[(&[Capability], &[Row])] = &[
    (
        &[Capability::SYS_ADMIN],
        rows![
            "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie",
            "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "mount", "mount_setattr",
            "move_mount", "open_tree", "open_tree_attr", "pivot_root", "quotactl", "quotactl_fd",
            "setdomainname", "sethostname", "setns", "umount", "umount2", "unshare",
        ],
    ),
    (&[Capability::SYS_ADMIN, Capability::BPF], rows!["bpf"]),
    (&[Capability::SYS_ADMIN, Capability::PERFMON], rows!["perf_event_open"]),
    (&[Capability::SYS_ADMIN, Capability::SYSLOG], rows!["syslog"]),
    (&[Capability::DAC_READ_SEARCH], rows!["open_by_handle_at"]),
    (&[Capability::SYS_BOOT], rows!["reboot"]),
    (&[Capability::SYS_CHROOT], rows!["chroot"]),
    (&[Capability::SYS_MODULE], rows!["delete_module", "finit_module", "init_module", "query_module"]),
    (&[Capability::SYS_NICE], rows!["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (&[Capability::SYS_PACCT], rows!["acct"]),
    (&[Capability::SYS_PTRACE], rows!["kcmp", "pidfd_getfd", "process_madvise"]),
    (&[Capability::SYS_RAWIO], rows!["ioperm", "iopl"]),
    (&[Capability::SYS_TIME], rows!["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (&[Capability::SYS_TTY_CONFIG], rows!["vhangup"]),
];

/// Before Linux 4.8 a traced process got past its filter (ptrace(2)); since then allowed to everybody.
const TRACING: &[Row] = rows!["process_vm_readv", "process_vm_writev", "ptrace"];
const TRACING_IS_SAFE: (u32, u32) = (4, 8);

/// EPERM whatever the capabilities: they reach what no namespace holds (keyrings, swap, kexec, pages of
/// other nodes), or have been a way into the kernel and nothing needs them.
#[rustfmt::skip]
const REFUSED: &[Row] = rows![
    "_sysctl", "add_key", "afs_syscall", "bdflush", "create_module", "get_kernel_syms", "getpmsg",
    "kexec_file_load", "kexec_load", "keyctl", "migrate_pages", "move_pages", "nfsservctl", "nice",
    "oldfstat", "oldlstat", "oldolduname", "oldstat", "olduname", "pciconfig_iobase", "pciconfig_read",
    "pciconfig_write", "putpmsg", "request_key", "security", "sgetmask", "ssetmask", "swapoff", "swapon",
    "sysfs", "tuxcall", "uselib", "userfaultfd", "ustat", "vm86", "vm86old", "vserver",
];

/// CLONE_NEW* of clone(2), but for CLONE_NEWTIME, which shares a bit with the exit signal there.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP) as u64;

/// PER_LINUX and PER_LINUX32, each with and without UNAME26, and the query of personality(2).
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, u32::MAX];

/// Address families that no kernel has any more (DECnet, Econet, ATM SVC, IrDA, WANPIPE, ISDN, CAIF), the
/// kernel's cryptography (AF_ALG: a way in, CVE-2026-31431), and virtual machines (AF_VSOCK: it knows no
/// network namespace before Linux 7.0).
const REFUSED_FAMILIES: [u32; 9] = [12, 19, 20, 23, 25, 34, 37, 38, 40];
/// AF_MCTP, the last that docker's list knows.
const LAST_FAMILY: u32 = 45;

/// The default policy for a container with these capabilities on this machine.
pub fn policy(native: Arch, capabilities: CapSet, kernel: (u32, u32)) -> Policy {
    let may = |any_of: &[Capability]| any_of.iter().any(|capability| capabilities.contains(*capability));
    let allowed_if = |allowed| Verdict::always(if allowed { Action::Allow } else { EPERM });
    let mut policy = Policy::new(native.family().to_vec(), ENOSYS, ENOSYS);
    let mut give = |rows: &[Row], verdict: Verdict| {
        for row in rows {
            policy.verdicts[usize::from(*row)] = Some(verdict.clone());
        }
    };
    for rows in ALLOWED {
        give(rows, allowed_if(true));
    }
    for (any_of, rows) in WITH_CAPABILITY {
        give(rows, allowed_if(may(any_of)));
    }
    give(TRACING, allowed_if(kernel >= TRACING_IS_SAFE || may(&[Capability::SYS_PTRACE])));
    give(REFUSED, allowed_if(false));
    let admin = may(&[Capability::SYS_ADMIN]);
    give(rows!["clone"], if admin { allowed_if(true) } else { clone() });
    // Its flags are in memory, where no filter sees them; C libraries fall back to clone.
    give(rows!["clone3"], Verdict::always(if admin { Action::Allow } else { ENOSYS }));
    give(rows!["personality"], personality());
    give(rows!["socket"], socket(may(&[Capability::AUDIT_WRITE])));
    policy
}

fn clone() -> Verdict {
    let none = Condition { argument: 0, mask: NEW_NAMESPACES, op: Op::Eq, value: 0 };
    Verdict { cases: vec![Case { conditions: vec![none], action: Action::Allow }], otherwise: EPERM }
}

fn personality() -> Verdict {
    let cases = PERSONALITIES
        .iter()
        .map(|value| Case { conditions: vec![int(0, Op::Eq, *value)], action: Action::Allow });
    Verdict { cases: cases.collect(), otherwise: EPERM }
}

fn socket(audit: bool) -> Verdict {
    let mut cases: Vec<Case> = REFUSED_FAMILIES
        .iter()
        .map(|family| int(0, Op::Eq, *family))
        .chain([int(0, Op::Gt, LAST_FAMILY)])
        .map(|condition| Case { conditions: vec![condition], action: EPERM })
        .collect();
    if !audit {
        // libaudit takes this for a kernel without auditing and goes on.
        let netlink_audit =
            vec![int(0, Op::Eq, libc::AF_NETLINK as u32), int(2, Op::Eq, libc::NETLINK_AUDIT as u32)];
        cases.push(Case { conditions: netlink_audit, action: Action::Errno(libc::EINVAL as u16) });
    }
    Verdict { cases, otherwise: Action::Allow }
}

/// A comparison of an argument that the kernel takes as a 32-bit integer.
fn int(argument: u8, op: Op, value: u32) -> Condition {
    Condition { argument, mask: u64::from(u32::MAX), op, value: u64::from(value) }
}

/// Fails to compile where no architecture has the call.
const fn row_of(name: &str) -> Row {
    let (mut low, mut high) = (0, NAMES.len());
    while low < high {
        let middle = (low + high) / 2;
        if is_before(NAMES[middle].as_bytes(), name.as_bytes()) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    assert!(low < NAMES.len() && !is_before(name.as_bytes(), NAMES[low].as_bytes()), "no such system call");
    low as Row
}

const fn is_before(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() {
        if a[at] != b[at] {
            return a[at] < b[at];
        }
        at += 1;
    }
    a.len() < b.len()
}

#[cfg(test)]
pub(super) fn listed() -> Vec<Row> {
    let mut rows = ALLOWED.concat();
    rows.extend(WITH_CAPABILITY.iter().flat_map(|(_, rows)| rows.iter()));
    rows.extend(TRACING.iter().chain(REFUSED));
    rows
}
