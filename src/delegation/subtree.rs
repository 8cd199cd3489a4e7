//! A place for containers in a subtree that the caller may write, with nobody to ask: nested containers, `systemd-run
//! --user`, other inits.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::{Delegated, USEFUL, Wanted, cannot, lacking};
use crate::error::{Error, Result, Step};
use crate::host::cgroup;

/// The leaf that takes the processes of a cgroup which is to hand controllers on; podman's word, too.
pub const SUPERVISOR: &str = "supervisor";
/// Attempts to move processes that are starting others meanwhile.
const ATTEMPTS: u32 = 100;
/// One that a process of an outer PID namespace is in says 0 for it.
const UNSEEN: &str = "0";

/// In the caller's own cgroup or above it.
pub fn own(unified: PathBuf, wanted: &Wanted<'_>) -> Result<Delegated> {
    let place = find(&unified, wanted.controllers)?;
    if !place.is_free {
        move_all(&unified.join(&place.path), wanted.controllers)?;
    }
    made(unified, place.path, wanted)
}

/// `--cgroups split`: in the caller's own cgroup, whatever is above it.
pub fn split(unified: PathBuf, wanted: &Wanted<'_>) -> Result<Delegated> {
    let path = own_writable(&unified).ok_or_else(|| none(wanted.controllers))?;
    let path = out_of_supervisor(&unified, path);
    let place = unified.join(&path);
    lacking(&place, &cgroup::controllers(&place), wanted.controllers)?;
    move_all(&place, wanted.controllers)?;
    made(unified, path, wanted)
}

/// `--cgroups no-conmon`: nobody is moved.
pub fn beside(unified: PathBuf, wanted: &Wanted<'_>) -> Result<Delegated> {
    let place = find_free(&unified, wanted.controllers).ok_or_else(|| {
        Error::new("cannot use `--cgroups no-conmon`")
            .because("no control group of yours is free of processes and has the controllers that are needed")
            .hint("leave it out: the monitor is moved out of the way then")
    })?;
    made(unified, place, wanted)
}

/// `--cgroup-parent PATH`: from the root of the hierarchy, or below the own place.
pub fn below(unified: PathBuf, parent: &str, wanted: &Wanted<'_>) -> Result<Delegated> {
    let below = check_path(parent).map(|()| parent.trim_matches('/'))?;
    if parent.starts_with('/') && cgroup::is_writable(&unified.join(below)) {
        return made(unified, PathBuf::from(below), wanted);
    }
    let place = find(&unified, wanted.controllers)?;
    if !place.is_free {
        move_all(&unified.join(&place.path), wanted.controllers)?;
    }
    let mut path = place.path;
    for part in below.split('/') {
        hand_on(&unified.join(&path), wanted.controllers)?;
        path.push(part);
        let directory = unified.join(&path);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error)
                    .step(|| format!("cannot make the control group `{}`", directory.display()));
            }
            _ => {}
        }
    }
    made(unified, path, wanted)
}

/// A path of an engine's choice, whose last part is the container's own: from the mount where it is absolute, else below
/// the caller's own place. Without a need for controllers nobody is moved.
pub fn at(unified: PathBuf, path: &Path, wanted: &Wanted<'_>) -> Result<Delegated> {
    let parts = parts(path)?;
    let Some((name, above)) = parts.split_last() else { return Err(no_path(path)) };
    let own = cgroup::own_path().map(|own| out_of_supervisor(&unified, own));
    let mut parent = if path.is_absolute() {
        PathBuf::new()
    } else if wanted.controllers.is_empty() {
        own_writable(&unified).ok_or_else(|| none(wanted.controllers))?
    } else {
        find(&unified, wanted.controllers)?.path
    };
    for part in above.iter().map(Some).chain([None]) {
        let place = unified.join(&parent);
        let is_own = own.as_ref() == Some(&parent);
        if is_own && !wanted.controllers.is_empty() && !is_free(&place, wanted.controllers) {
            move_all(&place, wanted.controllers)?;
        }
        hand_on(&place, wanted.controllers)?;
        let Some(part) = part else { break };
        parent.push(part);
        let directory = unified.join(&parent);
        make(&directory).step(|| format!("cannot make the control group `{}`", directory.display()))?;
    }
    Ok(Delegated { unified, parent, name: (*name).to_owned() })
}

/// The parts of a path that leads nowhere else; a cgroup's name has no line ends, or /proc/PID/cgroup could not be read.
fn parts(path: &Path) -> Result<Vec<String>> {
    let plain = |part| match part {
        Component::RootDir => Some(None),
        Component::Normal(name) => {
            name.to_str().filter(|name| !name.contains('\n')).map(|name| Some(name.to_owned()))
        }
        _ => None,
    };
    let parts: Option<Vec<Option<String>>> = path.components().map(plain).collect();
    parts.map(|parts| parts.into_iter().flatten().collect()).ok_or_else(|| no_path(path))
}

