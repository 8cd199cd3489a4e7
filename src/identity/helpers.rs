//! The set-user-ID helpers that write maps for an unprivileged caller: which there are, and which can work.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use super::caller::{CAP_SETGID, CAP_SETUID};
use super::{Caller, Host, MapWriter, Obstacle};

const SET_USER_ID: u32 = 0o4000;

/// What keeps a helper from working, found without starting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// The caller may not execute it.
    NotExecutable,
    /// Neither the set-user-ID bit nor a file capability.
    NoPrivilege,
    /// The set-user-ID bit of a user that is not root here: in an outer container, root may be unmapped.
    NotRoots(u32),
    /// The mount ignores both (mount(8), nosuid).
    NosuidMount,
}

impl Flaw {
    fn obstacle(self, helper: &Path, needs: &[u32]) -> Obstacle {
        let path = helper.display();
        match self {
            Self::NotExecutable => Obstacle::new(format!("`{path}` may not be executed by the caller"))
                .mend(format!("as root, `chmod 4755 {path}`, or join the group that may execute it")),
            Self::NoPrivilege => Obstacle::new(format!(
                "`{path}` has neither the set-user-ID bit nor a file capability"
            ))
            .mend(format!(
                "as root, `setcap {}+ep {path}` or `chown root {path} && chmod 4755 {path}`",
                names(needs)
            )),
            Self::NotRoots(owner) => Obstacle::new(format!(
                "`{path}` has the set-user-ID bit of user {owner}, who is not root here"
            ))
            .mend(format!(
                "as root, `chown root {path} && chmod 4755 {path}`; where root is not mapped, none can help"
            )),
            Self::NosuidMount => Obstacle::new(format!(
                "`{path}` is on a file system mounted nosuid, which takes its privilege away"
            ))
            .mend("install it on a file system that is mounted without nosuid"),
        }
    }
}

fn names(capabilities: &[u32]) -> String {
    let names: Vec<&str> =
        capabilities.iter().map(|cap| if *cap == CAP_SETUID { "cap_setuid" } else { "cap_setgid" }).collect();
    names.join(",")
}

/// Looks at one helper: may it be executed, and would it be privileged? `needs` are the capabilities it must get.
pub fn inspect(helper: &Path, needs: &[u32]) -> Result<(), Flaw> {
    let Ok(status) = helper.metadata() else { return Err(Flaw::NotExecutable) };
    if !status.is_file() {
        return Err(Flaw::NotExecutable);
    }
    if rustix::fs::statvfs(helper).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOSUID)) {
        return Err(Flaw::NosuidMount);
    }
    if rustix::fs::access(helper, Access::EXEC_OK).is_err() {
        return Err(Flaw::NotExecutable);
    }
    let set_user_id = status.mode() & SET_USER_ID != 0;
    let granted = if set_user_id && status.uid() == 0 { u64::MAX } else { file_capabilities(helper) };
    if needs.iter().all(|capability| granted >> capability & 1 == 1) {
        return Ok(());
    }
    // An owner that is not mapped here shows as the overflow ID, and the kernel ignores the bit then.
    Err(if set_user_id { Flaw::NotRoots(status.uid()) } else { Flaw::NoPrivilege })
}

fn file_capabilities(path: &Path) -> u64 {
    let mut value = [0u8; 24];
    match rustix::fs::getxattr(path, c"security.capability", &mut value) {
        Ok(length) => permitted_capabilities(&value[..length]),
        Err(_) => 0,
    }
}

