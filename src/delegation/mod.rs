//! Where the control group of a container is made: in a scope of the user's systemd, in a subtree that the caller may
//! write, or nowhere (cgroups(7), DELEGATION).
//!
//! A cgroup that hands controllers on has no processes of its own ("no internal processes"), so the monitor sits in a
//! leaf beside the container's.

mod bus;
mod scope;
mod subtree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::cgroup::{self, Version};

pub use bus::{Address, address};

/// The drop-in that delegates all controllers that containers can use to the users of systemd.
pub const DROP_IN: &str = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu \
                           cpuset io memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && \
                           sudo systemctl daemon-reload";

/// Handed on wherever they are to be had, so that `stats` counts and `update` can limit.
const USEFUL: &[&str] = &["cpu", "cpuset", "io", "memory", "pids"];

/// `--cgroups`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Enabled,
    Disabled,
    /// The monitor stays where it was started.
    NoConmon,
    /// The cgroup that the monitor was started in is divided.
    Split,
}

/// What a container wants of its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// None: nobody asked.
    pub mode: Option<Mode>,
    pub parent: Option<String>,
}

impl Placement {
    /// Whether there is to be a cgroup even without a limit.
    pub fn is_asked_for(&self) -> bool {
        self.parent.is_some() || self.mode.is_some_and(|mode| mode != Mode::Disabled)
    }
}

/// Where a container's cgroup can be made, with controllers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegated {
    /// The mount of version 2.
    pub unified: PathBuf,
    /// Below that: the parent, which hands on what was asked for.
    pub parent: PathBuf,
    /// The container's own below it.
    pub name: String,
}

/// Of a container that is about to start.
pub struct Wanted<'a> {
    pub id: &'a str,
    /// What `systemctl` shows.
    pub description: &'a str,
    pub placement: &'a Placement,
    /// By name.
    pub controllers: &'a BTreeSet<String>,
    /// Seconds that the container has to end, when systemd goes down.
    pub stop_timeout: u64,
}

/// Where an engine wants the cgroup of its container (config-linux.md of the OCI runtime specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// A scope of the caller's systemd; none: the usual slice, a name of our own.
    Scope { slice: Option<String>, name: Option<String> },
    /// From the mount where it is absolute, else below the caller's own cgroup.
    Path(PathBuf),
    /// In what the caller may write, with a name of our own.
    Files,
}

/// Makes the place that an engine has chosen, and brings the calling process, which has no children yet, out of its way.
///
/// # Errors
/// There is nobody who makes it, it is not the caller's, or it lacks a controller.
pub fn obtain_chosen(chosen: &Chosen, wanted: &Wanted<'_>) -> Result<Delegated> {
    let unified = unified(wanted.controllers)?;
    match chosen {
        Chosen::Path(path) => subtree::at(unified, path, wanted),
        Chosen::Files => subtree::own(unified, wanted),
        Chosen::Scope { slice, name } => {
            let scope = scope::Named { slice: slice.as_deref(), name: name.as_deref() };
            let address = address().ok_or_else(no_session)?;
            match scope::start(&address, &unified, &scope, wanted) {
                Err(scope::Failure::Unreachable(error) | scope::Failure::Refused(error)) => Err(error),
                Ok(delegated) => Ok(delegated),
            }
        }
    }
}

/// Moves a process into a cgroup of a container, whose path is with the mount. Who is in a login session may not do that:
/// systemd does it then, where the cgroup is one of a scope.
///
/// # Errors
/// The kernel, or systemd, refuses it.
pub fn move_into(group: &Path, pid: i32) -> Result<()> {
    let failed = |error| {
        Error::new(format!("cannot move the process {pid} into `{}`", group.display())).because(error)
    };
    let error = match std::fs::write(group.join("cgroup.procs"), pid.to_string()) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    let (scope, below) = (group.parent().and_then(Path::file_name), group.file_name());
    match (scope.and_then(|name| name.to_str()), below.and_then(|name| name.to_str()), address()) {
        (Some(scope), Some(below), Some(address))
            if error.kind() == std::io::ErrorKind::PermissionDenied && scope.ends_with(".scope") =>
        {
            scope::attach(&address, scope, below, pid).map_err(|why| failed(error).because(why))
        }
        _ => Err(failed(error)),
    }
}

