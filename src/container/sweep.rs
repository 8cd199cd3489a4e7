//! Putting in order what killed processes of sbx left: what still runs ends, and the container is removed or
//! exited.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::container::control_group;
use crate::container::directory::ContainerDirectory;
use crate::container::process::{ProcessRef, boot_id, kill_orphans_of_user_namespace};
use crate::container::scratch;
use crate::container::spec::{Namespace, Spec};
use crate::container::state::State;
use crate::container::store::{Claim, Running, Store, short};
use crate::error::{Error, Result};
use crate::events::{self, Action, Event};
use crate::host::overlay;
use crate::identity::{self, Caller, Host};
use crate::layers::remove;
use crate::monitor::control;
use crate::network;
use crate::sys::time::Utc;
use crate::volume::{VolumeStore, removal};

/// Attempts to remove a directory in which files are that were just closed, every 10 ms.
const LATE_CLOSES: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at every container that is marked as running and puts those in order that nobody looks after; says
/// how many there were. Cheap when there are none: one lock attempt for each container that does run.
///
/// `runtime` is the user's runtime directory.
pub fn sweep(store: &Store, runtime: &Path) -> usize {
    let mut abandoned = 0;
    for id in store.running_ids() {
        let Some(claim) = store.claim_abandoned(&id) else { continue };
        abandoned += 1;
        if let Err(error) = put_in_order(store, &id, &claim, runtime) {
            log::warn!("cannot clean up after container {}: {error}", short(&id));
        }
    }
    VolumeStore::of(store).sweep();
    overlay::remove_abandoned_trials(store.root());
    scratch::remove_orphans(store.root(), canonical_identity, |id| store.has_traces(id));
    for prefix in ["overlay.json.", "storage.json."] {
        remove_unfinished(&store.root().join("cache"), prefix, "");
    }
    remove_unfinished(runtime, "helpers.", ".new");
    abandoned
}

/// The same for one container.
pub fn put_in_order_if_abandoned(store: &Store, id: &str, runtime: &Path) {
    if let Some(claim) = store.claim_abandoned(id)
        && let Err(error) = put_in_order(store, id, &claim, runtime)
    {
        log::warn!("cannot clean up after container {}: {error}", short(id));
    }
}

/// Removes what a process was writing when it was killed: files with its PID in their names.
fn remove_unfinished(directory: &Path, prefix: &str, suffix: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer =
            name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok());
        if writer.is_some_and(|pid: u32| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn put_in_order(store: &Store, id: &str, claim: &Claim, runtime: &Path) -> Result<()> {
    let record = claim.recorded();
    let spec = store.read_spec(id);
    if record.boot_id == boot_id() {
        end_processes(store, id, &record, spec.as_ref().ok());
    }
    if let Some(cgroup) = record.cgroup.as_deref().filter(|_| record.boot_id == boot_id()) {
        control_group::remove(id, cgroup);
    }
    remove_runtime(&runtime.join(id));
    control::remove(runtime, id);
    if let Some(own) = record.runtime.filter(|own| own.ends_with(id)) {
        remove_runtime(&own);
    }
    if record.visit {
        claim.release();
        return Ok(());
    }
    match spec {
        Ok(spec) if record.removing || spec.remove_on_exit => {
            if record.removing_volumes {
                removal::remove_anonymous(store, &spec, None)?;
            }
            erase(store, &spec, None)?;
        }
        // What it was before: never started, or ended, and killed before it started again.
        Ok(_) if record.started_at.is_none() || record.restarting.is_some() => {}
        Ok(_) => {
            let finished = store.directory(id).log().metadata().and_then(|log| log.modified()).ok();
            let state = State {
                finished_at: Some(finished.map_or_else(Utc::now, Utc::from)),
                ..State::lost(record.started_at, record.restarts)
            };
            if let Err(error) = store.write_state(id, &state) {
                // The monitor has written what matters when the container started.
                log::debug!("{error}");
            }
        }
        // What it holds may be dear to somebody, also where a start was killed; `sbx rm` removes it. Without a spec it
        // was being made or removed.
        Err(damage) if !record.removing && store.directory(id).spec().symlink_metadata().is_ok() => {
            log::warn!("{damage}");
        }
        Err(_) => {
            let unwritten = store.directory(id).spec().symlink_metadata().is_err();
            if unwritten && !record.removing {
                removal::remove_made_for(store, id)?;
            }
            erase_unknown(store, id)?;
        }
    }
    claim.release();
    Ok(())
}

fn end_processes(store: &Store, id: &str, record: &Running, spec: Option<&Spec>) {
    for process in record.init.iter().chain(&record.servers) {
        process.kill(PATIENCE);
    }
    let shared_pids = spec.is_none_or(|spec| spec.namespaces.pid != Namespace::Private);
    if shared_pids && record.userns != 0 && !is_anothers(store, id, record.userns) {
        kill_orphans_of_user_namespace(record.userns);
    }
}

/// Whether another container has the user namespace of this number now: the kernel gives the numbers of those
/// that are gone to new ones.
fn is_anothers(store: &Store, id: &str, userns: u64) -> bool {
    let others = store.running_ids().into_iter().filter(|other| other != id);
    others
        .filter_map(|other| store.record_of(&other))
        .any(|other| other.userns == userns && other.init.is_some_and(ProcessRef::is_alive))
}

/// The container's part of the runtime directory: file by file, since a record may be wrong about where it is.
pub fn remove_runtime(directory: &Path) {
    let _ = fs::remove_file(directory.join(network::API_SOCKET));
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::debug!("cannot remove `{}`: {error}", directory.display());
        }
        _ => {}
    }
}