/// The permitted set of a `security.capability` attribute (linux/capability.h, struct vfs_ns_cap_data), 0 if
/// it is of no known form. Of revision 3 only those with the root user of this very namespace count.
pub fn permitted_capabilities(value: &[u8]) -> u64 {
    const REVISION_MASK: u32 = 0xff00_0000;
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    let word = |index: usize| {
        value.get(4 * index..4 * index + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    };
    let (Some(magic), Some(low), Some(high)) = (word(0), word(1), word(3)) else { return 0 };
    let known = match (magic & REVISION_MASK, value.len()) {
        (REVISION_2, 20) => true,
        (REVISION_3, 24) => word(5) == Some(0),
        _ => false,
    };
    if known { u64::from(high) << 32 | u64::from(low) } else { 0 }
}

/// The way to write the maps of a range: sbx's own helper in one start where an administrator installed it,
/// else the system's two. Failing both, everything that is in the way.
/// The notes are about what was passed over.
pub fn find_writer(host: &Host, caller: &Caller) -> Result<(MapWriter, Vec<String>), Vec<Obstacle>> {
    let mut obstacles = caller_obstacles(caller);
    let both = [CAP_SETUID, CAP_SETGID];
    let mut notes = Vec::new();
    match pick(host.shim_candidates(), &both) {
        Found::Usable(shim) if obstacles.is_empty() => return Ok((MapWriter::Shim(shim), notes)),
        Found::Flawed(obstacle) => notes.push(format!("newuidmap-shim is not used: {obstacle}")),
        Found::Usable(_) | Found::Nothing => {}
    }
    let mut system = |name: &str, capability: u32| match pick(host.program_candidates(name), &[capability]) {
        Found::Usable(helper) => Some(helper),
        Found::Flawed(obstacle) => {
            obstacles.push(obstacle);
            None
        }
        Found::Nothing => {
            obstacles.push(Obstacle::new(format!("`{name}` is not installed")).mend(
                "as root, `apt install uidmap` (Debian, Ubuntu), `dnf install shadow-utils` (Fedora, RHEL), or `scripts/install-helpers` of sbx",
            ));
            None
        }
    };
    let (newuidmap, newgidmap) = (system("newuidmap", CAP_SETUID), system("newgidmap", CAP_SETGID));
    obstacles.extend(system_helper_obstacle(caller));
    match (newuidmap, newgidmap) {
        (Some(newuidmap), Some(newgidmap)) if obstacles.is_empty() => {
            Ok((MapWriter::TwoHelpers { newuidmap, newgidmap }, notes))
        }
        _ => {
            obstacles.extend(notes.into_iter().map(Obstacle::new));
            Err(obstacles)
        }
    }
}

/// What keeps every helper from working, whichever it is.
pub fn caller_obstacles(caller: &Caller) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if caller.no_new_privs {
        obstacles.push(
            Obstacle::new("the caller may not gain privileges (no_new_privs is set), so that no helper gets its own")
                .mend("start sbx without NoNewPrivileges=yes of its service or `--security-opt no-new-privileges` of the outer container"),
        );
    }
    for (capability, name) in [(CAP_SETUID, "CAP_SETUID"), (CAP_SETGID, "CAP_SETGID")] {
        if !caller.may_gain(capability) {
            obstacles.push(
                Obstacle::new(format!(
                    "the outer container has no {name}, so that no helper can map a range"
                ))
                .mend(format!("start the outer container with `--cap-add {}`", &name["CAP_".len()..])),
            );
        }
    }
    obstacles
}

/// newuidmap and newgidmap compare the group of the process with the user's primary group.
fn system_helper_obstacle(caller: &Caller) -> Option<Obstacle> {
    let primary = caller.passwd_gid.filter(|gid| *gid != caller.gid)?;
    Some(
        Obstacle::new(format!(
            "the caller's group is {} while the primary group of {} is {primary}, which newuidmap refuses",
            caller.gid,
            caller.describe()
        ))
        .mend("leave the shell that `newgrp` or `sg` started"),
    )
}

enum Found {
    Usable(PathBuf),
    /// The first that is there, and what is wrong with it.
    Flawed(Obstacle),
    Nothing,
}

