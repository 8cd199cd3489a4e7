//! Putting in order what a killed monitor left: its processes end, its container is removed or exited.

use std::path::Path;
use std::time::Duration;

use crate::container::process::{boot_id, kill_user_namespace};
use crate::container::spec::{Namespace, Spec};
use crate::container::state::State;
use crate::container::store::{Claim, Running, Store};
use crate::error::{Result, Step};
use crate::layers::remove;

const PATIENCE: Duration = Duration::from_secs(5);

/// The exit code of a container that was lost: killed.
const LOST: i32 = 128 + libc::SIGKILL;

/// Looks at every container that is marked as running and puts those in order that nobody looks after, with
/// their parts of the user's directory `runtime`. Cheap when there are none: one lock attempt for each container
/// that does run. Says how many there were.
pub fn sweep(store: &Store, runtime: &Path) -> usize {
    let mut abandoned = 0;
    for id in store.running_ids() {
        let Some(claim) = store.claim_abandoned(&id) else { continue };
        abandoned += 1;
        if let Err(error) = put_in_order(store, runtime, &id, &claim) {
            log::warn!("cannot clean up after container {}: {error}", id.get(..12).unwrap_or(&id));
        }
    }
    abandoned
}

fn put_in_order(store: &Store, runtime: &Path, id: &str, claim: &Claim) -> Result<()> {
    let record = claim.recorded();
    let spec = store.read_spec(id).ok();
    if record.boot_id == boot_id() {
        end_processes(&record, spec.as_ref());
    }
    let _ = std::fs::remove_dir_all(runtime.join(id));
    match spec {
        Some(spec) if record.started_at.is_some() && !spec.remove_on_exit => {
            let finished = store.directory(id).log().metadata().and_then(|log| log.modified()).ok();
            store.write_state(
                id,
                &State {
                    started_at: record.started_at,
                    finished_at: finished
                        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
                        .map(|time| time.as_secs()),
                    exit_code: LOST,
                    error: Some("the monitor of the container was killed".to_owned()),
                },
            )?;
        }
        Some(spec) => erase(store, &spec, None)?,
        // Killed before the spec was written: nothing but the caller's own empty directories.
        None => {
            let _ = std::fs::remove_dir_all(store.directory(id).path());
        }
    }
    claim.release();
    Ok(())
}

fn end_processes(record: &Running, spec: Option<&Spec>) {
    for process in record.init.iter().chain(&record.servers) {
        process.kill(PATIENCE);
    }
    let shared_pids = spec.is_some_and(|spec| spec.namespaces.pid != Namespace::Private);
    if shared_pids && record.userns != 0 {
        kill_user_namespace(record.userns);
    }
}

/// Removes a container's directory and name. `userns` is its canonical user namespace, where it still lives.
pub fn erase(store: &Store, spec: &Spec, userns: Option<&std::fs::File>) -> Result<()> {
    let directory = store.directory(&spec.id);
    // The spec goes last: it says how to remove the rest.
    for part in [directory.work(), directory.upper(), directory.mount_scratch()] {
        remove::tree(&part, &spec.identity, userns)?;
    }
    match std::fs::remove_dir_all(directory.path()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).step(|| format!("cannot remove `{}`", directory.path().display()));
        }
        _ => {}
    }
    store.release_name(&spec.name, &spec.id);
    Ok(())
}