/// Removes a container's directory and name. `userns` is its canonical user namespace, where it still lives.
///
/// # Errors
/// What could not be removed; the same call again goes on.
pub fn erase(store: &Store, spec: &Spec, userns: Option<&fs::File>) -> Result<()> {
    let directory = store.directory_of(spec);
    erase_as(&directory, &spec.identity, userns)?;
    erase_scratch(spec, userns)?;
    if spec.remove_on_exit {
        removal::remove_anonymous(store, spec, userns)?;
    }
    release_names(store, spec, &directory);
    erase_rest(&directory)
}

/// Whether nothing that the container wrote is in its directory: what is left takes no room to speak of, and the
/// caller may remove it without a user namespace.
pub fn is_husk(spec: &Spec, directory: &ContainerDirectory) -> bool {
    // Which volumes go with it stands in the spec, that nobody finds once the directory is put away.
    if spec.has_anonymous_volumes() {
        return false;
    }
    let empty = |part: std::path::PathBuf| match fs::read_dir(part) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    empty(directory.upper()) && empty(directory.mount_scratch())
}

/// Removes what [`Store::retire`] has put away, and the name that led to it.
///
/// # Errors
/// As [`erase`].
pub fn erase_retired(store: &Store, spec: &Spec, userns: Option<&fs::File>) -> Result<()> {
    let directory = store.retired(&spec.id);
    release_names(store, spec, &directory);
    erase_as(&directory, &spec.identity, userns)?;
    erase_scratch(spec, userns)?;
    erase_rest(&directory)
}

/// A monitor knows the name that its container had at the start alone.
fn release_names(store: &Store, spec: &Spec, directory: &ContainerDirectory) {
    if directory.settings().exists() {
        store.release_names_of(&spec.id);
    } else {
        store.release_name(&spec.name, &spec.id);
    }
}

/// That of a container about which nothing is known.
fn canonical_identity() -> Result<identity::Identity> {
    let host = Host::system();
    identity::plan_on(&host, &identity::Request::default(), &Caller::current(&host)?)
}

fn erase_scratch(spec: &Spec, userns: Option<&fs::File>) -> Result<()> {
    match &spec.scratch {
        Some(scratch) => scratch::remove(&scratch.join(&spec.id), &spec.identity, userns),
        None => Ok(()),
    }
}

/// The same without a spec: whose the files are is decided as for a new container.
///
/// # Errors
/// As [`erase`].
pub fn erase_unknown(store: &Store, id: &str) -> Result<()> {
    store.release_names_of(id);
    for directory in [store.directory(id), store.retired(id)] {
        if erase_rest(&directory).is_err() {
            erase_as(&directory, &canonical_identity()?, None)?;
            erase_rest(&directory)?;
        }
    }
    Ok(())
}

fn erase_as(
    directory: &ContainerDirectory,
    identity: &identity::Identity,
    userns: Option<&fs::File>,
) -> Result<()> {
    if directory.path().is_symlink() {
        // Whatever it leads to is not ours.
        return Ok(());
    }
    // The spec goes last: it says how to remove the rest.
    remove::trees([directory.work(), directory.upper(), directory.mount_scratch()], identity, userns)
}

fn erase_rest(directory: &ContainerDirectory) -> Result<()> {
    let mut removed = remove::own(directory.path());
    // File systems with a server hide files that somebody still has open, and learn only later that they are closed.
    for _ in 0..LATE_CLOSES {
        if !removed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::DirectoryNotEmpty) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        removed = remove::own(directory.path());
    }
    removed.map_err(|error| remove::failed(directory.path(), &error))
}

/// The exit code of [`remove_stopped`] where the container runs (podman-rm(1), Exit Status).
pub const RUNNING: u8 = 2;

/// Removes a container that does not run, with all that is its own.
///
/// # Errors
/// It runs (with the exit code [`RUNNING`]), or something of it cannot be removed.
pub fn remove_stopped(store: &Store, id: &str, runtime: &Path) -> Result<()> {
    remove_stopped_and(store, id, runtime, Volumes::Stay)
}

/// What becomes of the anonymous volumes of a container that is removed. With `--rm` they go always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volumes {
    Stay,
    Go,
}

/// As [`remove_stopped`].
///
/// # Errors
/// As [`remove_stopped`].
pub fn remove_stopped_and(store: &Store, id: &str, runtime: &Path, volumes: Volumes) -> Result<()> {
    let running = || Error::new("it is running").exit_code(RUNNING);
    // Killed between here and the end, the next command goes on.
    let claim = match store.claim_stopped(id) {
        Ok(claim) => Some(claim.ok_or_else(running)?),
        // A full disk is no reason to keep what fills it.
        Err(error) => {
            log::debug!("{error}");
            None
        }
    };
    if let Some(claim) = &claim {
        let record = claim.recorded();
        if record.boot_id == boot_id() {
            end_processes(store, id, &record, store.read_spec(id).ok().as_ref());
        }
        let removing_volumes = volumes == Volumes::Go;
        if let Err(error) = claim.record(&Running { removing: true, removing_volumes, ..Running::default() })
        {
            log::debug!("{error}");
        }
    }
    control::remove(runtime, id);
    remove_runtime(&runtime.join(id));
    match store.read_spec(id) {
        Ok(spec) => {
            if volumes == Volumes::Go {
                removal::remove_anonymous(store, &spec, None)?;
            }
            erase(store, &spec, None)?;
            events::record(store.root(), runtime, Event::container(Action::Remove, &spec));
        }
        Err(_) => erase_unknown(store, id)?,
    }
    if let Some(claim) = claim {
        claim.release();
    }
    Ok(())
}
