//! A scope of systemd for one container (org.freedesktop.systemd1(5), `StartTransientUnit`), with the monitor in it.

use std::path::{Path, PathBuf};

use zbus::{ObjectPath, OwnedObjectPath, Variant};

use super::bus::{Address, Bus, Call, Message, Refusal};
use super::{Delegated, Wanted, lacking, subtree};
use crate::error::{Error, Result, Step};
use crate::host::{cgroup, userns};

/// The container's cgroup in its scope, and the monitor's with all that serves the container.
pub const CONTAINER: &str = "container";
const MONITOR: &str = "monitor";

/// podman's parent for what a user runs.
const USUAL_SLICE: &str = "user.slice";
/// The same of containers that root runs.
const SLICE_OF_ROOT: &str = "machine.slice";
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// systemd's own patience, in seconds.
const USUAL_STOP: u64 = 90;
/// What the monitor takes itself, in seconds.
const OWN_STOP: u64 = 20;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: Call<'static> = Call {
    destination: SYSTEMD,
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
};
const BUS: Call<'static> = Call {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};
const JOBS: &str = "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
                    member='JobRemoved'";

/// A property of a unit.
type Property<'a> = (&'a str, Variant<'a>);
/// Units that are started besides: none.
type Auxiliary<'a> = Vec<(&'a str, Vec<Property<'a>>)>;

/// What a scope is called, and where it is; none: the usual.
pub struct Named<'a> {
    pub slice: Option<&'a str>,
    pub name: Option<&'a str>,
}

pub enum Failure {
    /// There is no bus behind the address.
    Unreachable(Error),
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Starts a scope with the calling process in it.
///
/// # Errors
/// The bus does not answer, systemd refuses, or the scope lacks a controller.
pub fn start(
    address: &Address,
    unified: &Path,
    named: &Named<'_>,
    wanted: &Wanted<'_>,
) -> Result<Delegated, Failure> {
    let failed = || super::cannot(wanted.controllers);
    let mut bus = Bus::connect(address).map_err(|error| {
        Failure::Unreachable(Error::new(failed()).because("cannot reach your systemd").because(error))
    })?;
    let pid = std::process::id();
    let own = super::name(wanted.id);
    let mut name = named.name.map_or_else(|| format!("{own}.scope"), str::to_owned);
    let slice = named.slice;
    let mut outcome = run(&mut bus, true, &name, pid, slice, wanted)?;
    if named.name.is_none() && matches!(&outcome, Err(refusal) if refusal.name == EXISTS) {
        // What a killed monitor left is about to go.
        name = format!("{own}-{pid}.scope");
        outcome = run(&mut bus, false, &name, pid, slice, wanted)?;
    }
    if let Err(Refusal { name, text }) = outcome {
        let why = if text.is_empty() { name } else { text };
        return Err(Error::new(failed()).because(format!("systemd starts no scope: {why}")).into());
    }
    let parent = own_path(&name).ok_or_else(|| {
        Error::new(failed()).because(format!("systemd has not moved the monitor into `{name}`"))
    })?;
    let scope = unified.join(&parent);
    lacking(&scope, &cgroup::controllers(&scope), wanted.controllers)?;
    subtree::join(&scope.join(MONITOR), &failed())?;
    subtree::hand_on(&scope, wanted.controllers)?;
    Ok(Delegated { unified: unified.to_owned(), parent, name: CONTAINER.to_owned() })
}

/// Has systemd move a process into a cgroup `below` a scope.
///
/// # Errors
/// The bus does not answer, or systemd refuses.
pub fn attach(address: &Address, scope: &str, below: &str, pid: i32) -> Result<()> {
    let mut bus = Bus::connect(address).step(|| "cannot reach your systemd")?;
    bus.call::<()>(&Call { member: "Hello", ..BUS }, None)?;
    let call = Call { member: "AttachProcessesToUnit", ..MANAGER };
    let asked = bus.call(&call, Some(&(scope, format!("/{below}"), vec![pid.cast_unsigned()])))?;
    loop {
        match bus.next()? {
            Message::Answer { to, outcome: Err(Refusal { name, text }) } if to == asked => {
                let why = if text.is_empty() { name } else { text };
                return Err(Error::new("systemd does not move the process").because(why));
            }
            Message::Answer { to, .. } if to == asked => return Ok(()),
            _ => {}
        }
    }
}

/// The path of the own cgroup, if that is a scope of this name.
fn own_path(scope: &str) -> Option<PathBuf> {
    let path = cgroup::own_path()?;
    (path.file_name()? == scope).then_some(path)
}

/// Starts the unit and waits until its job is done.
fn run(
    bus: &mut Bus,
    greet: bool,
    name: &str,
    pid: u32,
    slice: Option<&str>,
    wanted: &Wanted<'_>,
) -> Result<Result<(), Refusal>> {
    if greet {
        bus.call::<()>(&Call { member: "Hello", ..BUS }, None)?;
        bus.call(&Call { member: "AddMatch", ..BUS }, Some(&(JOBS,)))?;
        bus.call::<()>(&Call { member: "Subscribe", ..MANAGER }, None)?;
    }
    let root = userns::machine_user() == 0;
    let usual = if root { SLICE_OF_ROOT } else { USUAL_SLICE };
    let patience = USUAL_STOP.max(wanted.stop_timeout.saturating_add(OWN_STOP)).saturating_mul(1_000_000);
    let properties: Vec<Property<'_>> = vec![
        ("Description", Variant::from(wanted.description)),
        ("Slice", Variant::from(slice.map_or(usual, |slice| slice.rsplit('/').next().unwrap_or(slice)))),
        ("Delegate", Variant::from(true)),
        ("PIDs", Variant::from(vec![pid])),
        ("CollectMode", Variant::from("inactive-or-failed")),
        ("TimeoutStopUSec", Variant::from(patience)),
    ];
    let auxiliary: Auxiliary<'_> = Vec::new();
    let call = Call { member: "StartTransientUnit", ..MANAGER };
    let asked = bus.call(&call, Some(&(name, "fail", properties, auxiliary)))?;
    let mut job: Option<OwnedObjectPath> = None;
    let mut done: Vec<(OwnedObjectPath, String)> = Vec::new();
    loop {
        match bus.next()? {
            Message::Answer { to, outcome } if to == asked => match outcome {
                Ok(body) => job = Some(body.read::<ObjectPath<'_>>()?.to_owned().into()),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Message::Answer { outcome: Err(refusal), .. } => return Ok(Err(refusal)),
            Message::Signal { member, body } if member == "JobRemoved" => {
                let (_, path, _, result): (u32, ObjectPath<'_>, &str, &str) = body.read()?;
                done.push((path.to_owned().into(), result.to_owned()));
            }
            _ => {}
        }
        let ended = done.iter().find(|(path, _)| Some(path) == job.as_ref());
        if let Some((_, result)) = ended {
            let refused = || Refusal { name: String::new(), text: format!("the job ended with `{result}`") };
            return Ok(if result == "done" { Ok(()) } else { Err(refused()) });
        }
    }
}
