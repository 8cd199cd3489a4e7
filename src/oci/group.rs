//! The control group of a bundle (config-linux.md, Control groups): where `linux.cgroupsPath` and the engine want it, and
//! with what limits.

use std::path::PathBuf;

use crate::container::control_group::{self, ControlGroup, Place};
use crate::container::spec::Spec;
use crate::delegation::{self, Chosen, Wanted};
use crate::error::{Error, Result, Step};
use crate::limits::settings::{Setting, controllers};
use crate::oci::config;
use crate::oci::resources;

/// What the command line says of control groups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Groups {
    pub manager: Manager,
    /// The container may not do without one.
    pub required: bool,
}

/// Who makes them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Manager {
    /// Files where the bundle names a path; else whoever can.
    #[default]
    Any,
    /// sbx, in what may be written.
    Files,
    Systemd,
    /// There is to be none.
    None,
}

/// What a bundle asks for, understood.
#[derive(Debug)]
pub struct Asked {
    groups: Groups,
    place: Option<Chosen>,
    settings: Vec<Setting>,
}

/// A group that was made, and where it is below the mount.
pub struct Made {
    pub group: ControlGroup,
    pub path: PathBuf,
    /// The bundle or the engine has chosen the name.
    pub is_chosen: bool,
}

impl Asked {
    /// # Errors
    /// A path or a limit that is none.
    pub fn new(described: config::ControlGroup, groups: Groups) -> Result<Self> {
        let place = place(described.path.as_deref().unwrap_or_default(), groups.manager)?;
        let mut settings = resources::settings(&described.resources.unwrap_or_default())?;
        // A new control group has no limits, and mostly not even the files for them.
        settings.retain(Setting::limits);
        Ok(Self { groups, place, settings })
    }

    /// Makes the group, with its limits; `id` is its name where nobody has chosen one. None: it cannot be made, and
    /// nothing was asked for that takes one.
    ///
    /// # Errors
    /// What was asked for cannot be had.
    pub fn make(&self, id: &str, spec: &Spec) -> Result<Option<Made>> {
        if self.groups.manager == Manager::None {
            return resources::refuse(&self.settings).map(|()| None);
        }
        let is_needed = self.groups.required || !self.settings.is_empty();
        match self.made(id, spec) {
            Ok(made) => Ok(Some(made)),
            Err(error) if is_needed && self.settings.is_empty() => Err(error),
            Err(error) if is_needed => {
                let files: Vec<&str> = self.settings.iter().map(|setting| setting.file.as_str()).collect();
                Err(error.while_doing(format!(
                    "cannot set `{}` of the container's control group",
                    files.join("`, `")
                )))
            }
            Err(error) => {
                log::info!("the container has no control group of its own: {error}");
                Ok(None)
            }
        }
    }

    fn made(&self, id: &str, spec: &Spec) -> Result<Made> {
        let controllers = controllers(&self.settings);
        let wanted = Wanted {
            id,
            description: &format!("sbx container {}", spec.id),
            placement: &spec.placement,
            controllers: &controllers,
            stop_timeout: 0,
        };
        let place = match &self.place {
            Some(chosen) => Place::from(&delegation::obtain_chosen(chosen, &wanted)?),
            // What limits nothing is not worth a question to systemd.
            None if self.settings.is_empty() => {
                control_group::place(id).ok_or_else(|| control_group::none_error(&spec.id))?
            }
            None => Place::from(&delegation::obtain(&wanted)?),
        };
        let is_chosen = self.place.is_some();
        let mut group =
            place.make().step(|| format!("cannot make the control group `{}`", place.path.display()))?;
        if let Some(why) = is_chosen.then(|| group.in_the_way()).flatten() {
            // It is not ours.
            group.leave();
            return Err(
                Error::new(format!("cannot use the control group `{}`", place.path.display())).because(why)
            );
        }
        group.needed = is_chosen || self.groups.required || !self.settings.is_empty();
        group.limit(&self.settings)?;
        Ok(Made { group, path: place.path, is_chosen })
    }
}

/// `linux.cgroupsPath`, which the one who makes the groups has in its own form.
fn place(path: &str, manager: Manager) -> Result<Option<Chosen>> {
    match manager {
        Manager::None => Ok(None),
        Manager::Systemd => scope(path).map(Some),
        Manager::Any if path.is_empty() => Ok(None),
        Manager::Files if path.is_empty() => Ok(Some(Chosen::Files)),
        Manager::Any | Manager::Files => Ok(Some(Chosen::Path(path.into()))),
    }
}

/// `SLICE:PREFIX:NAME`, as runc and crun read it; each of the first two may be empty.
fn scope(path: &str) -> Result<Chosen> {
    let wrong = |cause: &str| {
        Error::new(format!("cannot use the `cgroupsPath` `{}`", path.escape_debug()))
            .because(cause)
            .hint("for systemd it is `SLICE:PREFIX:NAME`, such as `user.slice:web:1`")
    };
    if path.is_empty() {
        return Ok(Chosen::Scope { slice: None, name: None });
    }
    let parts: Vec<&str> = path.split(':').collect();
    let &[slice, prefix, name] = parts.as_slice() else {
        return Err(wrong("it has not three parts"));
    };
    // systemd.unit(5): what names of units have; `/` would lead elsewhere in the tree of groups.
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.\\@".contains(c));
    if name.is_empty() || !parts.iter().all(|part| plain(part)) {
        return Err(wrong("a name of systemd's has letters, digits and `-_.@\\`, and is not empty"));
    }
    if name.ends_with(".slice") {
        return Err(wrong("a container is a scope, and no slice"));
    }
    let name = match prefix {
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    let slice = Some(slice).filter(|slice| !slice.is_empty()).map(str::to_owned);
    Ok(Chosen::Scope { slice, name: Some(name) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_of(path: &str) -> Option<(Option<String>, Option<String>)> {
        match scope(path) {
            Ok(Chosen::Scope { slice, name }) => Some((slice, name)),
            _ => None,
        }
    }

    #[test]
    fn the_form_of_systemd_names_a_slice_and_a_scope() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(scope_of("user.slice:libpod:77"), Some((some("user.slice"), some("libpod-77.scope"))));
        assert_eq!(scope_of("::77"), Some((None, some("77.scope"))));
        assert_eq!(scope_of(""), Some((None, None)));
        for wrong in ["a", "a:b", "a:b:", "a:b:c:d", "../x:b:c", "a:b:c/d", "a:b:c.slice", "a:b:c\n"] {
            assert_eq!(scope_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_path_is_of_the_one_who_makes_groups() {
        let path = || Some(Chosen::Path("/a:b:c".into()));
        assert_eq!(place("/a:b:c", Manager::Files).unwrap(), path());
        assert_eq!(place("/a:b:c", Manager::Any).unwrap(), path());
        assert!(place("/a:b:c", Manager::Systemd).is_err());
        assert_eq!(place("/a", Manager::None).unwrap(), None);
        assert_eq!(place("", Manager::Any).unwrap(), None);
        assert_eq!(place("", Manager::Files).unwrap(), Some(Chosen::Files));
    }
}
