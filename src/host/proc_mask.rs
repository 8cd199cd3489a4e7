//! What an outer container hides: mounts over parts of /proc, after which the kernel refuses a new procfs to
//! a user namespace (mount_too_revealing() of fs/namespace.c), and the marks that engines leave.

use std::fs;
use std::path::Path;

/// Mount points below /proc whose directories are empty by construction: what is mounted on them hides nothing.
const ALWAYS_EMPTY: &[&str] = &["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];

/// What is mounted over parts of /proc; empty where a new procfs may be mounted.
pub fn masked() -> Vec<String> {
    masked_in(&super::read_proc("/proc/self/mountinfo").unwrap_or_default())
}

/// The same, from the text of mountinfo (proc_pid_mountinfo(5)).
pub fn masked_in(mountinfo: &str) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let mut masked: Vec<String> = points
        .filter(|point| point.starts_with("/proc/") && !ALWAYS_EMPTY.contains(point))
        .map(str::to_owned)
        .collect();
    masked.sort();
    masked.dedup();
    masked
}

/// The name of the container engine this process runs under, as its marks tell: `docker`, `podman`, `lxc`, …
pub fn outer_container() -> Option<String> {
    outer_container_in(Path::new("/"), std::env::var("container").ok())
}

/// The same; `variable` is the environment's `container` (systemd's container interface).
pub fn outer_container_in(root: &Path, variable: Option<String>) -> Option<String> {
    if root.join(".dockerenv").exists() {
        return Some("docker".to_owned());
    }
    if let Ok(text) = fs::read_to_string(root.join("run/.containerenv")) {
        let engine = text.lines().find_map(|line| line.strip_prefix("engine=")).unwrap_or("podman");
        let name = engine.trim_matches('"').split('-').next().unwrap_or("podman");
        return Some(name.to_owned());
    }
    let managed = fs::read_to_string(root.join("run/systemd/container")).ok();
    let named = variable.or(managed).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let kubernetes = || root.join("var/run/secrets/kubernetes.io").exists().then(|| "kubernetes".to_owned());
    named.or_else(kubernetes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_proc_mask_it_but_for_those_on_empty_directories() {
        let plain = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                     40 22 0:33 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n";
        assert!(masked_in(plain).is_empty());
        let docker = format!(
            "{plain}50 22 0:50 / /proc/kcore rw,nosuid - tmpfs tmpfs rw\n51 22 0:21 /sys /proc/sys ro - proc proc rw\n"
        );
        assert_eq!(masked_in(&docker), ["/proc/kcore", "/proc/sys"]);
        assert!(masked_in("broken\n").is_empty());
    }

    #[test]
    fn engines_are_told_by_their_marks() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(outer_container_in(root.path(), None), None);
        assert_eq!(outer_container_in(root.path(), Some("lxc".to_owned())).as_deref(), Some("lxc"));
        fs::create_dir(root.path().join("run")).unwrap();
        fs::write(root.path().join("run/.containerenv"), "engine=\"podman-4.3.1\"\nname=\"x\"\n").unwrap();
        assert_eq!(outer_container_in(root.path(), None).as_deref(), Some("podman"));
        fs::write(root.path().join("run/.containerenv"), "").unwrap();
        assert_eq!(outer_container_in(root.path(), None).as_deref(), Some("podman"));
        fs::write(root.path().join(".dockerenv"), "").unwrap();
        assert_eq!(outer_container_in(root.path(), None).as_deref(), Some("docker"));
    }
}
