//! Who the container's users are: `--userns` and its like, other containers' namespaces, and the notices
//! that go with what was decided.

use std::path::{Path, PathBuf};

use super::{Names, Place};
use crate::cli::container_options::ContainerOptions;
use crate::container::capabilities::Capability;
use crate::container::namespace::Containers;
use crate::container::spec::{Account, Driver, Mount, Namespace, Namespaces, Root, Security};
use crate::container::store::Store;
use crate::container::user;
use crate::error::{Error, Result};
use crate::identity::{self, Caller, Host, Identity, Tier, Userns};
use crate::image::Source;
use crate::layers;
use crate::layers::stack::Stack;

/// Decides the user namespace, and says what it costs in `degraded`.
///
/// # Errors
/// What `--userns` and its like ask for and this host, or the other flags, do not allow.
pub(super) fn decide(
    options: &ContainerOptions,
    source: &Source,
    user: Option<&str>,
    place: &Place<'_>,
    namespaces: &Namespaces,
    degraded: &mut Vec<String>,
) -> Result<(Identity, Account)> {
    let host = Host::system();
    let caller = Caller::current(&host)?;
    let in_use = match &options.userns {
        Some(Userns::Auto(_)) => blocks_in_use(place.store),
        _ => Vec::new(),
    };
    let image_user = match &options.userns {
        Some(Userns::ImageUser) => image_user(source, user, place.store)?,
        _ => None,
    };
    let request = identity::Request {
        tier: options.id_tier,
        userns: options.userns.clone(),
        uid_maps: options.uidmap.clone(),
        gid_maps: options.gidmap.clone(),
        image_user,
        in_use,
    };
    let mut identity = identity::plan_on(&host, &request, &caller)?;
    join_users_of(&mut identity, options, namespaces, &Names { store: place.store })?;
    stay_root_without_fuse(options, source, place.store, &mut identity, degraded);
    if identity.tier == Tier::Single && options.id_tier.is_none() {
        degraded.push(single_tier_notice(&identity));
    }
    let account = account(&identity, &caller);
    Ok((identity, account))
}

/// One line for all reasons; `sbx doctor` has the mends.
fn single_tier_notice(identity: &Identity) -> String {
    format!(
        "one user and one group are mapped, and files of others are stored as the caller's: {} (`sbx doctor` tells \
         how to mend it)",
        identity.notes.join("; ")
    )
}

/// Root's default is a range of its own below the canonical map, for which layers need fuse-overlayfs; where
/// that is missing, root is root outside, too, as it is without a range.
fn stay_root_without_fuse(
    options: &ContainerOptions,
    source: &Source,
    store: &Store,
    identity: &mut Identity,
    degraded: &mut Vec<String>,
) {
    let asked = options.userns.is_some() || !options.uidmap.is_empty() || !options.gidmap.is_empty();
    let stacked = !matches!(source, Source::WritableDirectory(_));
    if asked || identity.nested.is_none() || !stacked {
        return;
    }
    if let Err(missing) = layers::fuse_overlayfs::usable(store.root()) {
        identity.nested = None;
        degraded.push(format!(
            "root's subordinate range is not used, and files that root inside makes are root's outside: {}",
            missing.causes().join(": ")
        ));
    }
}

/// How the container's account files would name the caller.
fn account(identity: &Identity, caller: &Caller) -> Account {
    let uid = match identity.join {
        None => identity.host_uid_map().to_container(caller.uid),
        Some(_) => None,
    };
    let home = crate::host::paths::home(&crate::host::paths::Surroundings::current()).ok();
    Account { uid, name: caller.user_name.clone(), home, ..Account::default() }
}

/// A namespace of another container belongs to that container's user namespace, which has to be entered.
fn join_users_of(
    identity: &mut Identity,
    options: &ContainerOptions,
    namespaces: &Namespaces,
    names: &Names<'_>,
) -> Result<()> {
    let mut all = [&namespaces.pid, &namespaces.ipc, &namespaces.uts, &namespaces.net, &namespaces.cgroup]
        .into_iter()
        .filter(|namespace| matches!(namespace, Namespace::Container(_)));
    let joined = all.next();
    if all.any(|other| Some(other) != joined) {
        return Err(Error::new("cannot join namespaces of two containers")
            .because("the namespaces of a container belong to its user namespace, and there is one to be in")
            .hint("name the same container in each of the flags"));
    }
    if let Some(Namespace::Container(word)) = &identity.join {
        identity.join = Some(Namespace::Container(names.running(word)?));
    }
    let Some(joined) = joined else { return Ok(()) };
    match &identity.join {
        Some(own) if own == joined => Ok(()),
        None if options.userns.is_none() && options.uidmap.is_empty() && options.gidmap.is_empty() => {
            identity.join = Some(joined.clone());
            identity.nested = None;
            Ok(())
        }
        _ => Err(Error::new("cannot join a container's namespace with a user namespace of another kind")
            .because("the namespaces of a container belong to its user namespace")
            .hint("leave out `--userns`, `--uidmap` and `--gidmap`")),
    }
}

