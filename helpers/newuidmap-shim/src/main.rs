//! newuidmap-shim: writes the uid_map and gid_map of a caller's user namespace (user_namespaces(7)).
//!
//! Under the names `newuidmap` and `newgidmap` it takes their arguments and writes one map; under any
//! other name it writes both in one start: `newuidmap-shim PID UID-TRIPLES... -- GID-TRIPLES...`.
//!
//! # Threat model
//!
//! The program is setuid root, or has the file capabilities CAP_SETUID and CAP_SETGID. Its caller is any
//! local user and hostile. The caller chooses the arguments (argv\[0\] too), the environment, the open
//! descriptors, the working directory, umask and resource limits, sends signals at any moment, and runs the
//! target process, which may end, fork, exec, or change its namespace between any two steps here.
//!
//! What must hold: an ID is mapped only if it lies in the caller's ranges of /etc/subuid (/etc/subgid) or is
//! the caller's own; only into a user namespace that the caller made in the caller's own; and setgroups(2)
//! stays allowed there only with a range from /etc/subgid. Trusted are the kernel, and the files in
//! /etc as far as root alone can write them.
//!
//! How it holds:
//! - The environment is not read, nothing is executed, no name service is asked, no file is made.
//! - Before the first argument is parsed, the process has the caller's IDs and holds CAP_SETUID and
//!   CAP_SETGID (those that its name needs) as permitted, not effective. They are effective
//!   only while the map files are opened and written.
//! - The target is one descriptor of its directory in /proc, opened once; a PID that is used again is
//!   another directory, and the old one answers ESRCH for ever.
//! - The map files are opened with the caller's IDs: the kernel then checks by itself, at the write, that the
//!   opener owns the very namespace that is written and stands in its parent. A target that changes its
//!   namespace after our checks gains nothing.
//! - Everything is checked, and every file opened, before the first byte is written. The caller can kill the
//!   process between two writes; that leaves a namespace with one map, of IDs the caller is granted.
//!
//! Differences from shadow's programs: at most five lines; numbers are plain decimals (shadow reads
//! `0x10` and `010` too); no NSS, so neither users nor ranges of LDAP or sssd except by number in the files;
//! GRANT_AUX_GROUP_SUBIDS of login.defs is not read; ID 0 of the host is never granted but to root;
//! a namespace that another user made is refused even if a process of the caller's is in it.
//! Needs Linux 4.11 (NS_GET_OWNER_UID).

// Unwinding takes the standard library, a dynamic program the C library's loader; elsewhere than on x86-64 there is
// little to gain.
#![cfg_attr(
    all(target_arch = "x86_64", target_os = "linux", target_feature = "crt-static", panic = "abort"),
    no_std,
    no_main
)]

extern crate alloc;

mod files;
mod privilege;
#[cfg_attr(
    all(target_arch = "x86_64", target_os = "linux", target_feature = "crt-static", panic = "abort"),
    path = "start_bare.rs"
)]
mod start;
mod sys;
mod target;

use alloc::format;

use newuidmap_shim::Refusal;
use newuidmap_shim::accounts::Accounts;
use newuidmap_shim::arguments::{Request, Role};
use newuidmap_shim::authorise::authorise;
use newuidmap_shim::map::Map;
use newuidmap_shim::subordinate::Grants;

use privilege::Caller;
use target::Target;

#[cfg(not(all(
    target_arch = "x86_64",
    target_os = "linux",
    target_feature = "crt-static",
    panic = "abort"
)))]
fn main() {
    start::main();
}

/// `words` are the program's name and its arguments; the exit code.
fn serve(words: &[&[u8]]) -> i32 {
    let (name, words) = words.split_first().map_or((&b""[..], &[][..]), |(name, words)| (*name, words));
    let role = Role::of(name);
    match sys::open_missing_streams().and_then(|()| run(role, words)) {
        Ok(()) => 0,
        Err(Refusal(reason)) => {
            sys::print_error(&format!("{}: {reason}\n", role.name()));
            1
        }
    }
}

fn run(role: Role, words: &[&[u8]]) -> Result<(), Refusal> {
    let caller = Caller::become_unprivileged(role)?;
    let request = Request::parse(role, words)?;
    let target = Target::open(request.target, &caller)?;
    let deny_setgroups = authorise_maps(&request, &caller)?;
    caller.raise_capabilities()?;
    target.write(request.uid_map.as_ref(), request.gid_map.as_ref(), deny_setgroups)
}

/// Checks every line of both maps. Returns whether setgroups(2) must be denied in the namespace.
fn authorise_maps(request: &Request, caller: &Caller) -> Result<bool, Refusal> {
    let passwd = files::read_trusted("/etc/passwd")?;
    let accounts = Accounts(&passwd);
    // As shadow: under a group taken by newgrp(1) or sg(1) no map is written.
    if accounts.group_of(caller.uid).is_some_and(|group| group != caller.gid) {
        return Err(format!("your group {} is not your login group", caller.gid).into());
    }
    let granted = |map: &Map, own: u32, file: &str| {
        let text = files::read_trusted(file)?;
        authorise(map, own, &Grants { text: &text, accounts, uid: caller.uid }, file)
    };
    if let Some(map) = &request.uid_map {
        granted(map, caller.uid, "/etc/subuid")?;
    }
    match &request.gid_map {
        Some(map) => Ok(!granted(map, caller.gid, "/etc/subgid")?),
        None => Ok(false),
    }
}
