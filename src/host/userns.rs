//! Whether this process may make user namespaces, and why not: the switches that distributions add
//! (user_namespaces(7); Debian's unprivileged_userns_clone; AppArmor's restriction of Ubuntu 23.10 and later).

use std::fs;
use std::io;
use std::path::Path;

use crate::error::Error;

/// What the kernel's files say; `None` where a file isn't there, which means that nothing restricts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserNamespaces {
    /// The kernel has user namespaces (CONFIG_USER_NS).
    pub supported: bool,
    /// kernel.unprivileged_userns_clone, a Debian patch.
    pub unprivileged_clone: Option<bool>,
    /// user.max_user_namespaces of the namespace the caller is in.
    pub max: Option<u64>,
    /// kernel.apparmor_restrict_unprivileged_userns.
    pub apparmor_restriction: Option<bool>,
    /// The AppArmor label of this process, such as `unconfined` or `sbx (unconfined)`.
    pub apparmor_label: Option<String>,
    /// This process is in a user namespace already.
    pub nested: bool,
    /// The root directory is not the root of the mount namespace.
    pub chrooted: bool,
    /// Kinds of namespaces that the kernel was built without.
    pub absent: Vec<&'static str>,
}

pub fn read() -> UserNamespaces {
    read_from(Path::new("/proc"))
}

pub fn read_from(proc: &Path) -> UserNamespaces {
    let text = |path: &str| fs::read_to_string(proc.join(path)).ok().map(|text| text.trim().to_owned());
    let switch = |path: &str| text(path).map(|text| text != "0");
    let uid_map = text("self/uid_map").unwrap_or_default();
    let mounts = text("self/mountinfo").unwrap_or_default();
    UserNamespaces {
        supported: proc.join("self/ns/user").symlink_metadata().is_ok(),
        unprivileged_clone: switch("sys/kernel/unprivileged_userns_clone"),
        max: text("sys/user/max_user_namespaces").and_then(|text| text.parse().ok()),
        apparmor_restriction: switch("sys/kernel/apparmor_restrict_unprivileged_userns"),
        apparmor_label: text("self/attr/apparmor/current")
            .or_else(|| text("self/attr/current"))
            .map(|label| label.trim_end_matches('\0').to_owned())
            .filter(|label| !label.is_empty()),
        nested: !uid_map.is_empty() && uid_map.split_whitespace().ne(["0", "0", "4294967295"]),
        // mountinfo lists what is below the process's root: without an entry for `/` that is no mount point.
        chrooted: !mounts.is_empty() && !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/")),
        absent: absent_kinds(proc),
    }
}

/// As clone(2) has them; each can be left out of a kernel (CONFIG_TIME_NS and so on).
fn absent_kinds(proc: &Path) -> Vec<&'static str> {
    let kinds = ["cgroup", "ipc", "net", "pid", "time", "user", "uts"];
    let is_absent = |kind: &&str| {
        let found = proc.join("self/ns").join(kind).symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    kinds.into_iter().filter(is_absent).collect()
}

impl UserNamespaces {
    /// What stands in the way of a caller with or without CAP_SYS_ADMIN, and its mend.
    pub fn obstacle(&self, privileged: bool) -> Option<Obstacle> {
        if !self.supported {
            return Some(Obstacle::NotInKernel);
        }
        if self.max == Some(0) {
            return Some(Obstacle::Sysctl { name: "user.max_user_namespaces", value: "0", wanted: "15000" });
        }
        if self.chrooted {
            return Some(Obstacle::Chroot);
        }
        if self.unprivileged_clone == Some(false) && !privileged {
            let name = "kernel.unprivileged_userns_clone";
            return Some(Obstacle::Sysctl { name, value: "0", wanted: "1" });
        }
        let unconfined = self.apparmor_label.as_deref().is_none_or(|label| label == "unconfined");
        if self.apparmor_restriction == Some(true) && !privileged && unconfined {
            return Some(Obstacle::AppArmor);
        }
        None
    }
}

impl UserNamespaces {
    /// The AppArmor profile that is enforced on this process, without its mode.
    fn profile(&self) -> Option<&str> {
        let label = self.apparmor_label.as_deref()?;
        (label != "unconfined" && !label.ends_with(" (unconfined)") && !label.ends_with(" (complain)"))
            .then(|| label.strip_suffix(" (enforce)").unwrap_or(label))
    }