/// The blocks of IDs that containers with `--userns auto` have for themselves.
fn blocks_in_use(store: &Store) -> Vec<(u32, u32)> {
    store
        .running_ids()
        .iter()
        .filter_map(|id| store.read_spec(id).ok())
        .filter(|spec| spec.identity.exclusive)
        .filter_map(|spec| spec.identity.nested.map(|nested| nested.blocks()))
        .flatten()
        .collect()
}

/// The user that the container will have, in numbers, looked up before anything is mounted.
fn image_user(source: &Source, name: Option<&str>, store: &Store) -> Result<Option<(u32, u32)>> {
    let lowers = match source {
        Source::Host => vec![PathBuf::from("/")],
        Source::Directories(lowers) => lowers.clone(),
        Source::WritableDirectory(path) => vec![path.clone()],
        Source::Image(image) => layers::unpacked(store.root(), &image.key, &image.stacked.layers),
    };
    let stack = Stack::open(&lowers)?;
    let read = |path| stack.read(Path::new(path), user::MAX_FILE as u64 + 1).unwrap_or_default();
    let resolved = user::resolve(name, &[], &read("/etc/passwd"), &read("/etc/group"), None)?;
    Ok(Some((resolved.uid, resolved.gid)))
}

/// Files of /proc and /sys look at the user ID alone: covers that can be taken off protect nothing from the host's
/// own root.
pub(super) fn powers_of_the_host(identity: &Identity, security: &Security) -> Option<String> {
    let uncovered = !security.read_only_paths.iter().any(|path| path == Path::new("/proc/sys"))
        || security.capabilities.contains(Capability::SYS_ADMIN);
    let root_of_the_host =
        identity.host_uid_map().to_host(0) == Some(0) && rustix::process::getuid().is_root();
    (uncovered && root_of_the_host).then(|| {
        "root in the container is root of the host by its ID and can change the settings of the host's kernel: give \
         root subordinate IDs (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 root`), or leave out \
         `--privileged`, SYS_ADMIN and unmasked paths"
            .to_owned()
    })
}

/// With the host's processes in sight, who may trace those of its own user namespace could trace the server of
/// the root, and that stands in the host's file system. With a namespace of its own, of the same IDs, it is in
/// the one above.
pub(super) fn keep_the_root_server_out_of_reach(
    root: &Root,
    namespaces: &Namespaces,
    security: &Security,
    identity: &mut Identity,
) {
    let served = root.driver() == Some(Driver::FuseOverlayfs);
    let one_namespace = identity.nested.is_none() && identity.join.is_none();
    let may_trace = security.capabilities.contains(Capability::SYS_PTRACE);
    if served && one_namespace && namespaces.pid == Namespace::Host && may_trace {
        let same = |map: &identity::IdMap| {
            let lines = map.0.iter().map(|line| identity::MapLine { outside: line.inside, ..*line });
            identity::IdMap(lines.collect())
        };
        identity.nested =
            Some(identity::NestedMaps { uid_map: same(&identity.uid_map), gid_map: same(&identity.gid_map) });
    }
}

/// `-v SOURCE:TARGET:O` keeps changes beside the container, in a directory of the caller's.
///
/// # Errors
/// A map without the caller: nobody inside could write there.
pub(super) fn check_overlays(identity: &Identity, mounts: &[Mount]) -> Result<()> {
    let caller = rustix::process::getuid().as_raw();
    let there = identity.join.is_some() || identity.host_uid_map().to_container(caller).is_some();
    let overlay = mounts.iter().find(|mount| mount.kind.bind().is_some_and(|bind| bind.overlay));
    match overlay {
        Some(mount) if !there => {
            Err(Error::new(format!("cannot mount on `{}` with the option `O`", mount.target.display()))
                .because("the layer for its changes is yours, and the container's map leaves you out")
                .hint("use `--userns keep-id` or leave out `--userns`, or leave out `O`"))
        }
        _ => Ok(()),
    }
}