fn no_path(path: &Path) -> Error {
    Error::new(format!("cannot use the `cgroupsPath` `{}`", path.display()))
        .hint("write a path without `..`, such as `/work/web`; for systemd `SLICE:PREFIX:NAME` with `--systemd-cgroup`")
}

/// A path that stays below where it is put.
pub fn check_path(parent: &str) -> Result<()> {
    let plain = |part| matches!(part, Component::Normal(_) | Component::RootDir);
    let text = parent.trim_matches('/');
    if !text.is_empty()
        && !text.contains("//")
        && Path::new(parent).components().all(plain)
        && !text.contains('\n')
    {
        return Ok(());
    }
    Err(Error::new(format!("cannot use `--cgroup-parent {parent}`"))
        .hint("write the name of a slice, such as `work.slice`, or a path such as `work/today`"))
}

/// Whether there is a place.
pub fn check(unified: &Path, controllers: &BTreeSet<String>) -> Result<()> {
    find(unified, controllers).map(drop)
}

/// Where containers with limits can have the most controllers.
pub fn place(unified: &Path) -> Option<PathBuf> {
    fullest(unified, &out_of_supervisor(unified, cgroup::own_path()?))
}

fn fullest(unified: &Path, own: &Path) -> Option<PathBuf> {
    let usable = |path: &&Path| {
        let place = unified.join(path);
        cgroup::is_writable(&place) && (*path == own || is_free(&place, &BTreeSet::new()))
    };
    // Of two that have as many, the nearer.
    let found = own.ancestors().filter(usable);
    found.min_by_key(|path| Reverse(cgroup::controllers(&unified.join(path)).len())).map(Path::to_owned)
}

struct Found {
    /// Below the mount.
    path: PathBuf,
    /// No process is in it, or none that matters.
    is_free: bool,
}

fn made(unified: PathBuf, parent: PathBuf, wanted: &Wanted<'_>) -> Result<Delegated> {
    hand_on(&unified.join(&parent), wanted.controllers)?;
    Ok(Delegated { unified, parent, name: super::name(wanted.id) })
}

/// The caller's own first, since what started it counts and limits there, then those above.
fn find(unified: &Path, controllers: &BTreeSet<String>) -> Result<Found> {
    let Some(own) = cgroup::own_path() else { return Err(none(controllers)) };
    find_from(unified, own, controllers)
}

fn find_from(unified: &Path, own: PathBuf, controllers: &BTreeSet<String>) -> Result<Found> {
    let mut fullest: Option<(PathBuf, Vec<String>)> = None;
    let own = out_of_supervisor(unified, own);
    for path in within_job(&own) {
        let place = unified.join(path);
        if !cgroup::is_writable(&place) {
            continue;
        }
        let there = cgroup::controllers(&place);
        if controllers.iter().all(|name| there.contains(name)) {
            let is_free = is_free(&place, controllers);
            // Others than the caller's own are not emptied.
            if is_free || path == own {
                return Ok(Found { path: path.to_owned(), is_free });
            }
        }
        if fullest.as_ref().is_none_or(|(_, most)| there.len() > most.len()) {
            fullest = Some((place, there));
        }
    }
    match fullest {
        Some((place, there)) => Err(lacking(&place, &there, controllers).err().unwrap_or_else(|| {
            Error::new(cannot(controllers)).because(format!("others' processes are in `{}`", place.display()))
        })),
        None => Err(none(controllers)),
    }
}

fn find_free(unified: &Path, controllers: &BTreeSet<String>) -> Option<PathBuf> {
    let own = out_of_supervisor(unified, cgroup::own_path()?);
    let mut above = within_job(&own).map(|path| (path, unified.join(path)));
    let free = |place: &Path| {
        let there = cgroup::controllers(place);
        cgroup::is_writable(place)
            && controllers.iter().all(|name| there.contains(name))
            && is_free(place, controllers)
    };
    above.find(|(_, place)| free(place)).map(|(path, _)| path.to_owned())
}

/// A path and those above it; of a batch system's job none that is not the job's.
fn within_job(own: &Path) -> impl Iterator<Item = &Path> {
    let job = cgroup::job_of(own);
    own.ancestors().take_while(move |path| job.is_none_or(|job| path.starts_with(job)))
}

fn own_writable(unified: &Path) -> Option<PathBuf> {
    cgroup::own_path().filter(|path| cgroup::is_writable(&unified.join(path)))
}

