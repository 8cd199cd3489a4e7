//! The files that a container finds in /etc, made before it starts.

use std::fs;
use std::path::Path;

use crate::container::directory::ContainerDirectory;
use crate::container::links;
use crate::container::spec::{MountKind, Namespace, Spec};
use crate::container::store::{Store, no_room};
use crate::error::{Result, Step};
use crate::network;
use crate::network::bridge::Endpoint;
use crate::network::named::NamedNetworks;
use crate::volume::VolumeDirectory;

/// Writes resolv.conf, hosts and hostname, or takes those of the container whose network is shared. The
/// container's part of the runtime directory is made where a network helper needs it. `endpoints`: where it is in its
/// bridge networks.
pub fn write(
    store: &Store,
    spec: &Spec,
    directory: &ContainerDirectory,
    runtime: &Path,
    endpoints: &[Endpoint],
) -> Result<()> {
    overlay_volumes(spec, directory)?;
    if let Some(timezone) = &spec.timezone {
        let path = directory.localtime();
        fs::write(&path, timezone.read()?)
            .map_err(|error| no_room(error, format!("cannot write `{}`", path.display())))?;
    }
    if let Namespace::Container(other) = &spec.namespaces.net {
        let theirs = store.directory(other).generated_files();
        for ((own, _), (shared, _)) in directory.generated_files().iter().zip(theirs) {
            if shared.exists() {
                fs::copy(&shared, own)
                    .map_err(|error| no_room(error, format!("cannot write `{}`", own.display())))?;
            }
        }
        return Ok(());
    }
    network::named::still_there(store, &spec.network)?;
    if matches!(spec.network.mode, network::Mode::Slirp4netns(_) | network::Mode::Pasta(_)) {
        crate::host::paths::create_runtime(runtime, rustix::process::getuid().as_raw())?;
        let own = runtime.join(&spec.id);
        fs::create_dir(&own).step(|| format!("cannot make `{}`", own.display()))?;
    }
    generate(store, spec, directory, runtime, endpoints)
}

/// resolv.conf, hosts and hostname, in place: where the container runs, they are mounted.
///
/// # Errors
/// They cannot be written.
pub fn generate(
    store: &Store,
    spec: &Spec,
    directory: &ContainerDirectory,
    runtime: &Path,
    endpoints: &[Endpoint],
) -> Result<()> {
    let networks = NamedNetworks::new(store.root());
    let mut host_loopback = false;
    for endpoint in endpoints {
        host_loopback |=
            networks.named(&endpoint.network_name)?.is_some_and(|network| network.allows_host_loopback());
    }
    let hostname = spec.hostname.as_deref().unwrap_or_default();
    let cache = network::cache(runtime);
    let links = links::hosts(store, spec)?;
    let bridges = network::Bridges { endpoints, host_loopback, links: &links };
    // It may have been renamed since its monitor was started.
    let name = store.settings(&spec.id).name.unwrap_or_else(|| spec.name.clone());
    let files = network::files(&spec.network, hostname, &name, &cache, &bridges)?;
    let Some(files) = files else { return Ok(()) };
    let texts = [Some(files.resolv_conf), files.hosts, Some(files.hostname)];
    for ((path, _), text) in directory.generated_files().iter().zip(texts) {
        if let Some(text) = text {
            fs::write(path, text)
                .map_err(|error| no_room(error, format!("cannot write `{}`", path.display())))?;
        }
    }
    Ok(())
}

/// The uppers of `-v SOURCE:TARGET:O`: the caller's, as the sources are, and as open as those.
pub(crate) fn overlay_volumes(spec: &Spec, directory: &ContainerDirectory) -> Result<()> {
    for (number, mount) in spec.mounts.iter().enumerate() {
        let source = match &mount.kind {
            MountKind::Bind(bind) if bind.overlay => bind.source.clone(),
            MountKind::Volume(volume) if volume.bind.overlay => {
                VolumeDirectory::from(volume.directory.clone()).data()
            }
            _ => continue,
        };
        let scratch = directory.mount_scratch().join(number.to_string());
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        let failed = || format!("cannot make a layer for the changes to `{}`", source.display());
        fs::create_dir_all(&work).step(failed)?;
        fs::create_dir_all(&upper).step(failed)?;
        let mode = fs::metadata(&source).step(failed)?.permissions();
        fs::set_permissions(&upper, mode).step(failed)?;
    }
    Ok(())
}
