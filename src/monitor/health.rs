//! Making the health checks of the container, one at a time, as its spec says.

use std::time::{Duration, Instant};

use crate::container::health::{self, Answer, Check, OnFailure, Status, TIMED_OUT};
use crate::container::spec::Process;
use crate::error::{Error, Result};
use crate::events::{Action, Event};
use crate::monitor::exec::Outcome;
use crate::monitor::message::ToClient;
use crate::monitor::run::{Asked, Monitor};
use crate::monitor::sessions::Role;
use crate::sandbox::enter::Entry;
use crate::sys::process::send_signal;
use crate::sys::time::Utc;

/// Of one life of the container.
pub(super) struct Health {
    known: health::Health,
    /// When to ask again.
    next: Option<Instant>,
    asking: Option<Asking>,
}

/// A check that is being made.
struct Asking {
    /// Of the process.
    number: u64,
    begun: Utc,
    until: Instant,
    timed_out: bool,
    /// Who waits for the answer.
    sessions: Vec<u64>,
}

impl Health {
    fn next_deadline(&self) -> Option<Instant> {
        match &self.asking {
            Some(asking) => (!asking.timed_out).then_some(asking.until),
            None => self.next,
        }
    }
}

impl Monitor<'_> {
    /// A life begins: the first check is made at once.
    pub(super) fn begin_health(&mut self) {
        self.health = self.spec.health.as_ref().map(|check| Health {
            known: health::Health::default(),
            next: (check.interval > 0).then(Instant::now),
            asking: None,
        });
        self.record_health();
    }

    /// The life has ended: nobody will answer.
    pub(super) fn end_health(&mut self) {
        let asking = self.health.take().and_then(|health| health.asking);
        for session in asking.map(|asking| asking.sessions).unwrap_or_default() {
            let error = Error::new("cannot check the container").because("it ended meanwhile");
            self.sessions.dismiss(session, &ToClient::Failed(error));
        }
        self.execs.take_outcomes();
    }

    pub(super) fn next_health(&self) -> Option<Instant> {
        // What is asked of a frozen container has no answer.
        self.health.as_ref().filter(|_| !self.record.paused).and_then(Health::next_deadline)
    }

    /// Takes answers, gives up what takes too long, and asks when it is time.
    pub(super) fn keep_health(&mut self) {
        let Some(check) = &self.spec.health else { return };
        for outcome in self.execs.take_outcomes() {
            self.answered(check, outcome);
        }
        if self.record.paused {
            return;
        }
        let now = Instant::now();
        let Some(health) = &mut self.health else { return };
        match &mut health.asking {
            Some(asking) if asking.until <= now && !asking.timed_out => {
                asking.timed_out = true;
                self.execs.kill(asking.number);
            }
            Some(_) => {}
            None if health.next.is_some_and(|next| next <= now) => self.ask(check, Vec::new()),
            None => {}
        }
    }

    /// `sbx healthcheck run`.
    pub(super) fn check_health(&mut self, session: u64) {
        let refused = |why: &str| ToClient::Failed(Error::new("cannot check the container").because(why));
        let Some(check) = &self.spec.health else {
            return self.sessions.dismiss(session, &refused("it has no health check"));
        };
        let (Some(health), Some(_)) = (&mut self.health, &self.life) else {
            return self.sessions.dismiss(session, &refused("it is not running"));
        };
        self.sessions.set_role(session, Role::Checker);
        match &mut health.asking {
            Some(asking) => asking.sessions.push(session),
            None => self.ask(check, vec![session]),
        }
    }

    fn ask(&mut self, check: &Check, sessions: Vec<u64>) {
        let begun = Utc::now();
        let process = Process {
            args: check.words(),
            account: None,
            terminal: false,
            stdin: false,
            ..self.spec.process.clone()
        };
        match self.start_own(Entry { process, privileged: false }, check.log_size) {
            Ok(number) => {
                let until = Instant::now() + check.timeout();
                let asking = Asking { number, begun, until, timed_out: false, sessions };
                if let Some(health) = &mut self.health {
                    health.asking = Some(asking);
                }
            }
            Err(error) => self.judge(check, begun, Err(error), &[], sessions),
        }
    }

    fn answered(&mut self, check: &Check, outcome: Outcome) {
        let is_asked = |asking: &mut Asking| asking.number == outcome.number;
        let Some(health) = &mut self.health else { return };
        let Some(asking) = health.asking.take_if(is_asked) else { return };
        let (code, output) = if asking.timed_out {
            let text = format!("Health check exceeded timeout ({:?})", check.timeout());
            (Ok(TIMED_OUT), text.into_bytes())
        } else {
            (outcome.code, outcome.output)
        };
        self.judge(check, asking.begun, code, &output, asking.sessions);
    }

    fn judge(&mut self, check: &Check, start: Utc, code: Result<i32>, output: &[u8], sessions: Vec<u64>) {
        let (exit_code, output) = match code {
            Ok(code) => (code, String::from_utf8_lossy(output).into_owned()),
            Err(error) => {
                let text: String = error.to_string().chars().take(check.log_size).collect();
                (error.code().into(), text)
            }
        };
        let answer = Answer { start, end: Utc::now(), exit_code, output };
        let up = self.life.as_ref().map_or(Duration::ZERO, |life| life.up());
        let Some(health) = &mut self.health else { return };
        let changed = health.known.take(answer, check, up);
        health.next = check.pause(&health.known, up).and_then(|pause| Instant::now().checked_add(pause));
        let status = health.known.status;
        self.record_health();
        let code = i32::from(exit_code != 0);
        for session in sessions {
            self.sessions.dismiss(session, &ToClient::Exited { code, error: None });
        }
        if changed.is_some() {
            // docker's one event for each change, with the state in its name.
            let event = Event::container(Action::HealthStatus, self.spec);
            self.tell(event.with("health_status", status.name()));
        }
        if changed == Some(Status::Unhealthy) {
            self.act_on_failure(check.on_failure);
        }
    }

    fn act_on_failure(&mut self, action: OnFailure) {
        match action {
            OnFailure::None => {}
            OnFailure::Kill => {
                if let Some(life) = &self.life {
                    let _ = send_signal(life.sandbox.pid, libc::SIGKILL);
                }
            }
            OnFailure::Stop => self.stop(None, None),
            OnFailure::Restart => {
                self.asked = Asked::Restart;
                self.end_life(None, None);
            }
        }
    }

    fn record_health(&self) {
        let Some(health) = &self.health else { return };
        if let Err(error) = health::write(self.store, &self.spec.id, &health.known) {
            ::log::debug!("{error}");
        }
    }
}
