//! The control group of the life that begins, with the limits that hold now.

use crate::container::control_group::{self, ControlGroup, Place};
use crate::container::size;
use crate::container::store::Running;
use crate::delegation::{self, Mode, Wanted};
use crate::error::{Result, Step};
use crate::events::{Action, Event};
use crate::limits::Limits;
use crate::limits::settings::{self, Setting};
use crate::monitor::run::Monitor;

/// Where the cgroup is going to be, and what is to hold in it.
#[derive(Default)]
pub(super) struct Planned {
    place: Option<Place>,
    settings: Vec<Setting>,
    /// The container does not start without.
    needed: bool,
}

impl Monitor<'_> {
    /// Finds a place: with a limit, or where one was asked for, where controllers are delegated; otherwise below the
    /// monitor's own cgroup, if that may be written. The monitor may be in another one afterwards.
    pub(super) fn plan_group(&mut self) -> Result<Planned> {
        let placement = &self.spec.placement;
        if placement.mode == Some(Mode::Disabled) {
            return Ok(Planned::default());
        }
        let settings = settings::settings(&self.limits())?;
        if settings.is_empty() && !placement.is_asked_for() {
            let place = match &self.delegated {
                Some(delegated) => Some(Place::from(delegated)),
                None => control_group::place(&self.spec.id),
            };
            return Ok(Planned { place, ..Planned::default() });
        }
        let controllers = settings::controllers(&settings);
        if let Some(delegated) = &self.delegated {
            delegation::hand_on(delegated, &controllers)?;
            return Ok(Planned { place: Some(Place::from(delegated)), settings, needed: true });
        }
        let wanted = Wanted {
            id: &self.spec.id,
            description: &format!("sbx container {}", self.spec.name),
            placement,
            controllers: &controllers,
            stop_timeout: self.spec.stop_timeout,
        };
        let delegated = delegation::obtain(&wanted)?;
        let place = Some(Place::from(&delegated));
        self.delegated = Some(delegated);
        Ok(Planned { place, settings, needed: true })
    }

    /// As the container was made, or `sbx update` has changed them.
    fn limits(&self) -> Limits {
        self.store.settings(&self.spec.id).limits.unwrap_or_else(|| self.spec.limits.clone())
    }

    /// The kernel has told that something of memory happened in the container.
    pub(super) fn look_for_oom(&mut self) {
        let Some(life) = &mut self.life else { return };
        if let Some(events) = &life.memory_events {
            // What is not read is told again and again.
            let _ = rustix::io::pread(events, &mut [0_u8; 512][..], 0);
        }
        let kills = life.sandbox.cgroup.as_ref().map_or(0, ControlGroup::oom_kills);
        let before = std::mem::replace(&mut life.oom_kills, kills);
        if kills > before {
            self.oom_killed = true;
            self.tell(Event::container(Action::Oom, self.spec));
        }
    }

    /// After the end: whether it was for want of memory.
    pub(super) fn explain_oom(&mut self, code: i32) {
        self.look_for_oom();
        // A command that ended it killed it itself.
        if code != 128 + libc::SIGKILL || !self.oom_killed || self.asked.by_user() {
            return;
        }
        let limit = self.limits().asked().memory;
        if let Some(life) = self.life.as_mut().filter(|life| life.trouble.is_none()) {
            life.trouble = Some(match limit {
                Some(limit) => {
                    format!("it was killed for want of memory: the limit is {} (`--memory`)", size::binary(limit))
                }
                None => "it was killed for want of memory, which the whole machine, or a control group above, lacks"
                    .to_owned(),
            });
        }
    }
}

impl Planned {
    /// Writes down where it will be, so that it is removed whatever happens.
    pub(super) fn record(&self, record: &mut Running) {
        record.cgroup = self.place.as_ref().map(|place| place.path.clone());
    }

    /// Makes it, with its limits: whoever comes in is limited from the first moment on.
    pub(super) fn make(self) -> Result<Option<ControlGroup>> {
        let Some(place) = self.place else { return Ok(None) };
        match place.make() {
            Ok(mut group) => {
                group.needed = self.needed;
                group.limit(&self.settings)?;
                Ok(Some(group))
            }
            Err(error) if self.needed => {
                Err(error).step(|| format!("cannot make the control group `{}`", place.path.display()))
            }
            Err(error) => {
                ::log::debug!("cannot make a cgroup for the container: {error}");
                Ok(None)
            }
        }
    }
}