/// The name of a container's cgroup in one that others have, too.
pub fn name(id: &str) -> String {
    format!("sbx-{id}")
}

/// Whether a recorded path ends as one of the container's own does.
pub fn is_own(id: &str, path: &Path) -> bool {
    let own = name(id);
    if path.file_name() == Some(own.as_ref()) {
        return true;
    }
    let scope = path.parent().and_then(Path::file_name).and_then(|scope| scope.to_str()).unwrap_or_default();
    let in_scope = scope.strip_prefix(&own).is_some_and(|rest| rest.starts_with(['.', '-']));
    path.file_name() == Some(scope::CONTAINER.as_ref()) && in_scope && scope.ends_with(".scope")
}

/// Makes a place, and brings the calling process, which has no children yet, out of its way.
///
/// # Errors
/// There is none, or it lacks a controller: says how to get that.
pub fn obtain(wanted: &Wanted<'_>) -> Result<Delegated> {
    let unified = unified(wanted.controllers)?;
    let asked = wanted.placement.parent.as_deref();
    match wanted.placement.mode.unwrap_or_default() {
        Mode::Split => return subtree::split(unified, wanted),
        Mode::NoConmon => return subtree::beside(unified, wanted),
        Mode::Enabled | Mode::Disabled => {}
    }
    let slice = match asked {
        Some(parent) if !is_slice(parent) => return subtree::below(unified, parent, wanted),
        slice => slice,
    };
    let Some(address) = manager(slice) else {
        return match slice {
            Some(slice) => Err(no_manager(slice)),
            None => subtree::own(unified, wanted),
        };
    };
    match scope::start(&address, &unified, &scope::Named { slice, name: None }, wanted) {
        Err(scope::Failure::Unreachable(why)) if slice.is_none() => {
            log::debug!("{why}");
            subtree::own(unified, wanted)
        }
        Err(scope::Failure::Unreachable(error) | scope::Failure::Refused(error)) => Err(error),
        Ok(delegated) => Ok(delegated),
    }
}

/// The systemd that makes scopes. Out of a batch system's job it would take what the job has to count, limit and end:
/// that is for who names a slice.
fn manager(slice: Option<&str>) -> Option<Address> {
    if slice.is_none() && cgroup::in_job() { None } else { address() }
}

/// Has a place hand on what is needed now.
///
/// # Errors
/// It lacks a controller.
pub fn hand_on(delegated: &Delegated, controllers: &BTreeSet<String>) -> Result<()> {
    subtree::hand_on(&delegated.unified.join(&delegated.parent), controllers)
}

/// Whether [`obtain`] has a chance, without changing anything.
///
/// # Errors
/// As of [`obtain`], as far as files tell.
pub fn check(placement: &Placement, controllers: &BTreeSet<String>) -> Result<()> {
    if placement.mode == Some(Mode::Disabled) {
        if let Some(controller) = controllers.first() {
            return Err(Error::new(format!("cannot limit the container ({controller})"))
                .because("`--cgroups disabled` gives it no control group"));
        }
        if placement.parent.is_some() {
            return Err(Error::new("cannot use `--cgroup-parent`")
                .because("`--cgroups disabled` gives the container no control group"));
        }
        return Ok(());
    }
    if controllers.is_empty() && !placement.is_asked_for() {
        return Ok(());
    }
    let unified = unified(controllers)?;
    let slice = placement.parent.as_deref();
    let by_files = matches!(placement.mode, Some(Mode::Split | Mode::NoConmon));
    if let Some(slice) = slice {
        if by_files {
            return Err(Error::new(format!("cannot use `--cgroup-parent {slice}`"))
                .because("`--cgroups split` and `no-conmon` take the control group that sbx is started in"));
        }
        if !is_slice(slice) {
            return subtree::check_path(slice);
        }
    }
    if let (false, Some(_)) = (by_files, manager(slice)) {
        // What a scope has is what the manager has.
        let manager = cgroup::user_manager(&unified);
        return manager.map_or(Ok(()), |manager| lacking(&manager.path, &manager.controllers, controllers));
    }
    match slice {
        Some(slice) => Err(no_manager(slice)),
        None => subtree::check(&unified, controllers),
    }
}

