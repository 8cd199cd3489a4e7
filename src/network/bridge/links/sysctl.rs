//! Sysctls below /proc/sys/net, which are those of the calling thread's network namespace (proc(5)).

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Forwarding comes first: it resets others (the kernel's ip-sysctl.rst, ip_forward).
const ROUTER: [(&str, &str); 21] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    // A router takes announcements for itself with 2 alone; the uplink has its address and route from one.
    ("ipv6/conf/default/accept_ra", "2"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    // No container may redirect, or be told to go, past the firewall.
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    // As the host has them, which may be otherwise (net.core.devconf_inherit_init_net).
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    // Replies to transparent sockets are for addresses that are elsewhere; the firewall stops false senders.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("netfilter/nf_conntrack_acct", "1"),
    // Where the host has br_netfilter, what a bridge passes on is routed traffic for the firewall, which drops it.
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
    ("ipv4/conf/lo/rp_filter", "0"),
];

pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf/all").exists()
}

/// Sets what is there: a kernel without IPv6, br_netfilter or connection tracking has not all of it.
pub fn make_router() -> Result<()> {
    ROUTER.iter().try_for_each(|(sysctl, value)| set_if_there(sysctl, value))
}

pub fn ignore_announcements(interface: &str) -> Result<()> {
    set_if_there(&format!("ipv6/conf/{interface}/accept_ra"), "0")
}

/// For the port of a bridge: it has no addresses, and nothing to say.
pub fn switch_ipv6_off(interface: &str) -> Result<()> {
    set_if_there(&format!("ipv6/conf/{interface}/disable_ipv6"), "1")
}

/// To be called in the container's namespace, before its interface is up; tells whether it takes addresses of IPv6.
///
/// Stations learn at once that an address has moved to this container, only what the network gives is an address or
/// router, and what comes in by one network may be answered though the default route leads through another.
pub fn tune_container(interface: &str) -> Result<bool> {
    set_if_there(&format!("ipv4/conf/{interface}/arp_notify"), "1")?;
    set_if_there(&format!("ipv4/conf/{interface}/rp_filter"), "2")?;
    set_if_there(&format!("ipv6/conf/{interface}/ndisc_notify"), "1")?;
    set_if_there(&format!("ipv6/conf/{interface}/accept_ra"), "0")?;
    let off = fs::read_to_string(path(&format!("ipv6/conf/{interface}/disable_ipv6")));
    Ok(!off.is_ok_and(|value| value.trim() != "0"))
}

fn set_if_there(sysctl: &str, value: &str) -> Result<()> {
    match set(sysctl, value) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(failure(sysctl, &cause)),
        _ => Ok(()),
    }
}

fn set(sysctl: &str, value: &str) -> io::Result<()> {
    let path = path(sysctl);
    let written =
        fs::File::options().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    match written {
        // A read-only /proc does no harm where the value is right.
        Err(_) if fs::read_to_string(&path).is_ok_and(|present| present.trim() == value) => Ok(()),
        other => other,
    }
}

fn path(sysctl: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(sysctl)
}

fn failure(sysctl: &str, cause: &io::Error) -> Error {
    let error =
        Error::new(format!("cannot set the sysctl `net.{}`", sysctl.replace('/', "."))).because(cause);
    match cause.kind() {
        ErrorKind::ReadOnlyFilesystem => error.hint("bridge networks need a /proc/sys that can be written"),
        ErrorKind::NotFound => error.hint("an administrator can `modprobe nf_conntrack`"),
        _ => error,
    }
}
