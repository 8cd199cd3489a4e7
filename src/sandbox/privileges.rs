//! The last steps before the exec: user, groups, capabilities, seccomp.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::container::capabilities::CapSet;
use crate::container::user::ResolvedUser;
use crate::error::{Error, Result, Step};
use crate::identity::{Identity, Tier};
use crate::seccomp::bpf::Instruction;

/// Everything that is given up, in one value.
pub struct Privileges<'a> {
    pub user: &'a ResolvedUser,
    pub keep_groups: bool,
    pub capabilities: CapSet,
    pub no_new_privileges: bool,
    pub seccomp: Option<&'a [Instruction]>,
    /// The filter of emulated root, and what takes its listener.
    pub emulation: Option<(&'a [Instruction], Handover<'a>)>,
}

/// Takes the listener, or the reason why there is none.
pub type Handover<'a> = &'a dyn Fn(std::io::Result<OwnedFd>) -> Result<()>;

/// Takes the user's IDs and limits what an exec can give; what is permitted stays, for [`seal`] to drop.
pub fn become_user(privileges: &Privileges<'_>, identity: &Identity) -> Result<()> {
    limit_bounding_set(privileges.capabilities)?;
    rustix::thread::set_keep_capabilities(true)
        .step(|| "cannot keep capabilities over the change of user")?;
    switch_user(privileges, identity)?;
    rustix::thread::set_keep_capabilities(false).step(|| "cannot drop capabilities")
}

/// Drops the capabilities and installs the filter, the last steps before the exec, so that a profile need not
/// allow more than those take.
///
/// Without no_new_privs a filter takes CAP_SYS_ADMIN (seccomp(2)), which is kept up to there. It goes with the
/// exec, after which root has the bounding set and others nothing (capabilities(7)); a process that stays
/// without one, as `executes` says, drops it itself.
pub fn seal(privileges: &Privileges<'_>, executes: bool) -> Result<()> {
    let set = CapabilitySet::from_bits_retain(privileges.capabilities.0);
    // A user other than root has none in effect until it executes something that gives it some.
    let kept = if privileges.user.uid == 0 { set } else { CapabilitySet::empty() };
    if privileges.no_new_privileges {
        set_capabilities(kept, kept)?;
        rustix::thread::set_no_new_privs(true).step(|| "cannot set no_new_privs")?;
        return install(privileges);
    }
    if privileges.seccomp.is_some() || privileges.emulation.is_some() {
        let with_admin = kept | CapabilitySet::SYS_ADMIN;
        set_capabilities(with_admin, with_admin)?;
        install(privileges)?;
        if executes {
            return Ok(());
        }
    }
    set_capabilities(kept, kept)
}

fn set_capabilities(effective: CapabilitySet, permitted: CapabilitySet) -> Result<()> {
    let sets = CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).step(|| "cannot set the capabilities")
}

/// Refuses a user whom the map does not have, before anything is started for them. What a joined namespace
/// maps is the kernel's to say.
pub fn check_mapped(user: &ResolvedUser, identity: &Identity) -> Result<()> {
    if identity.join.is_some() {
        return Ok(());
    }
    let (users, groups) = (identity.inner_uid_map(), identity.inner_gid_map());
    // Where setgroups is denied the list is left as it is.
    let more = if identity.deny_setgroups { &[] } else { user.groups.as_slice() };
    let ids = std::iter::once(("uid", "uidmap", user.uid, users))
        .chain(std::iter::once(("gid", "gidmap", user.gid, groups)))
        .chain(more.iter().map(|gid| ("gid", "gidmap", *gid, groups)));
    for (what, flag, id, map) in ids {
        if map.to_host(id).is_some() {
            continue;
        }
        let mapped: Vec<String> = map.0.iter().map(|line| line.inside_range().to_string()).collect();
        let failed = Error::new(format!("cannot run as {what} {id}"))
            .because(format!("it is not mapped into the container, which has {}", mapped.join(", ")));
        return Err(match identity.tier {
            Tier::Single => failed.hint(format!(
                "`--userns keep-id:{what}={id}` makes the caller that one; a range of subordinate IDs maps all \
                 (`sbx doctor` tells how to get one)"
            )),
            _ => failed.hint(format!(
                "choose another with `--user`, or map it: `--userns keep-id:{what}={id}` or `--{flag}`"
            )),
        });
    }
    Ok(())
}

/// The filter of emulated root comes first: the other one need not allow what hands the listener over.
fn install(privileges: &Privileges<'_>) -> Result<()> {
    if let Some((program, hand_over)) = privileges.emulation {
        hand_over(crate::sys::notify::install(program))?;
    }
    let Some(program) = privileges.seccomp else { return Ok(()) };
    crate::sys::seccomp::install(program).map_err(|error| {
        Error::new("cannot install the seccomp filter").because(error).hint(
            "the kernel may lack CONFIG_SECCOMP_FILTER; `--security-opt seccomp=unconfined` goes without",
        )
    })
}

fn limit_bounding_set(keep: CapSet) -> Result<()> {
    for number in 0..64 {
        let bit = CapabilitySet::from_bits_retain(1 << number);
        if keep.0 & bit.bits() != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(bit) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error).step(|| "cannot limit the capabilities"),
        }
    }
    Ok(())
}

/// Who made a user namespace that is joined may have ruled setgroups(2) out (user_namespaces(7)).
fn setgroups_denied() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
}

fn switch_user(privileges: &Privileges<'_>, identity: &Identity) -> Result<()> {
    let user = privileges.user;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if !privileges.keep_groups && !identity.deny_setgroups {
        let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        match rustix::thread::set_thread_groups(&groups) {
            Err(rustix::io::Errno::PERM) if identity.join.is_some() && setgroups_denied() => {}
            outcome => outcome.map_err(|error| {
                Error::new("cannot set the supplementary groups")
                    .because(error)
                    .hint("every group of the user has to be in the gid map")
            })?,
        }
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid).step(|| format!("cannot run as gid {}", user.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).step(|| format!("cannot run as uid {}", user.uid))
}
