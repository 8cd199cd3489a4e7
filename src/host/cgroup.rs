//! Which control groups there are and which of them the caller was given (cgroups(7), DELEGATION).

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Nothing is mounted at /sys/fs/cgroup.
    None,
    V1,
    /// Version 1 with an extra version 2 hierarchy, which has no controllers.
    Hybrid,
    V2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    pub version: Version,
    /// The directory of the process's own version 2 cgroup, seen or not.
    pub own: Option<PathBuf>,
    /// The nearest cgroup, own or above, below which the caller may make others and move processes.
    pub delegated: Option<PathBuf>,
    /// The controllers of the delegated cgroup, or of the own one where none is.
    pub controllers: Vec<String>,
}

pub fn read() -> Cgroup {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    read_from(Path::new("/sys/fs/cgroup"), &own)
}

/// Reads the hierarchy mounted at `root`; `own` is the text of /proc/self/cgroup.
pub fn read_from(root: &Path, own: &str) -> Cgroup {
    let version = version(root);
    let unified = match version {
        Version::V2 => Some(root.to_owned()),
        Version::Hybrid => Some(root.join("unified")),
        Version::V1 | Version::None => None,
    };
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = unified.as_ref().and_then(|unified| path.map(|path| unified.join(path)));
    let delegated = unified.as_ref().zip(own.as_ref()).and_then(|(unified, own)| {
        own.ancestors().take_while(|cgroup| cgroup.starts_with(unified)).find(|cgroup| is_writable(cgroup))
    });
    let told = delegated.or(own.as_deref()).map(|cgroup| cgroup.join("cgroup.controllers"));
    let controllers = told.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    Cgroup {
        version,
        delegated: delegated.map(Path::to_owned),
        controllers: controllers.split_whitespace().map(str::to_owned).collect(),
        own,
    }
}

/// Where version 2 is mounted: the places of systemd (file-hierarchy(7)), alone or beside version 1.
pub fn unified() -> Option<PathBuf> {
    let is_unified =
        |path: &&str| rustix::fs::statfs(*path).is_ok_and(|found| found.f_type == libc::CGROUP2_SUPER_MAGIC);
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().find(|path| is_unified(path)).map(PathBuf::from)
}

/// The calling process's own cgroup, below the mount of [`unified`], where the caller may make others in it and move
/// its processes there. It takes some microseconds to learn that there is none.
pub fn own_delegated(unified: &Path) -> Option<PathBuf> {
    let path = own_path()?;
    is_writable(&unified.join(&path)).then_some(path)
}

/// The calling process's own cgroup, below the mount.
pub fn own_path() -> Option<PathBuf> {
    let text = super::read_proc("/proc/self/cgroup").ok()?;
    let path = PathBuf::from(text.lines().find_map(|line| line.strip_prefix("0::/"))?);
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// Whether the calling process is in the cgroup of a job of Slurm's, which counts and ends what is in there (with
/// cgroup/v2: `…/slurmstepd.scope/job_7/step_0/user/task_0`).
pub fn in_job() -> bool {
    own_path().is_some_and(|path| job_of(&path).is_some())
}

/// The cgroup of the job that a path is in.
pub fn job_of(path: &Path) -> Option<&Path> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let is_job = |path: &Path| name(path).strip_prefix("job_").is_some_and(|id| id.parse::<u64>().is_ok());
    let mut step = None;
    path.ancestors().find(|path| {
        let found = is_job(path) && step.is_some_and(|step| name(step).starts_with("step_"));
        step = Some(*path);
        found
    })
}

/// The controllers that a cgroup may hand on.
pub fn controllers(cgroup: &Path) -> Vec<String> {
    let text = fs::read_to_string(cgroup.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// The controllers that the kernel has for version 2, as the root of all above a cgroup says; none: that is not seen from
/// here.
pub fn of_machine(place: &Path) -> Option<Vec<String>> {
    let is_root = |above: &&Path| above.join("cgroup.controllers").exists() && is_root(above);
    place.ancestors().find(is_root).map(controllers)
}

/// Whether it is the root of all (cgroups(7): alone it has no cgroup.type), whose processes are everybody's and are in
/// nobody's way: the rule of no processes in inner nodes is not for it.
pub fn is_root(place: &Path) -> bool {
    !place.join("cgroup.type").exists()
}

/// The cgroup of the user's own systemd, as far as it can be seen: above the own one, or where systemd puts it.
pub struct UserManager {
    /// With the mount.
    pub path: PathBuf,
    pub controllers: Vec<String>,
}

pub fn user_manager(unified: &Path) -> Option<UserManager> {
    let uid = super::userns::machine_user();
    if uid == 0 {
        return Some(UserManager { path: unified.to_owned(), controllers: controllers(unified) });
    }
    let service = format!("user@{uid}.service");
    let own = own_path().unwrap_or_default();
    let above = own.ancestors().find(|path| path.file_name() == Some(service.as_ref()));
    let usual = || PathBuf::from(format!("user.slice/user-{uid}.slice/{service}"));
    let path = unified.join(above.map_or_else(usual, Path::to_owned));
    path.is_dir().then(|| UserManager { controllers: controllers(&path), path })
}

/// A path below the mount; none where it leads out of it, as that of a process does which is not below the root of the
/// cgroup namespace (cgroup_namespaces(7)).
pub fn inside(unified: &Path, path: &Path) -> Option<PathBuf> {
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| unified.join(path))
}

/// Why a container that the caller starts gets no cgroup, and what gives it one.
pub fn why_none() -> (&'static str, &'static str) {
    let (why, hint) = match read().version {
        Version::None => (
            "there is no cgroup file system at /sys/fs/cgroup",
            "mount version 2 there, or have the outer container made with one",
        ),
        Version::V1 => (
            "this machine has cgroup version 1 alone, which cannot be delegated to users",
            "boot with the kernel parameters `systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all`",
        ),
        Version::Hybrid | Version::V2 => (
            "it was started in a cgroup that is not delegated to you",
            "with systemd, log in with a session of your own (`$XDG_RUNTIME_DIR/bus`; Debian: dbus-user-session) and \
             start it with `--cgroups enabled`, or from `systemd-run --user --scope -p Delegate=yes`; in a container, \
             have the outer one made with a writable /sys/fs/cgroup",
        ),
    };
    (why, job_hint().unwrap_or(hint))
}

/// What a job of Slurm's does about limits.
pub fn job_hint() -> Option<&'static str> {
    const HINT: &str =
        "ask Slurm for limits of the job (`--mem`, `--cpus-per-task`): they hold for its containers, too";
    std::env::var_os("SLURM_JOB_ID").map(|_| HINT)
}

