//! What a refusal of the kernel means for who reads it.

use super::Plug;
use crate::error::Error;
use crate::sys::netlink::Refusal;

pub fn meaning(what: String, refusal: &Refusal) -> Error {
    let error = Error::new(what);
    match refusal.errno {
        libc::EOPNOTSUPP | libc::EPROTONOSUPPORT => error
            .because(format!("the kernel lacks what bridge networks are made of: {refusal}"))
            .hint("an administrator can `modprobe -a bridge veth`"),
        libc::EAFNOSUPPORT => error.because(format!("the kernel has no IPv6: {refusal}")),
        libc::EPERM => error.because(format!("no right over the network namespace: {refusal}")),
        libc::ENOBUFS | libc::ENOMEM => error.because(format!("the kernel is out of memory: {refusal}")),
        _ => error.because(refusal),
    }
}

/// For a pair of interfaces.
pub fn making_pair(what: String, plug: &Plug<'_>, refusal: &Refusal) -> Error {
    match refusal.errno {
        // Of which end the kernel does not say.
        libc::EEXIST => Error::new(what).because(format!(
            "there is an interface `{}` in the container, or `{}` among the bridges, already",
            plug.interface, plug.host_interface
        )),
        libc::EPERM => Error::new(what).because(format!(
            "the container's network namespace is not below the user namespace of the bridges: {refusal}"
        )),
        libc::EINVAL | libc::ERANGE => Error::new(what).because(format!(
            "the kernel takes the name `{}`, the MTU {} or the MAC address {} not: {refusal}",
            plug.interface, plug.mtu, plug.mac
        )),
        _ => meaning(what, refusal),
    }
}
