//! What the container's own child does in its new network namespace, before it gives up its capabilities.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};

/// A sysctl that the kernel did not let us set; the container runs without it.
#[derive(Debug)]
pub struct Skipped {
    pub sysctl: &'static str,
    pub cause: io::Error,
}

/// Opens ports below 1024 and, where a helper `connects` the namespace, turns duplicate address detection off for
/// interfaces yet to come: on a tap that we alone serve it would only hold IPv6 back for a second, so this comes
/// before the helper makes one. It needs no ID maps (the capability over the namespace suffices).
///
/// `proc` is a directory of procfs (any instance: its `sys/net` is that of the caller's namespace). Starts nothing.
pub fn set_up(proc: BorrowedFd<'_>, connects: bool) -> Vec<Skipped> {
    let duplicates = connects.then(|| set(proc, "net/ipv6/conf/default/accept_dad", b"0")).flatten();
    let ports = set(proc, "net/ipv4/ip_unprivileged_port_start", b"0");
    duplicates.into_iter().chain(ports).collect()
}

/// Opens unprivileged ping (icmp(7), ping_group_range) for the groups from `first` to `last`; the maps must be written.
pub fn allow_ping(proc: BorrowedFd<'_>, (first, last): (u32, u32)) -> Option<Skipped> {
    // 4294967295 is no group (the kernel's INVALID_GID).
    let most = u32::MAX - 1;
    set(proc, "net/ipv4/ping_group_range", format!("{} {}", first.min(most), last.min(most)).as_bytes())
}

fn set(proc: BorrowedFd<'_>, sysctl: &'static str, value: &[u8]) -> Option<Skipped> {
    match write(proc, sysctl, value) {
        Ok(()) => None,
        // A kernel without IPv6.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && sysctl.contains("ipv6") => None,
        Err(cause) => Some(Skipped { sysctl, cause }),
    }
}

impl Skipped {
    /// What the container's user should know.
    pub fn notice(&self) -> String {
        let consequence = match self.sysctl {
            "net/ipv4/ping_group_range" => "`ping` needs `--cap-add NET_RAW` and root inside",
            "net/ipv4/ip_unprivileged_port_start" => "ports below 1024 are for root inside alone",
            _ => "IPv6 is ready a second after the start",
        };
        format!("{consequence}: cannot set the sysctl {}: {}", self.sysctl.replace('/', "."), self.cause)
    }
}

fn write(proc: BorrowedFd<'_>, path: &str, value: &[u8]) -> io::Result<()> {
    let sysctls = rustix::fs::openat(proc, "sys", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let file = rustix::fs::openat(sysctls, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value)?;
    Ok(())
}