/// How limits are set here, as `sbx info` says it.
pub struct Way {
    pub kind: Kind,
    pub controllers: Vec<String>,
    pub described: String,
}

/// Who makes control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Systemd,
    /// sbx, in what may be written.
    Files,
    None,
}

impl Way {
    /// podman's words, and `disabled` where no limit can be set.
    pub fn manager(&self) -> &'static str {
        match self.kind {
            Kind::Systemd => "systemd",
            Kind::Files => "cgroupfs",
            Kind::None => "disabled",
        }
    }
}

/// Finds out without changing anything.
pub fn way() -> Way {
    let none = |why: String| Way { kind: Kind::None, controllers: Vec::new(), described: why };
    let version = cgroup::read().version;
    let Some(unified) = cgroup::unified().filter(|_| version == Version::V2) else {
        let error = unified(&["memory".to_owned()].into()).err();
        return none(error.and_then(|error| error.causes().first().cloned()).unwrap_or_default());
    };
    if manager(None).is_some() {
        let manager = cgroup::user_manager(&unified);
        let (path, controllers) =
            manager.map(|manager| (manager.path, manager.controllers)).unwrap_or_default();
        let described = format!("a scope for each container, from systemd ({})", path.display());
        return Way { kind: Kind::Systemd, controllers, described };
    }
    match subtree::place(&unified) {
        Some(path) => {
            let place = unified.join(path);
            let described = format!("below `{}`, which is yours to write", place.display());
            Way { kind: Kind::Files, controllers: cgroup::controllers(&place), described }
        }
        None => none(cgroup::why_none().0.to_owned()),
    }
}

fn unified(controllers: &BTreeSet<String>) -> Result<PathBuf> {
    let version = cgroup::read().version;
    match cgroup::unified() {
        Some(unified) if version == Version::V2 || controllers.is_empty() => Ok(unified),
        _ => {
            let (why, hint) = cgroup::why_none();
            let why = match version {
                Version::Hybrid => {
                    "the controllers are on cgroup version 1 here, which cannot be delegated to users"
                }
                _ => why,
            };
            let hint = match version {
                Version::Hybrid => {
                    "boot with the kernel parameters `systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all`"
                }
                _ => hint,
            };
            Err(Error::new(cannot(controllers)).because(why).hint(cgroup::job_hint().unwrap_or(hint)))
        }
    }
}

/// What cannot be done.
fn cannot(controllers: &BTreeSet<String>) -> String {
    if controllers.is_empty() {
        return "cannot make a control group for the container".to_owned();
    }
    let names: Vec<&str> = controllers.iter().map(String::as_str).collect();
    format!("cannot limit the container ({})", names.join(", "))
}

/// Checks that all controllers are there.
fn lacking(place: &Path, there: &[String], wanted: &BTreeSet<String>) -> Result<()> {
    if wanted.iter().all(|name| there.contains(name)) {
        return Ok(());
    }
    Err(lacking_error(place, there, wanted, cgroup::of_machine(place).as_deref()))
}