/// Who was moved before starts others beside what it has started.
fn out_of_supervisor(unified: &Path, own: PathBuf) -> PathBuf {
    let above = own.parent().filter(|_| own.file_name() == Some(SUPERVISOR.as_ref()));
    match above {
        Some(above) if cgroup::is_writable(&unified.join(above)) => above.to_owned(),
        _ => own,
    }
}

/// Whether controllers can be handed on without moving anybody.
fn is_free(place: &Path, controllers: &BTreeSet<String>) -> bool {
    let on = words(&place.join("cgroup.subtree_control"));
    let empty = fs::read_to_string(place.join("cgroup.procs")).is_ok_and(|text| text.trim().is_empty());
    cgroup::is_root(place)
        || empty
        || (!controllers.is_empty() && controllers.iter().all(|name| on.contains(name)))
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Moves the calling process into a leaf of its own.
pub fn join(leaf: &Path, failed: &str) -> Result<()> {
    make(leaf).and_then(|()| fs::write(leaf.join("cgroup.procs"), std::process::id().to_string())).map_err(
        |error| Error::new(failed).because(format!("cannot move into `{}`", leaf.display())).because(error),
    )
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Moves all processes of a cgroup into a leaf, or none.
fn move_all(place: &Path, controllers: &BTreeSet<String>) -> Result<()> {
    if cgroup::is_root(place) {
        return Ok(());
    }
    let mut moved = Vec::new();
    let outcome = move_into_leaf(place, controllers, &mut moved);
    if outcome.is_err() {
        for pid in moved {
            // It may be gone.
            let _ = fs::write(place.join("cgroup.procs"), &pid);
        }
        let _ = fs::remove_dir(place.join(SUPERVISOR));
    }
    outcome
}

fn move_into_leaf(place: &Path, controllers: &BTreeSet<String>, moved: &mut Vec<String>) -> Result<()> {
    let leaf = place.join(SUPERVISOR);
    let failed = || Error::new(cannot(controllers));
    make(&leaf)
        .map_err(|error| failed().because(format!("cannot make `{}`", leaf.display())).because(error))?;
    for _ in 0..ATTEMPTS {
        let inside = words(&place.join("cgroup.procs"));
        if inside.is_empty() {
            return Ok(());
        }
        for pid in inside {
            if pid == UNSEEN {
                return Err(failed().because(format!(
                    "a process that cannot be seen from here is in `{}` and would have to be moved",
                    place.display()
                )));
            }
            match fs::write(leaf.join("cgroup.procs"), &pid) {
                // It is gone.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => {
                    let why = format!("cannot move the process {pid} into `{}`", leaf.display());
                    return Err(failed().because(why).because(error));
                }
                Ok(()) => moved.push(pid),
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(failed().because(format!("processes keep starting in `{}`", place.display())))
}

/// Lets the children of a cgroup have controllers: those that are needed, and the useful ones where that is possible.
pub fn hand_on(place: &Path, needed: &BTreeSet<String>) -> Result<()> {
    let file = place.join("cgroup.subtree_control");
    let (there, on) = (cgroup::controllers(place), words(&file));
    for name in there.iter().filter(|name| !on.contains(name)) {
        let is_needed = needed.contains(name);
        if !is_needed && !USEFUL.contains(&name.as_str()) {
            continue;
        }
        match fs::write(&file, format!("+{name}")) {
            Err(error) if is_needed => {
                return Err(Error::new(cannot(needed))
                    .because(format!("cannot hand the controller {name} on in `{}`", place.display()))
                    .because(error));
            }
            Err(error) => log::debug!("cannot write +{name} to `{}`: {error}", file.display()),
            Ok(()) => {}
        }
    }
    lacking(place, &there, needed)
}

fn none(controllers: &BTreeSet<String>) -> Error {
    let (why, hint) = cgroup::why_none();
    Error::new(cannot(controllers)).because(why).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cgroup as far as files go.
    fn group(root: &Path, path: &str, controllers: &str, processes: &str, writable: bool) {
        let place = root.join(path);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("cgroup.controllers"), controllers).unwrap();
        if !path.is_empty() {
            fs::write(place.join("cgroup.type"), "domain\n").unwrap();
        }
        if writable {
            fs::write(place.join("cgroup.procs"), processes).unwrap();
            fs::write(place.join("cgroup.subtree_control"), "").unwrap();
        }
    }

    fn wanted(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_own_group_comes_first_and_then_those_above_that_are_free() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "", "cpu io memory pids", "", false);
        group(root.path(), "user", "cpu memory pids", "", true);
        group(root.path(), "user/shell", "memory pids", "77\n", true);
        let find = |names: &[&str]| find_from(root.path(), "user/shell".into(), &wanted(names));
        let found = find(&["memory"]).unwrap();
        assert_eq!((found.path, found.is_free), (PathBuf::from("user/shell"), false));
        let found = find(&["cpu"]).unwrap();
        assert_eq!((found.path, found.is_free), (PathBuf::from("user"), true));
        let error = find(&["io"]).err().unwrap().report();
        assert!(
            error.contains("not delegated to you: io") && error.contains("has cpu memory pids"),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_looked_for_above_a_job() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "scope", "memory", "", true);
        group(root.path(), "scope/job_7/step_0/user", "memory", "77\n", false);
        let own = PathBuf::from("scope/job_7/step_0/user");
        assert!(find_from(root.path(), own.clone(), &wanted(&["memory"])).is_err());
        group(root.path(), "scope/job_7", "memory", "", true);
        let found = find_from(root.path(), own, &wanted(&["memory"])).unwrap();
        assert_eq!(found.path, PathBuf::from("scope/job_7"));
    }

    #[test]
    fn who_was_moved_starts_beside_what_it_has_started() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "unit", "memory", "", true);
        group(root.path(), "unit/supervisor", "", "77\n", true);
        let found = find_from(root.path(), "unit/supervisor".into(), &wanted(&["memory"])).unwrap();
        assert_eq!((found.path, found.is_free), (PathBuf::from("unit"), true));
    }

    #[test]
    fn the_place_that_is_told_of_has_the_most_controllers() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "", "cpu memory pids", "1\n", false);
        group(root.path(), "user", "memory pids", "", true);
        group(root.path(), "user/shell", "", "77\n", true);
        let told = |own: &str| fullest(root.path(), Path::new(own));
        assert_eq!(told("user/shell"), Some("user".into()));
        group(root.path(), "user/shell", "memory pids", "77\n", true);
        assert_eq!(told("user/shell"), Some("user/shell".into()));
        // One with others' processes is not the caller's to divide.
        group(root.path(), "user", "memory pids hugetlb", "78\n", true);
        assert_eq!(told("user/shell"), Some("user/shell".into()));
        assert_eq!(told("elsewhere"), None);
    }

    #[test]
    fn where_nothing_is_writable_there_is_no_place() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "session-1.scope", "memory", "", false);
        assert!(find_from(root.path(), "session-1.scope".into(), &wanted(&["memory"])).is_err());
    }

    #[test]
    fn processes_are_moved_and_controllers_handed_on() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "own", "memory pids misc", "", true);
        let own = root.path().join("own");
        move_all(&own, &wanted(&[])).unwrap();
        assert!(own.join(SUPERVISOR).is_dir());
        hand_on(&own, &wanted(&["memory"])).unwrap();
        // Of a file the last write is left; a cgroup takes each.
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "+pids");
        assert!(hand_on(&own, &wanted(&["io"])).is_err());
        fs::write(own.join("cgroup.procs"), "0\n").unwrap();
        let error = move_all(&own, &wanted(&["memory"])).unwrap_err().report();
        assert!(error.contains("cannot be seen from here"), "{error}");
    }

    #[test]
    fn nobody_is_moved_out_of_the_root_of_all() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "", "memory", "1\n2\n", true);
        let found = find_from(root.path(), PathBuf::new(), &wanted(&["memory"])).unwrap();
        assert!(found.is_free);
        move_all(root.path(), &wanted(&["memory"])).unwrap();
        assert!(!root.path().join(SUPERVISOR).exists());
        assert_eq!(fs::read_to_string(root.path().join("cgroup.procs")).unwrap(), "1\n2\n");
    }

    #[test]
    fn who_was_moved_is_put_back_where_another_cannot_be() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "own", "memory", "77\n0\n", true);
        let own = root.path().join("own");
        assert!(move_all(&own, &wanted(&["memory"])).is_err());
        assert_eq!(fs::read_to_string(own.join("cgroup.procs")).unwrap(), "77");
    }

    #[test]
    fn paths_of_bundles_do_not_lead_out() {
        for (path, expected) in [("a", &["a"][..]), ("/a/b", &["a", "b"]), ("a//b/", &["a", "b"]), ("/", &[])]
        {
            assert_eq!(parts(Path::new(path)).unwrap(), expected, "{path}");
        }
        for path in ["..", "a/../b", "/a/..", "a\nb"] {
            assert!(parts(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn parents_do_not_lead_out() {
        for path in ["a", "a/b", "/a/b", "/work.d/x/"] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in ["", "/", "..", "a/../b", "./a", "a//b"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }
}
