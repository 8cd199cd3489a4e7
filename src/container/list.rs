//! The containers of a store as they are now: who runs is asked of the kernel, the rest is read.

use crate::container::health::{self, Health};
use crate::container::process::{ProcessRef, boot_id};
use crate::container::spec::Spec;
use crate::container::state::{LOST, State};
use crate::container::store::Store;
use crate::network::bridge::Endpoint;
use crate::sys::time::Utc;

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It never ran, or is being set up for the first time.
    Created,
    Running {
        since: Utc,
        pid: i32,
    },
    /// Frozen by `sbx pause`.
    Paused {
        since: Utc,
        pid: i32,
    },
    /// It is down, and its monitor will start it again.
    Restarting {
        code: i32,
        at: Utc,
    },
    Exited {
        code: i32,
        at: Option<Utc>,
    },
    /// On its way out, or what a killed command left of that: the next one goes on.
    Removing,
    /// Its spec is missing or damaged: all that can be done is to remove it.
    Dead,
}

impl Status {
    /// The word that `ps`, `inspect` and filters have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Restarting { .. } => "restarting",
            Self::Exited { .. } => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// Whether its command runs, or is about to again.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. } | Self::Restarting { .. })
    }
}

/// One container.
pub struct Listed {
    pub id: String,
    pub status: Status,
    /// None for [`Status::Dead`].
    pub spec: Option<Spec>,
    /// How its last life ended, where one did.
    pub state: Option<State>,
    /// As its monitor found it last; none: it has no health check, or was never started.
    pub health: Option<Health>,
    /// Where it is in bridge networks while it runs.
    pub endpoints: Vec<Endpoint>,
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
    let removing = store.record_of(&id).is_some_and(|record| record.removing);
    let (record, other) = match store.record_of(&id) {
        Some(record) if record.visit => (None, None),
        Some(record) if record.boot_id != boot => (None, Some(record)),
        record => (record, None),
    };
    // Of another boot, or of another machine that has the store, too: there alone its processes can be seen.
    let elsewhere = other.and_then(|record| record.started_at).filter(|_| store.is_looked_after(&id));
    let served = record.as_ref().is_some_and(|record| record.monitor.is_some_and(ProcessRef::is_alive));
    let Ok(spec) = store.read_spec(&id) else {
        // One that is being made, or was just removed, has no spec either. Killed meanwhile, whatever its lock file says
        // by then, the next command puts it out of the way.
        let half = served || removing || store.is_locked_without_spec(&id);
        let there = store.directory(&id).path().exists();
        return (there && !half).then_some(Listed {
            id,
            status: Status::Dead,
            spec: None,
            state: None,
            health: None,
            endpoints: Vec::new(),
        });
    };
    let record = record.unwrap_or_default();
    let state = store.read_state(&id);
    let pid = record.init.map_or(0, |init| init.pid);
    // Its monitor has not yet written how it ended, or is about to let it go.
    let unfinished =
        state.as_ref().and_then(|state| state.started_at.filter(|_| state.finished_at.is_none()));
    let status = match (record.started_at, record.init, record.restarting) {
        _ if removing => Status::Removing,
        (_, _, Some(down)) if served => Status::Restarting { code: down.code, at: down.since },
        (Some(since), Some(init), _) if served && init.is_alive() => match record.paused {
            true => Status::Paused { since, pid },
            false => Status::Running { since, pid },
        },
        // Its first process has ended, and its monitor has not decided yet what follows.
        (Some(since), Some(init), _) if record.is_ending() => Status::Running { since, pid: init.pid },
        (started, ..) if served && (unfinished.is_some() || started.is_some() && state.is_none()) => {
            started.or(unfinished).map_or(Status::Created, |since| Status::Running { since, pid })
        }
        _ => match (elsewhere, &state) {
            (Some(since), _) => Status::Running { since, pid: 0 },
            (None, Some(State { started_at: Some(_), exit_code, finished_at, .. })) => {
                Status::Exited { code: *exit_code, at: *finished_at }
            }
            // One with `--rm` leaves no state; and where it is damaged nobody knows how it ended.
            (None, _) if record.started_at.is_some() => Status::Exited { code: LOST, at: None },
            (None, None) if store.directory(&id).state().exists() => Status::Exited { code: LOST, at: None },
            (None, _) => Status::Created,
        },
    };
    let health = spec.health.as_ref().and_then(|_| health::read(store, &id));
    let endpoints = match status {
        Status::Running { .. } | Status::Paused { .. } => record.endpoints,
        _ => Vec::new(),
    };
    Some(Listed { id, status, spec: Some(spec), state, health, endpoints })
}

impl Listed {
    /// What `ps` shows of the health of one that runs: `healthy`, `unhealthy`, `health: starting`; none: nothing.
    pub fn shown_health(&self) -> Option<&'static str> {
        let health = self
            .health
            .as_ref()
            .filter(|_| matches!(self.status, Status::Running { .. } | Status::Paused { .. }))?;
        Some(match health.status {
            health::Status::Starting => "health: starting",
            other => other.name(),
        })
    }
}