fn pick(candidates: impl Iterator<Item = PathBuf>, needs: &[u32]) -> Found {
    let mut found = Found::Nothing;
    for candidate in candidates.filter(|path| path.exists()) {
        match inspect(&candidate, needs) {
            Ok(()) => return Found::Usable(candidate),
            Err(flaw) if matches!(found, Found::Nothing) => {
                found = Found::Flawed(flaw.obstacle(&candidate, needs));
            }
            Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::caller::tests::bob;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn attribute(revision: u32, permitted: u64, root: Option<u32>) -> Vec<u8> {
        let mut words = vec![revision | 1, permitted as u32, 0, (permitted >> 32) as u32, 0];
        words.extend(root);
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn fake(dir: &Path, name: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn host(dir: &Path) -> Host {
        Host { path: vec![dir.to_owned()], shim_dirs: vec![dir.join("libexec")], ..Host::system() }
    }

    fn reasons(obstacles: &[Obstacle]) -> String {
        obstacles.iter().map(|obstacle| format!("{obstacle}\n")).collect()
    }

    #[test]
    fn file_capabilities_are_read_of_both_revisions() {
        let setuid = 1 << CAP_SETUID;
        assert_eq!(permitted_capabilities(&attribute(0x0200_0000, setuid, None)), setuid);
        assert_eq!(
            permitted_capabilities(&attribute(0x0300_0000, setuid | 1 << 40, Some(0))),
            setuid | 1 << 40
        );
        assert_eq!(
            permitted_capabilities(&attribute(0x0300_0000, setuid, Some(1000))),
            0,
            "another namespace's root"
        );
        assert_eq!(permitted_capabilities(&attribute(0x0200_0000, setuid, Some(0))), 0, "wrong length");
        assert_eq!(permitted_capabilities(&attribute(0x0100_0000, setuid, None)), 0);
        assert_eq!(permitted_capabilities(&[]), 0);
        assert_eq!(permitted_capabilities(&[1; 7]), 0);
    }

    #[test]
    fn a_copy_of_a_helper_has_lost_its_privilege() {
        let system = ["/usr/bin/newuidmap", "/bin/newuidmap"].map(PathBuf::from);
        let original =
            system.iter().find(|path| path.exists()).expect("this test needs newuidmap (package uidmap)");
        assert_eq!(inspect(original, &[CAP_SETUID]), Ok(()));
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("newuidmap");
        std::fs::copy(original, &copy).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(inspect(&copy, &[CAP_SETUID]), Err(Flaw::NoPrivilege));
    }

    #[test]
    fn the_bit_counts_only_as_roots() {
        let dir = tempfile::tempdir().unwrap();
        let helper = fake(dir.path(), "newuidmap", 0o4755);
        if rustix::process::getuid().is_root() {
            std::os::unix::fs::chown(&helper, Some(1), None).unwrap();
            std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o4755)).unwrap();
        }
        let owner = std::fs::metadata(&helper).unwrap().uid();
        assert_ne!(owner, 0);
        assert_eq!(inspect(&helper, &[CAP_SETUID]), Err(Flaw::NotRoots(owner)));
        assert_eq!(inspect(&fake(dir.path(), "plain", 0o644), &[CAP_SETUID]), Err(Flaw::NotExecutable));
        assert_eq!(inspect(dir.path(), &[CAP_SETUID]), Err(Flaw::NotExecutable));
        assert_eq!(inspect(&dir.path().join("none"), &[CAP_SETUID]), Err(Flaw::NotExecutable));
    }

    #[test]
    fn a_nosuid_mount_is_told_from_a_lost_bit() {
        let dir = tempfile::tempdir().unwrap();
        let inside = "mount -t tmpfs -o nosuid none \"$0\" && cp /bin/true \"$0/helper\" && exec \"$@\"";
        let look = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", inside])
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "identity::helpers::tests::looks_at_a_nosuid_mount"])
            .env("SBX_TEST_HELPER", dir.path().join("helper"))
            .output()
            .expect("this test needs unshare (package util-linux)");
        assert!(String::from_utf8_lossy(&look.stdout).contains("1 passed"), "{look:?}");
    }

    #[test]
    #[ignore = "no test by itself: the one above starts it where a mount is nosuid"]
    fn looks_at_a_nosuid_mount() {
        let helper = std::env::var_os("SBX_TEST_HELPER").expect("started by the test above");
        assert_eq!(inspect(Path::new(&helper), &[CAP_SETUID]), Err(Flaw::NosuidMount));
    }

    #[test]
    fn a_missing_and_a_powerless_helper_are_each_named() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), "newgidmap", 0o755);
        let obstacles = find_writer(&host(dir.path()), &bob()).unwrap_err();
        let text = reasons(&obstacles);
        assert!(text.contains("`newuidmap` is not installed"), "{text}");
        assert!(text.contains("newgidmap` has neither the set-user-ID bit nor a file capability"), "{text}");
        assert!(obstacles[1].mend.as_ref().unwrap().contains("setcap cap_setgid+ep"), "{obstacles:?}");
    }

    #[test]
    fn an_own_helper_without_privilege_is_passed_over_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("libexec")).unwrap();
        fake(&dir.path().join("libexec"), "newuidmap-shim", 0o755);
        let host = Host { shim_dirs: vec![dir.path().join("libexec")], ..Host::system() };
        let (writer, notes) = find_writer(&host, &bob()).expect("this test needs newuidmap and newgidmap");
        assert!(matches!(writer, MapWriter::TwoHelpers { .. }));
        assert!(notes[0].starts_with("newuidmap-shim is not used"), "{notes:?}");
    }

    #[test]
    fn what_the_caller_lacks_is_named_before_any_helper() {
        let powerless = Caller { bounding: !(1 << CAP_SETUID), no_new_privs: true, ..bob() };
        let text = reasons(&find_writer(&Host::system(), &powerless).unwrap_err());
        assert!(text.contains("no_new_privs is set"), "{text}");
        assert!(text.contains("the outer container has no CAP_SETUID"), "{text}");
        assert!(!text.contains("CAP_SETGID"), "{text}");
    }

    #[test]
    fn a_shell_of_newgrp_is_named() {
        let text = reasons(&find_writer(&Host::system(), &Caller { gid: 27, ..bob() }).unwrap_err());
        assert!(
            text.contains("the caller's group is 27 while the primary group of `bob` (user ID 1000) is 1000"),
            "{text}"
        );
    }
}
