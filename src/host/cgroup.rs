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

impl Cgroup {
    /// `systemd` where the user's own systemd manages what was delegated, `cgroupfs` where the files are
    /// written directly, `disabled` where no limit can be set.
    pub fn manager(&self) -> &'static str {
        match &self.delegated {
            None => "disabled",
            Some(cgroup)
                if cgroup.components().any(|c| c.as_os_str().to_string_lossy().starts_with("user@")) =>
            {
                "systemd"
            }
            Some(_) => "cgroupfs",
        }
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
    let text = super::read_proc("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = inside(unified, Path::new(path))?;
    is_writable(&own).then(|| PathBuf::from(path))
}

/// A path below the mount; none where it leads out of it, as that of a process does which is not below the root of the
/// cgroup namespace (cgroup_namespaces(7)).
pub fn inside(unified: &Path, path: &Path) -> Option<PathBuf> {
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| unified.join(path))
}

/// Why a container that the caller starts gets no cgroup, and what gives it one.
pub fn why_none() -> (&'static str, &'static str) {
    match read().version {
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
            "start it from a cgroup of your own: with a systemd user session `systemd-run --user --scope -p \
             Delegate=yes sbx start …`",
        ),
    }
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
fn is_writable(cgroup: &Path) -> bool {
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
        assert_eq!(found.manager(), "systemd");
    }

    #[test]
    fn a_login_session_has_nothing_delegated() {
        let root = tempfile::tempdir().unwrap();
        cgroup(root.path(), "cpu io\n", false);
        cgroup(&root.path().join("user.slice/session-1.scope"), "cpu\n", false);
        let found = read_from(root.path(), "0::/user.slice/session-1.scope\n");
        assert_eq!((found.delegated.as_deref(), found.manager()), (None, "disabled"));
        assert_eq!(found.controllers, ["cpu"]);
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
        assert_eq!((found.manager(), found.controllers.len()), ("cgroupfs", 0));
    }
}