fn version(root: &Path) -> Version {
    if root.join("cgroup.controllers").exists() {
        return Version::V2;
    }
    if root.join("unified/cgroup.controllers").exists() {
        return Version::Hybrid;
    }
    let is_v1 = ["memory", "cpu", "pids", "systemd", "freezer"].iter().any(|name| root.join(name).is_dir());
    if is_v1 { Version::V1 } else { Version::None }
}

/// cgroups(7): the directory and these two files are what a delegation gives.
pub fn is_writable(cgroup: &Path) -> bool {
    let may_write = |path: &Path| rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    may_write(cgroup)
        && may_write(&cgroup.join("cgroup.procs"))
        && may_write(&cgroup.join("cgroup.subtree_control"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cgroup(path: &Path, controllers: &str, writable: bool) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("cgroup.controllers"), controllers).unwrap();
        if writable {
            fs::write(path.join("cgroup.procs"), "").unwrap();
            fs::write(path.join("cgroup.subtree_control"), "").unwrap();
        }
    }

    #[test]
    fn the_delegated_cgroup_is_found_above_the_own_one() {
        let root = tempfile::tempdir().unwrap();
        let own = "user.slice/user-1000.slice/user@1000.service/app.slice/run.scope";
        cgroup(root.path(), "cpu io memory pids\n", false);
        cgroup(&root.path().join(own), "pids\n", false);
        let user = root.path().join("user.slice/user-1000.slice/user@1000.service");
        cgroup(&user, "cpu memory pids\n", true);
        let found = read_from(root.path(), &format!("0::/{own}\n"));
        assert_eq!(found.version, Version::V2);
        assert_eq!(found.delegated, Some(user));
        assert_eq!(found.controllers, ["cpu", "memory", "pids"]);
    }

    #[test]
    fn a_login_session_has_nothing_delegated() {
        let root = tempfile::tempdir().unwrap();
        cgroup(root.path(), "cpu io\n", false);
        cgroup(&root.path().join("user.slice/session-1.scope"), "cpu\n", false);
        let found = read_from(root.path(), "0::/user.slice/session-1.scope\n");
        assert_eq!(found.delegated, None);
        assert_eq!(found.controllers, ["cpu"]);
    }

    #[test]
    fn cgroups_of_jobs_are_known() {
        for job in ["system.slice/slurmstepd.scope/job_7/step_0/user/task_0", "a/job_12/step_batch"] {
            assert!(job_of(Path::new(job)).is_some(), "{job}");
        }
        assert_eq!(job_of(Path::new("a/job_7/step_0/user")), Some(Path::new("a/job_7")));
        for other in ["", "user.slice/session-1.scope", "a/job_x/step_0", "a/job_7", "a/job_7/b/step_0"] {
            assert_eq!(job_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn a_path_out_of_the_mount_is_none() {
        let root = Path::new("/sys/fs/cgroup");
        assert_eq!(inside(root, Path::new("a/b")), Some(root.join("a/b")));
        assert_eq!(inside(root, Path::new("")), Some(root.join("")));
        assert_eq!(inside(root, Path::new("../a")), None);
        assert_eq!(inside(root, Path::new("/etc")), None);
    }

    #[test]
    fn older_hierarchies_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read_from(root.path(), "").version, Version::None);
        fs::create_dir(root.path().join("memory")).unwrap();
        let found = read_from(root.path(), "4:memory:/\n");
        assert_eq!((found.version, found.own), (Version::V1, None));
        cgroup(&root.path().join("unified"), "", true);
        let found = read_from(root.path(), "4:memory:/\n0::/\n");
        assert_eq!(found.version, Version::Hybrid);
        assert_eq!(found.controllers.len(), 0);
    }
}