    /// Why mount(2) is refused in a mount namespace of the caller's own, which takes a security module (EACCES).
    fn explain_refused_mount(&self, failed: Error) -> Error {
        match self.profile() {
            // What Ubuntu puts such a process under, once it has made a user namespace.
            Some("unprivileged_userns") => failed
                .because(Obstacle::AppArmor.reason())
                .hint(format!("run `{}`", Obstacle::AppArmor.mend())),
            Some(profile) => failed.because(format!("the AppArmor profile `{profile}` forbids it")).hint(
                "if it is an outer container's: start that one with `--security-opt apparmor=unconfined`, or with \
                 `--privileged`",
            ),
            None => failed
                .because("a security module forbids it")
                .hint("`dmesg | tail` may tell which; in a container, start the outer one with `--privileged`"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    NotInKernel,
    Sysctl { name: &'static str, value: &'static str, wanted: &'static str },
    Chroot,
    AppArmor,
}

impl Obstacle {
    pub fn reason(&self) -> String {
        match self {
            Self::NotInKernel => "the kernel has no user namespaces".to_owned(),
            Self::Sysctl { name, value, .. } => format!("{name} is {value}"),
            Self::Chroot => "this process runs in a chroot, where the kernel refuses them".to_owned(),
            Self::AppArmor => "AppArmor restricts user namespaces to programs with a profile, and \
                               kernel.apparmor_restrict_unprivileged_userns is 1"
                .to_owned(),
        }
    }

    pub fn mend(&self) -> String {
        match self {
            Self::NotInKernel => "run a kernel built with CONFIG_USER_NS=y".to_owned(),
            Self::Sysctl { name, wanted, .. } => {
                format!(
                    "echo '{name} = {wanted}' | sudo tee /etc/sysctl.d/99-sbx.conf && sudo sysctl --system"
                )
            }
            Self::Chroot => "start sbx outside of the chroot, or enter it with a program that uses pivot_root (bwrap, systemd-nspawn)"
                .to_owned(),
            Self::AppArmor => super::apparmor::install_command(&super::apparmor::own_binary()),
        }
    }
}

/// The kinds of namespaces, but for user, whose limit is zero (namespaces(7), /proc/sys/user).
pub fn forbidden_kinds(proc: &Path) -> Vec<&'static str> {
    let is_zero = |kind: &&str| {
        let limit = fs::read_to_string(proc.join(format!("sys/user/max_{kind}_namespaces")));
        limit.is_ok_and(|text| text.trim() == "0")
    };
    ["mnt", "pid", "net", "ipc", "uts", "cgroup"].into_iter().filter(is_zero).collect()
}

/// The caller as the machine's services know it. Below rootless engines that is not root: these run what they start as
/// root of a user namespace, where the machine's first process belongs to nobody (user_namespaces(7)).
pub fn machine_user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    let uid = rustix::process::geteuid().as_raw();
    let first = fs::metadata("/proc/1").map_or(0, |first| first.uid());
    if uid != 0 || first == 0 {
        return uid;
    }
    outside(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default(), uid).unwrap_or(uid)
}

/// An ID of a map's inside as the namespace above has it.
fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let &[inside, outside, count] = numbers.as_slice() else { return None };
        let offset = id.checked_sub(inside).filter(|offset| *offset < count)?;
        outside.checked_add(offset)
    })
}

/// The error for a mount that failed in a mount namespace of the caller's own.
pub fn explain_mount_failure(failed: Error, error: &io::Error) -> Error {
    let failed = failed.because(error);
    if error.raw_os_error() == Some(libc::EACCES) { read().explain_refused_mount(failed) } else { failed }
}

/// The error for a clone(2) or unshare(2) with CLONE_NEWUSER that failed: the kernel's few errno values
/// have many causes, so the files tell which one it was.
pub fn explain_clone_failure(error: &io::Error) -> Error {
    let privileged = rustix::process::geteuid().is_root();
    explain(error, &read(), privileged)
}

