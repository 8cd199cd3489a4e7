//! The containers of a store as they are now: who runs is asked of the kernel, the rest is read.

use crate::container::process::{ProcessRef, boot_id};
use crate::container::spec::Spec;
use crate::container::state::LOST;
use crate::container::store::Store;

/// What a container is doing. Times are seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its monitor lives and has not yet let the command go.
    Created,
    Running {
        since: u64,
        pid: i32,
    },
    Exited {
        code: i32,
        at: Option<u64>,
    },
    /// Its spec is missing or damaged: all that can be done is to remove it.
    Dead,
}

/// One container.
pub struct Listed {
    pub id: String,
    pub status: Status,
    /// None for [`Status::Dead`].
    pub spec: Option<Spec>,
}

/// All containers of the store, the newest first.
pub fn all(store: &Store) -> Vec<Listed> {
    let boot = boot_id();
    let mut listed: Vec<Listed> = store.ids().into_iter().filter_map(|id| look(store, id, &boot)).collect();
    listed.sort_by_key(|container| std::cmp::Reverse(container.spec.as_ref().map(|spec| spec.created)));
    listed
}

/// One container of the store.
pub fn one(store: &Store, id: &str) -> Option<Listed> {
    look(store, id.to_owned(), &boot_id())
}

fn look(store: &Store, id: String, boot: &str) -> Option<Listed> {
    let (record, other) = match store.record_of(&id) {
        Some(record) if record.visit => (None, None),
        Some(record) if record.boot_id != boot => (None, Some(record)),
        record => (record, None),
    };
    // Of another boot, or of another machine that has the store, too: there alone its processes can be seen.
    let elsewhere = other.and_then(|record| record.started_at).filter(|_| store.is_looked_after(&id));
    let served = record.as_ref().is_some_and(|record| record.monitor.is_some_and(ProcessRef::is_alive));
    let Ok(spec) = store.read_spec(&id) else {
        // One that is being made, or was just removed, has no spec either.
        let half = served || record.is_some_and(|record| record.started_at.is_none());
        let there = store.directory(&id).path().exists();
        return (there && !half).then_some(Listed { id, status: Status::Dead, spec: None });
    };
    let record = record.unwrap_or_default();
    let status = match (record.started_at, record.init) {
        (Some(since), Some(init)) if served && init.is_alive() => Status::Running { since, pid: init.pid },
        (None, _) if served => Status::Created,
        _ if elsewhere.is_some() => Status::Running { since: elsewhere.unwrap_or_default(), pid: 0 },
        _ => match store.read_state(&id) {
            Some(state) => Status::Exited { code: state.exit_code, at: state.finished_at },
            None => Status::Exited { code: LOST, at: None },
        },
    };
    Some(Listed { id, status, spec: Some(spec) })
}
