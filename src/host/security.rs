//! Which security modules the kernel has at work.

use std::fs;
use std::path::Path;

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Security {
    pub apparmor: bool,
    pub selinux: bool,
    pub seccomp: bool,
}

pub fn read() -> Security {
    read_from(Path::new("/"))
}

/// Reads below `root` the files that the kernel keeps in /sys and /proc.
pub fn read_from(root: &Path) -> Security {
    let apparmor = fs::read_to_string(root.join("sys/module/apparmor/parameters/enabled"));
    let status = fs::read_to_string(root.join("proc/self/status")).unwrap_or_default();
    Security {
        apparmor: apparmor.is_ok_and(|text| text.trim() == "Y"),
        selinux: has_selinux(root),
        seccomp: status.lines().any(|line| line.starts_with("Seccomp:")),
    }
}

/// As is_selinux_enabled(3): the init system mounts selinuxfs wherever the kernel starts SELinux, and without a
/// configuration there is no policy that labels would matter to.
pub fn has_selinux(root: &Path) -> bool {
    root.join("sys/fs/selinux/enforce").exists() && root.join("etc/selinux/config").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(read_from(root.path()), Security { apparmor: false, selinux: false, seccomp: false });
        put("sys/module/apparmor/parameters/enabled", "Y\n");
        put("proc/self/status", "Name:\tx\nSeccomp:\t0\n");
        assert_eq!(read_from(root.path()), Security { apparmor: true, selinux: false, seccomp: true });
        put("sys/module/apparmor/parameters/enabled", "N\n");
        put("sys/fs/selinux/enforce", "1");
        assert_eq!(read_from(root.path()), Security { apparmor: false, selinux: false, seccomp: true });
        put("etc/selinux/config", "SELINUX=enforcing\n");
        assert_eq!(read_from(root.path()), Security { apparmor: false, selinux: true, seccomp: true });
    }
}
