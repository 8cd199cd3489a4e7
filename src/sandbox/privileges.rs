//! The last steps before the exec: user, groups, capabilities, seccomp.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::container::capabilities::CapSet;
use crate::container::listed::{CapabilitySets as CapabilitySetsOfBundle, FilterOptions};
use crate::container::user::ResolvedUser;
use crate::emulation::{self, Credentials};
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
    /// Of a bundle: every set as it is listed.
    pub sets: Option<&'a CapabilitySetsOfBundle>,
    /// Of a bundle: how its filter is installed, and what takes the listener.
    pub filter: Option<(&'a FilterOptions, TakesListener<'a>)>,
    /// The user is not mapped: whoever answers for emulated root makes the process believe in it.
    pub believed: bool,
}

/// Takes the listener of a bundle's filter.
pub type TakesListener<'a> = &'a dyn Fn(BorrowedFd<'_>) -> Result<()>;

/// Takes the listener, or the reason why there is none, and the user that the process believes to be.
pub type Handover<'a> = &'a dyn Fn(std::io::Result<OwnedFd>, Option<Credentials>) -> Result<()>;

/// Takes the user's IDs and limits what an exec can give; what is permitted stays, for [`seal`] to drop.
pub fn become_user(privileges: &Privileges<'_>, identity: &Identity) -> Result<()> {
    if privileges.believed {
        // The process stays the container's root to the kernel, which gives a root all of the set at an exec.
        let none = CapSet(0);
        return limit_bounding_set(if privileges.user.uid == 0 { privileges.capabilities } else { none });
    }
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
    if let Some(sets) = privileges.sets {
        return seal_exactly(privileges, sets);
    }
    let set = CapabilitySet::from_bits_retain(privileges.capabilities.0);
    // A user other than root has none in effect until it executes something that gives it some.
    let kept = if privileges.user.uid == 0 { set } else { CapabilitySet::empty() };
    let believing = match privileges.believed {
        true => CapabilitySet::SETUID | CapabilitySet::SETGID,
        false => CapabilitySet::empty(),
    };
    if privileges.no_new_privileges {
        set_capabilities(kept | believing, kept | believing)?;
        rustix::thread::set_no_new_privs(true).step(|| "cannot set no_new_privs")?;
        install_emulation(privileges, kept)?;
        return install(privileges);
    }
    if privileges.seccomp.is_some() || privileges.emulation.is_some() {
        let with_admin = kept | CapabilitySet::SYS_ADMIN;
        set_capabilities(with_admin | believing, with_admin | believing)?;
        install_emulation(privileges, with_admin)?;
        install(privileges)?;
        if executes {
            return Ok(());
        }
    }
    set_capabilities(kept, kept)
}

/// All five sets. A filter that takes CAP_SYS_ADMIN is installed before that is given up; an exec takes what is
/// permitted beyond the sets away.
fn seal_exactly(privileges: &Privileges<'_>, listed: &CapabilitySetsOfBundle) -> Result<()> {
    let bits = |set: CapSet| CapabilitySet::from_bits_retain(set.0);
    let (effective, permitted) = (bits(listed.effective), bits(listed.permitted));
    let inheritable = bits(listed.inheritable);
    let failed = || "cannot set the capabilities";
    let set = |more: CapabilitySet| {
        let sets = CapabilitySets { effective: effective | more, permitted: permitted | more, inheritable };
        rustix::thread::set_capabilities(None, sets).step(failed)
    };
    let before = !privileges.no_new_privileges && privileges.seccomp.is_some();
    set(if before { CapabilitySet::SYS_ADMIN } else { CapabilitySet::empty() })?;
    rustix::thread::clear_ambient_capability_set().step(failed)?;
    for capability in listed.ambient.iter() {
        let bit = CapabilitySet::from_bits_retain(1 << capability.number());
        rustix::thread::configure_capability_in_ambient_set(bit, true).step(failed)?;
    }
    if privileges.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step(|| "cannot set no_new_privs")?;
    }
    install(privileges)
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

/// The filter of emulated root comes first: the other one need not allow what hands the listener over, nor the
/// change to a user who is not mapped. That takes two capabilities of root; `left` are those without them.
fn install_emulation(privileges: &Privileges<'_>, left: CapabilitySet) -> Result<()> {
    let Some((program, hand_over)) = privileges.emulation else { return Ok(()) };
    if !privileges.believed {
        return hand_over(crate::sys::notify::install(program), None);
    }
    let failed = || "cannot take a user that is not mapped";
    let before = emulation::believe_first().step(failed)?;
    let listener = crate::sys::notify::install(program);
    let user = privileges.user;
    if listener.is_ok() {
        hand_over(listener, Some(Credentials::of(user.uid, user.gid, &user.groups)))?;
        return set_capabilities(left, left);
    }
    hand_over(listener, None)?;
    // Whoever answers outside may know how to make it another user.
    crate::sys::remote::set_limit(0, libc::RLIMIT_RSS, before).step(failed)?;
    switch_ids(privileges.user, !privileges.keep_groups, &|_| false)?;
    set_capabilities(left, left)
}

fn install(privileges: &Privileges<'_>) -> Result<()> {
    let Some(program) = privileges.seccomp else { return Ok(()) };
    let installed = match privileges.filter {
        Some((options, take)) if options.listener.is_some() => {
            // There are no other threads, and the kernel refuses both together.
            let flags = options.flags & !libc::SECCOMP_FILTER_FLAG_TSYNC;
            let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | flags;
            crate::sys::notify::install_and_send(program, flags, |listener| take(listener).is_ok())
        }
        Some((options, _)) => crate::sys::seccomp::install_with(program, options.flags),
        None => crate::sys::seccomp::install(program),
    };
    installed.map_err(|error| {
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

/// Who made a user namespace that is joined may have ruled setgroups(2) out (user_namespaces(7)). To be asked as soon as the
/// process is in it: later its /proc may be none, or somebody else's.
pub(super) fn learn_of_setgroups() {
    SETGROUPS_DENIED.get_or_init(|| {
        std::fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny")
    });
}

static SETGROUPS_DENIED: OnceLock<bool> = OnceLock::new();

fn switch_user(privileges: &Privileges<'_>, identity: &Identity) -> Result<()> {
    let ruled_out = |error| {
        error == rustix::io::Errno::PERM && identity.join.is_some() && SETGROUPS_DENIED.get() == Some(&true)
    };
    switch_ids(privileges.user, !privileges.keep_groups && !identity.deny_setgroups, &ruled_out)
}

/// Takes the IDs of a user. A failure to set the groups that is `fine` does not matter.
fn switch_ids(
    user: &ResolvedUser,
    with_groups: bool,
    fine: &dyn Fn(rustix::io::Errno) -> bool,
) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if with_groups {
        let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        match rustix::thread::set_thread_groups(&groups) {
            Err(error) if fine(error) => {}
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
