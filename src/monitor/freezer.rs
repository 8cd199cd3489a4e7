//! `sbx pause` and `sbx unpause`: the container's cgroup is frozen, or goes on.

use std::os::fd::{AsFd, OwnedFd};

use crate::container::control_group::{self, ControlGroup};
use crate::error::{Error, Result, Step};
use crate::events::{Action, Event};
use crate::monitor::message::ToClient;
use crate::monitor::run::Monitor;

impl Monitor<'_> {
    pub(super) fn pause(&mut self, session: u64) {
        match self.freeze() {
            Ok(events) => {
                if let Some(client) = self.sessions.get(session) {
                    client.tell_with(&ToClient::Done, events.as_fd());
                }
                self.sessions.remove(session);
            }
            Err(error) => self.sessions.dismiss(session, &ToClient::Failed(error)),
        }
    }

    pub(super) fn unpause(&mut self, session: u64) {
        let answer = match self.go_on() {
            Ok(()) => ToClient::Done,
            Err(error) => ToClient::Failed(error),
        };
        self.sessions.dismiss(session, &answer);
    }

    /// Nobody waits for this to be over: a process that the kernel is busy with may take its time.
    fn freeze(&mut self) -> Result<OwnedFd> {
        if self.record.paused {
            return Err(Error::new(format!("container {} is paused already", self.spec.name)));
        }
        let failed = || "the kernel does not freeze it";
        let group = self.group()?;
        let events = group.events().step(failed)?;
        group.freeze(true).step(failed)?;
        self.record_paused(true);
        Ok(events)
    }

    fn go_on(&mut self) -> Result<()> {
        if !self.record.paused {
            return Err(Error::new(format!("container {} is not paused", self.spec.name)));
        }
        self.group()?.freeze(false).step(|| "the kernel does not let it go on")?;
        self.record_paused(false);
        Ok(())
    }

    /// Before whatever a frozen container could not do.
    pub(super) fn let_go_on(&mut self) {
        if self.record.paused
            && let Err(error) = self.go_on()
        {
            ::log::debug!("{error}");
        }
    }

    fn group(&self) -> Result<&ControlGroup> {
        let down = || {
            Error::new(format!("container {} is down", self.spec.name))
                .because("its restart policy will start it again")
        };
        let life = self.life.as_ref().ok_or_else(down)?;
        life.sandbox.cgroup.as_ref().ok_or_else(|| control_group::none_error(&self.spec.name))
    }

    fn record_paused(&mut self, paused: bool) {
        self.record.paused = paused;
        if let Err(error) = self.claim.record(&self.record) {
            ::log::debug!("{error}");
        }
        let action = if paused { Action::Pause } else { Action::Unpause };
        self.tell(Event::container(action, self.spec));
    }
}
