//! Parts of `HostConfig` and `GraphDriver`.

use serde_json::{Map, Value, json};

use crate::container::capabilities::CapSet;
use crate::container::restart::Restart;
use crate::container::rlimit;
use crate::container::spec::{MountKind, Namespace, Root, Seccomp, Spec};
use crate::container::store::Store;
use crate::image::store::ImageStore;
use crate::image::usage;

pub(super) fn restart_policy(spec: &Spec) -> Value {
    let most = match spec.restart {
        Restart::OnFailure(most) => most.unwrap_or(0),
        _ => 0,
    };
    json!({ "Name": spec.restart.name(), "MaximumRetryCount": most })
}

/// What was added to the default set, and what was dropped from it.
pub(super) fn capabilities(spec: &Spec) -> (Vec<String>, Vec<String>) {
    let own = spec.security.capabilities.names();
    let default = CapSet::from_add_drop(&[], &[], false).map(CapSet::names).unwrap_or_default();
    let without = |all: &[String], others: &[String]| -> Vec<String> {
        all.iter().filter(|name| !others.contains(name)).cloned().collect()
    };
    (without(&own, &default), without(&default, &own))
}

pub(super) fn devices(spec: &Spec) -> Vec<Value> {
    let device = |device: &crate::container::spec::Device| {
        json!({
            "PathOnHost": device.host.display().to_string(),
            "PathInContainer": device.container.display().to_string(),
            "CgroupPermissions": "",
        })
    };
    spec.devices.iter().map(device).collect()
}

/// -1 is unlimited.
pub(super) fn ulimits(spec: &Spec) -> Vec<Value> {
    let number = |limit: u64| i64::try_from(limit).unwrap_or(-1);
    let limits = spec.rlimits.iter().filter_map(|limit| {
        let name = rlimit::name(limit.resource)?;
        Some(json!({ "Name": name, "Soft": number(limit.soft), "Hard": number(limit.hard) }))
    });
    limits.collect()
}

pub(super) fn security_options(spec: &Spec) -> Vec<&'static str> {
    let mut options = Vec::new();
    if spec.security.no_new_privileges {
        options.push("no-new-privileges");
    }
    match spec.security.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined"),
        // The file it came from may have changed.
        Seccomp::Profile(_) => options.push("seccomp=profile"),
    }
    options
}

pub(super) fn tmpfs(spec: &Spec) -> Map<String, Value> {
    let each = spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Tmpfs { size, mode, .. } => {
            let size = size.map(|size| format!("size={size}"));
            let mode = mode.map(|mode| format!("mode={mode:o}"));
            let options = size.into_iter().chain(mode).collect::<Vec<_>>().join(",");
            Some((mount.target.display().to_string(), json!(options)))
        }
        _ => None,
    });
    each.collect()
}

/// podman's word: empty for the usual map.
pub(super) fn userns_mode(spec: &Spec) -> String {
    match (&spec.identity.join, &spec.identity.nested) {
        (Some(Namespace::Container(id)), _) => format!("container:{id}"),
        (Some(Namespace::Path(path)), _) => format!("ns:{}", path.display()),
        (_, Some(_)) => "private".to_owned(),
        _ => String::new(),
    }
}

/// The containers whose namespaces this one is in.
pub(super) fn dependencies(spec: &Spec) -> Vec<&str> {
    let namespaces = &spec.namespaces;
    let all = [&namespaces.pid, &namespaces.ipc, &namespaces.uts, &namespaces.net, &namespaces.cgroup];
    let mut ids: Vec<&str> = all
        .into_iter()
        .filter_map(|namespace| match namespace {
            Namespace::Container(id) => Some(id.as_str()),
            _ => None,
        })
        .chain(spec.requires.iter().map(String::as_str))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Where the layers lie, the topmost first, as docker's overlay2 names them.
pub(super) fn graph_driver(store: &Store, spec: &Spec) -> Value {
    let directory = store.directory_of(spec);
    let mut data = Map::new();
    if let Ok(located) = spec.located(store.root(), &store.directory(&spec.id))
        && let Root::Directories { lowers, .. } = &located.root
    {
        let lowers: Vec<String> = lowers.iter().rev().map(|path| path.display().to_string()).collect();
        data.insert("LowerDir".to_owned(), json!(lowers.join(":")));
    }
    if spec.bound_root().is_none() {
        data.insert("UpperDir".to_owned(), json!(directory.upper().display().to_string()));
        data.insert("WorkDir".to_owned(), json!(directory.work().display().to_string()));
    }
    json!({ "Name": super::driver(spec), "Data": data })
}

/// Bytes of the layers of the container's image; 0 where that is gone.
pub(super) fn image_size(store: &Store, spec: &Spec) -> u64 {
    let images = ImageStore::new(store.root());
    let image = usage::image_of(spec).and_then(|id| images.find(id.as_str()).ok().flatten());
    image.map_or(0, |image| images.layer_sizes(&image).into_iter().fold(0, u64::saturating_add))
}
