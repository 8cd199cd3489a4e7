//! How the lives of a container end for its records: never begun, between two lives, and for good.

use crate::container::state::State;
use crate::container::sweep;
use crate::error::Error;
use crate::events::{Action, Event};
use crate::monitor::control;
use crate::monitor::run::Monitor;
use crate::sys::time::Utc;

impl Monitor<'_> {
    /// Ends what is left of a life; what happened to it that its command did not do.
    pub(super) fn let_life_go(&mut self) -> Option<String> {
        let mut life = self.life.take()?;
        life.end_guard();
        sweep::remove_runtime(&self.own_runtime);
        life.trouble.take()
    }

    pub(super) fn write_state(&self, code: i32, error: Option<String>, now: Utc) {
        if self.spec.remove_on_exit {
            return;
        }
        if let Err(error) = self.store.write_state(&self.spec.id, &self.ended(code, error, now)) {
            ::log::debug!("{error}");
        }
    }

    fn ended(&self, code: i32, error: Option<String>, now: Utc) -> State {
        State {
            started_at: self.record.started_at,
            finished_at: Some(now),
            exit_code: code,
            error,
            restarts: self.record.restarts,
            oom_killed: self.oom_killed,
            stopped_by_user: self.asked.by_user(),
        }
    }

    /// The first life never began: the container stays as it was, or goes with `--rm`.
    pub(super) fn never_started(&mut self, error: &Error) {
        sweep::remove_runtime(&self.own_runtime);
        self.close_socket();
        let put_away = if self.spec.remove_on_exit {
            sweep::erase(self.store, self.spec, None)
        } else {
            let recorded = || self.store.read_state(&self.spec.id).unwrap_or_default();
            let before = self.before.take().unwrap_or_else(recorded);
            // How an earlier life ended stays known.
            let exit_code = before.started_at.map_or(error.code().into(), |_| before.exit_code);
            let never = State { exit_code, error: Some(error.to_string()), ..before };
            self.store.write_state(&self.spec.id, &never)
        };
        match put_away {
            Ok(()) => self.claim.release(),
            // The next command tries again: the lock is free when this process ends.
            Err(left) => ::log::debug!("{left}"),
        }
        self.sessions.failed(error);
    }

    /// A later life did not begin; the exit code that stands for it.
    pub(super) fn failed_again(&mut self, error: &Error) -> i32 {
        self.sessions.not_started(error);
        self.write_state(error.code().into(), Some(error.to_string()), Utc::now());
        error.code().into()
    }

    pub(super) fn down_after_rest(&mut self, code: i32) {
        self.write_state(code, None, self.record.restarting.map_or_else(Utc::now, |down| down.since));
        self.close_socket();
        if self.spec.remove_on_exit {
            match sweep::erase(self.store, self.spec, None) {
                Ok(()) => self.claim.release(),
                Err(left) => ::log::debug!("{left}"),
            }
            self.tell(Event::container(Action::Remove, self.spec));
        } else {
            self.claim.release();
        }
        drop(self.sessions.ended(code, None, true));
    }

    /// The last life has ended.
    pub(super) fn down(&mut self, code: i32) {
        let spec = self.spec;
        // Network file systems keep a removed file for as long as it is open, and its directory with it.
        self.log = None;
        // Its name is forgotten with it.
        let removed = self.named(Event::container(Action::Remove, spec));
        if spec.remove_on_exit && sweep::is_husk(spec, self.directory) && self.store.retire(&spec.id).is_ok()
        {
            // Nobody finds the container any more: what is left of it is nothing to wait for. The caller may unmount
            // the file system that it was called in.
            let _ = rustix::process::chdir("/");
            let trouble = self.life.as_mut().and_then(|life| life.trouble.take());
            let told = self.sessions.ended(code, trouble.as_deref(), true);
            if let Some(life) = &mut self.life {
                // The kernel takes its time over the last mounts, and the client over its own end.
                life.sandbox.namespaces = None;
            }
            drop(told);
            self.close_socket();
            sweep::remove_runtime(&self.own_runtime);
            if let Some(life) = &mut self.life {
                life.end_guard();
            }
            let userns = self.life.as_ref().map(|life| &life.sandbox.userns);
            match sweep::erase_retired(self.store, spec, userns) {
                Ok(()) => self.claim.release(),
                Err(left) => ::log::debug!("{left}"),
            }
            self.tell(removed);
            return;
        }
        self.close_socket();
        sweep::remove_runtime(&self.own_runtime);
        if let Some(life) = &mut self.life {
            life.sandbox.namespaces = None;
            life.end_guard();
        }
        let trouble = self.life.as_mut().and_then(|life| life.trouble.take());
        let recorded = if spec.remove_on_exit {
            sweep::erase(self.store, spec, self.life.as_ref().map(|life| &life.sandbox.userns))
        } else {
            self.store.write_state(&spec.id, &self.ended(code, trouble.clone(), Utc::now()))
        };
        if recorded.is_ok() || !spec.remove_on_exit {
            self.claim.release();
        }
        if spec.remove_on_exit {
            self.tell(removed);
        }
        let trouble = trouble.or_else(|| recorded.err().map(|error| error.to_string()));
        drop(self.sessions.ended(code, trouble.as_deref(), true));
    }

    fn close_socket(&mut self) {
        if self.listener.take().is_some() {
            control::remove(self.runtime, &self.spec.id);
        }
    }
}