pub fn explain(error: &io::Error, state: &UserNamespaces, privileged: bool) -> Error {
    let failed = Error::new("cannot make a user namespace").because(error);
    if let Some(obstacle) = state.obstacle(privileged) {
        let mend = obstacle.mend();
        let is_command = matches!(obstacle, Obstacle::Sysctl { .. } | Obstacle::AppArmor);
        return failed.because(obstacle.reason()).hint(if is_command {
            format!("run `{mend}`")
        } else {
            mend
        });
    }
    match error.raw_os_error() {
        Some(libc::EACCES) if state.profile().is_some() => state.explain_refused_mount(failed),
        Some(libc::EPERM | libc::EACCES) if state.nested => failed
            .because("the outer container forbids it (its seccomp profile, or an ID of this process that it does not map)")
            .hint("start the outer container with `--security-opt seccomp=unconfined`, or with `--privileged`"),
        Some(libc::EPERM | libc::EACCES) => failed
            .because("a seccomp filter or a security module forbids it")
            .hint("in a container, start the outer one with `--security-opt seccomp=unconfined`; else run `sbx doctor`"),
        // EUSERS before Linux 4.9.
        Some(libc::ENOSPC | libc::EUSERS) => failed
            .because(match state.max {
                Some(max) => format!("the limit of {max} namespaces per user or of 32 nested ones is reached"),
                None => "32 nested user namespaces are the limit".to_owned(),
            })
            .hint("end containers that are not needed, or raise user.max_user_namespaces with sysctl"),
        Some(libc::EAGAIN) => failed
            .because("the limit of processes is reached (`ulimit -u`, or pids.max of the cgroup)")
            .hint("end processes that are not needed, or raise the limit"),
        // Seccomp profiles of containers answer clone3 so, to have programs fall back to a call that they can see
        // through; Linux has it since 5.3.
        Some(libc::ENOSYS) => failed
            .because("clone3 is not there: the seccomp profile of an outer container hides it, or the kernel is older than 5.3")
            .hint("start the outer container with `--security-opt seccomp=unconfined`, `--cap-add SYS_ADMIN` or `--privileged`"),
        Some(libc::EINVAL) if !state.absent.is_empty() => {
            let absent = state.absent.join(", ");
            let options: Vec<String> = state.absent.iter().map(|kind| format!("CONFIG_{}_NS", kind.to_uppercase())).collect();
            Error::new("cannot make the namespaces of the container")
                .because(format!("the kernel has none of these kinds: {absent}"))
                .hint(format!("leave out what asks for them, or run a kernel built with {}", options.join(", ")))
        }
        Some(libc::EINVAL) => failed
            .because("the kernel does not know one of the namespaces that were asked for")
            .hint("run `sbx doctor`"),
        _ => failed.hint("run `sbx doctor`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_outside_its_map() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(
            (outside(map, 0), outside(map, 5), outside(map, 65537)),
            (Some(1000), Some(100_004), None)
        );
        assert_eq!((outside("", 0), outside("0 1\n", 0)), (None, None));
    }

    fn proc(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let usual = [
            ("self/ns/cgroup", ""),
            ("self/ns/ipc", ""),
            ("self/ns/net", ""),
            ("self/ns/pid", ""),
            ("self/ns/time", ""),
            ("self/ns/user", ""),
            ("self/ns/uts", ""),
            ("self/uid_map", "         0          0 4294967295\n"),
            ("self/mountinfo", "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"),
            ("sys/user/max_user_namespaces", "96000\n"),
        ];
        for (path, text) in usual.iter().chain(files) {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn obstacle(files: &[(&str, &str)]) -> Option<Obstacle> {
        read_from(proc(files).path()).obstacle(false)
    }

    #[test]
    fn a_profile_that_forbids_mounts_is_named_with_whose_it_may_be() {
        let explain = |label: &str| {
            let state = read_from(proc(&[("self/attr/apparmor/current", label)]).path());
            let error = state.explain_refused_mount(Error::new("cannot mount"));
            format!("{}; {}", error.causes().join(": "), error.hints().join("; "))
        };
        let docker = explain("docker-default (enforce)\n");
        assert!(docker.starts_with("the AppArmor profile `docker-default` forbids it; "), "{docker}");
        assert!(docker.contains("apparmor=unconfined"), "{docker}");
        let ubuntu = explain("unprivileged_userns (enforce)\n");
        assert!(ubuntu.contains("kernel.apparmor_restrict_unprivileged_userns is 1"), "{ubuntu}");
        assert!(ubuntu.contains("doctor --apparmor-profile | sudo tee /etc/apparmor.d/sbx"), "{ubuntu}");
        for label in ["unconfined\n", "sbx (unconfined)\n", ""] {
            assert!(explain(label).starts_with("a security module forbids it"), "{label}");
        }
    }

    #[test]
    fn a_usual_host_has_no_obstacle() {
        let state = read_from(proc(&[]).path());
        assert_eq!(state.max, Some(96000));
        assert!(!state.nested && !state.chrooted && state.supported);
        assert_eq!(state.obstacle(false), None);
    }

    #[test]
    fn each_switch_is_recognised_with_its_mend() {
        let debian = obstacle(&[("sys/kernel/unprivileged_userns_clone", "0\n")]).unwrap();
        assert!(debian.mend().contains("kernel.unprivileged_userns_clone = 1"), "{}", debian.mend());
        let limit = obstacle(&[("sys/user/max_user_namespaces", "0\n")]).unwrap();
        assert!(limit.mend().contains("user.max_user_namespaces = 15000"), "{}", limit.mend());
        let chroot = obstacle(&[("self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw\n")]);
        assert_eq!(chroot, Some(Obstacle::Chroot));
        assert_eq!(obstacle(&[("sys/kernel/unprivileged_userns_clone", "1\n")]), None);
    }

    #[test]
    fn apparmor_restricts_the_unconfined_but_not_root_nor_who_has_a_profile() {
        let on = ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        assert_eq!(obstacle(&[on, ("self/attr/current", "unconfined\n")]), Some(Obstacle::AppArmor));
        assert_eq!(obstacle(&[on]), Some(Obstacle::AppArmor));
        assert_eq!(obstacle(&[on, ("self/attr/current", "sbx (unconfined)\n")]), None);
        assert_eq!(read_from(proc(&[on]).path()).obstacle(true), None);
        let off = ("sys/kernel/apparmor_restrict_unprivileged_userns", "0\n");
        assert_eq!(obstacle(&[off]), None);
    }

    #[test]
    fn kinds_with_a_limit_of_zero_are_forbidden() {
        assert!(forbidden_kinds(proc(&[("sys/user/max_net_namespaces", "10\n")]).path()).is_empty());
        assert_eq!(forbidden_kinds(proc(&[("sys/user/max_net_namespaces", "0\n")]).path()), ["net"]);
    }

    #[test]
    fn a_mapped_process_is_nested() {
        let dir = proc(&[("self/uid_map", "0 1000 1\n1 100000 65536\n")]);
        assert!(read_from(dir.path()).nested);
    }

    #[test]
    fn clone_failures_name_the_cause_that_the_files_tell() {
        let eperm = io::Error::from_raw_os_error(libc::EPERM);
        let state = read_from(proc(&[("sys/kernel/unprivileged_userns_clone", "0\n")]).path());
        let error = explain(&eperm, &state, false);
        assert!(error.to_string().contains("kernel.unprivileged_userns_clone is 0"), "{error}");
        assert!(error.hints()[0].contains("sysctl --system"));

        let usual = read_from(proc(&[]).path());
        assert!(explain(&eperm, &usual, false).to_string().contains("seccomp"));
        let enospc = io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(explain(&enospc, &usual, false).to_string().contains("96000"));
        let eagain = io::Error::from_raw_os_error(libc::EAGAIN);
        assert!(explain(&eagain, &usual, false).to_string().contains("ulimit -u"));
    }

    #[test]
    fn kinds_that_the_kernel_was_built_without_are_named() {
        let einval = io::Error::from_raw_os_error(libc::EINVAL);
        let dir = proc(&[]);
        assert!(read_from(dir.path()).absent.is_empty());
        fs::remove_file(dir.path().join("self/ns/time")).unwrap();
        let error = explain(&einval, &read_from(dir.path()), false);
        assert!(error.causes()[0].ends_with("none of these kinds: time"), "{:?}", error.causes());
        assert!(error.hints()[0].contains("CONFIG_TIME_NS"), "{:?}", error.hints());
    }
}