/// `of_machine`: what the kernel has, as far as that can be seen from here.
fn lacking_error(
    place: &Path,
    there: &[String],
    wanted: &BTreeSet<String>,
    of_machine: Option<&[String]>,
) -> Error {
    let lacking: Vec<&str> = wanted.iter().filter(|name| !there.contains(name)).map(String::as_str).collect();
    let listed = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    let unknown = |name: &&str| of_machine.is_some_and(|known| !known.iter().any(|own| own == name));
    let unknown: Vec<&str> = lacking.iter().copied().filter(unknown).collect();
    if let (false, Some(known)) = (unknown.is_empty(), of_machine) {
        return Error::new(cannot(wanted))
            .because(format!(
                "the kernel of this machine has no controller {}, but {}",
                unknown.join(", "),
                listed(known)
            ))
            .hint("boot one that was built with it, without `cgroup_disable=`, or do without that limit");
    }
    let hint = match lacking.iter().all(|name| USEFUL.contains(name)) {
        true => format!("with systemd, once: `{DROP_IN}`, and log in again"),
        false => format!(
            "systemd hands on {} alone: root has to give you a control group with more, without systemd",
            USEFUL.join(", ")
        ),
    };
    let why =
        format!("not delegated to you: {}; `{}` has {}", lacking.join(", "), place.display(), listed(there));
    Error::new(cannot(wanted)).because(why).hint(hint)
}

fn no_manager(slice: &str) -> Error {
    Error::new(format!("cannot use `--cgroup-parent {slice}`"))
        .because("slices are systemd's, and there is no systemd session of yours")
        .hint("log in with one (XDG_RUNTIME_DIR and its `bus`), or name a directory below your own control group")
}

fn no_session() -> Error {
    Error::new("cannot make a scope for the container")
        .because("scopes are systemd's, and there is no systemd session of yours")
        .hint("log in with one (XDG_RUNTIME_DIR and its `bus`), or ask for `--cgroup-manager cgroupfs`")
}

/// By the name: systemd.slice(5).
fn is_slice(parent: &str) -> bool {
    parent.strip_suffix(".slice").is_some_and(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_container_are_its_own() {
        for own in ["a/sbx-77", "u/sbx-77.scope/container", "u/sbx-77-1234.scope/container"] {
            assert!(is_own("77", Path::new(own)), "{own}");
        }
        for other in [
            "a/sbx-7",
            "a/sbx-777",
            "",
            "u/sbx-777.scope/container",
            "u/sbx-77.scope",
            "u/x/container",
            "container",
        ] {
            assert!(!is_own("77", Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_lacking_controller_is_named_with_its_mend() {
        let wanted: BTreeSet<String> = ["io", "memory"].map(str::to_owned).into();
        let there = ["memory".to_owned(), "pids".to_owned()];
        let error = lacking_error(Path::new("/cg/user@1.service"), &there, &wanted, None).report();
        assert!(error.contains("cannot limit the container (io, memory)"), "{error}");
        assert!(error.contains("not delegated to you: io; `/cg/user@1.service` has memory pids"), "{error}");
        assert!(error.contains("/etc/systemd/system/user@.service.d/delegate.conf"), "{error}");
        assert!(lacking(Path::new("/"), &there, &["pids".to_owned()].into()).is_ok());
        let kernel = ["io", "memory", "pids", "hugetlb"].map(str::to_owned);
        let of = |name: &str| {
            let wanted = BTreeSet::from([name.to_owned()]);
            lacking_error(Path::new("/cg"), &there, &wanted, Some(&kernel)).report()
        };
        assert!(of("io").contains("delegate.conf"), "{}", of("io"));
        assert!(of("hugetlb").contains("root has to give you") && !of("hugetlb").contains("delegate.conf"));
        assert!(of("cpuset").contains("the kernel of this machine has no controller cpuset, but io memory"));
    }

    #[test]
    fn disabled_groups_have_no_limits() {
        let disabled = Placement { mode: Some(Mode::Disabled), parent: None };
        assert!(check(&disabled, &BTreeSet::new()).is_ok());
        assert!(check(&disabled, &["pids".to_owned()].into()).is_err());
        assert!(check(&Placement { parent: Some("a.slice".into()), ..disabled }, &BTreeSet::new()).is_err());
        assert!(check(&Placement::default(), &BTreeSet::new()).is_ok());
    }
}
