//! Whose IDs the container has: a new user namespace with explicit maps, one that is there, or the caller's own.

use super::{linux, mounts, raw};
use crate::container::spec::{Namespace, Process};
use crate::error::{Error, Result};
use crate::identity::{self, Caller, Host, IdMap, Identity, MapWriter, Tier, caller};

/// Decides the user namespace.
///
/// # Errors
/// Maps without a namespace, a map of users or groups alone, or maps that the caller cannot have.
pub(super) fn decide(config: &raw::Linux, process: &Process) -> Result<Identity> {
    let listed = config.namespaces.iter().find(|namespace| namespace.kind == "user");
    let mapped = !config.uid_mappings.is_empty() || !config.gid_mappings.is_empty();
    let choice = listed.map(linux::chosen).transpose()?.unwrap_or(Namespace::Host);
    match choice {
        Namespace::Private => new(config, process),
        Namespace::Host if mapped => {
            Err(Error::new("there are ID mappings and no user namespace to have them")
                .hint("list a namespace of the type `user`"))
        }
        Namespace::Host => own(),
        _ if mapped => {
            Err(Error::new("there are ID mappings for a user namespace that is joined and has its own")
                .hint("leave out `uidMappings` and `gidMappings`, or the path of the namespace"))
        }
        joined => Ok(joining(joined)),
    }
}

fn joining(namespace: Namespace) -> Identity {
    Identity {
        tier: Tier::Root,
        // Nobody writes these: the namespace has its own.
        uid_map: IdMap::single(0, 0),
        gid_map: IdMap::single(0, 0),
        deny_setgroups: false,
        nested: None,
        exclusive: false,
        join: Some(namespace),
        default_user: None,
        writer: MapWriter::Direct,
        notes: Vec::new(),
    }
}

/// Below podman, in its user namespace, or as root of the machine.
fn own() -> Result<Identity> {
    let capabilities = rustix::thread::capabilities(None)
        .map_err(|error| Error::new("cannot read the caller's capabilities").because(error))?;
    if !capabilities.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN) {
        return Err(Error::new("cannot make a container without a user namespace")
            .because("the caller is not root, and only a user namespace lets others make containers")
            .hint(
                "list a namespace of the type `user` with `uidMappings` and `gidMappings`: `sbx oci spec --rootless` \
                 writes an example",
            ));
    }
    Ok(joining(Namespace::Host))
}

fn new(config: &raw::Linux, process: &Process) -> Result<Identity> {
    if config.uid_mappings.is_empty() && config.gid_mappings.is_empty() {
        // `crun spec --rootless` writes none, and means all that the caller has.
        let host = Host::system();
        return identity::plan_on(&host, &identity::Request::default(), &Caller::current(&host)?);
    }
    let uid_map = mounts::lines("uidMappings", &config.uid_mappings)?;
    let gid_map = mounts::lines("gidMappings", &config.gid_mappings)?;
    let (writer, deny_setgroups) = writer(&uid_map, &gid_map)?;
    let tier = match writer {
        MapWriter::Direct if deny_setgroups => Tier::Single,
        MapWriter::Direct => Tier::Root,
        _ => Tier::Range,
    };
    let groups = process.exact.as_ref().map_or(&[][..], |exact| &exact.groups);
    if deny_setgroups && !groups.is_empty() {
        return Err(Error::new("cannot give the process additional groups")
            .because("where the caller maps its own group alone the kernel lets nobody set groups (user_namespaces(7))")
            .hint("leave out `additionalGids`, or map a range of subordinate IDs"));
    }
    Ok(Identity { tier, uid_map, gid_map, deny_setgroups, join: None, writer, ..joining(Namespace::Host) })
}

/// Who writes the maps, and whether setgroups(2) has to be denied first.
fn writer(users: &IdMap, groups: &IdMap) -> Result<(MapWriter, bool)> {
    let capabilities = rustix::thread::capabilities(None).map_or(0, |sets| sets.effective.bits());
    let has = |number: u32| capabilities >> number & 1 == 1;
    if has(caller::CAP_SETUID) && has(caller::CAP_SETGID) {
        return Ok((MapWriter::Direct, false));
    }
    let single =
        |map: &IdMap, own: u32| matches!(map.0.as_slice(), [line] if line.count == 1 && line.outside == own);
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if single(users, uid) && single(groups, gid) {
        return Ok((MapWriter::Direct, true));
    }
    let host = Host::system();
    let caller = Caller::current(&host)?;
    identity::helpers::find_writer(&host, &caller, true).map(|(writer, _)| (writer, false)).map_err(
        |obstacles| {
            let failed = Error::new("cannot write the ID mappings").because(
                "they are more than the caller's own user and group, and that takes newuidmap and newgidmap",
            );
            obstacles.into_iter().fold(failed, |error, obstacle| {
                let error = error.because(&obstacle.reason);
                match obstacle.mend {
                    Some(mend) => error.hint(mend),
                    None => error,
                }
            })
        },
    )
}
