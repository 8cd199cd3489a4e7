//! The shim among several users and with files in /etc of the test's making, without root: in a user
//! namespace of the test user, whose root owns a setuid copy of the shim and an /etc of its own.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::{Kind, assert_refused, installed_shim, range_in, stderr};

/// `ann` (1000) and `ben` (1001) with a range each; `sleeper UID GID` starts a process in a new user
/// namespace and puts its ID into `pid`; `as UID GID COMMAND` runs one as that user.
const PRELUDE: &str = r#"
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd "$1"
cp "$2" newuidmap-shim; cp "$3" theirs
chmod 4755 newuidmap-shim theirs
ln -s newuidmap-shim newuidmap
mount -t tmpfs -o mode=0755 etc /etc
printf 'root:x:0:0::/:/bin/sh\nann:x:1000:1000::/:/bin/sh\nben:x:1001:1001::/:/bin/sh\n' >/etc/passwd
printf 'ann:2000:100\nben:3000:100\n' >/etc/subuid
cp /etc/subuid /etc/subgid
pid=
trap 'kill $pid 2>/dev/null || true' EXIT
sleeper() {
  setpriv --reuid "$1" --regid "$2" --clear-groups unshare --user sleep 1000 >/dev/null 2>&1 &
  pid=$!
  until [ "$(cat /proc/$pid/comm)" = sleep ]; do :; done
}
as() {
  user=$1 group=$2
  shift 2
  setpriv --reuid "$user" --regid "$group" --clear-groups "$@"
}
"#;

/// Runs `script` as root of the namespace; its exit code and standard error are those of its last command.
fn world(script: &str) -> Output {
    let range = range_in("/etc/subuid").1.min(range_in("/etc/subgid").1);
    assert!(range >= 4000, "prerequisite missing: ranges of 4000 subordinate IDs");
    let directory = TempDir::new().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Command::new("timeout")
        .args([
            "20",
            "unshare",
            "--map-root-user",
            "--map-auto",
            "--mount",
            "sh",
            "-c",
            &format!("{PRELUDE}{script}"),
            "sh",
        ])
        .arg(directory.path())
        .arg(installed_shim())
        .arg(Kind::Uid.system())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[track_caller]
fn assert_accepted(script: &str, map: &str) {
    let output = world(&format!("{script}\ncat /proc/$pid/uid_map"));
    let text: String =
        String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(output.status.success(), "{script}: {}", stderr(&output));
    assert_eq!(text, map, "{script}: {}", stderr(&output));
}

const OWN_AND_RANGE: &str = "0 1000 1 1 2000 100";

#[test]
fn a_user_maps_into_an_own_process_only() {
    let ann = "sleeper 1000 1000\nas 1000 1000 ./PROGRAM $pid 0 1000 1 1 2000 100";
    let ben = "sleeper 1000 1000\nas 1001 1001 ./PROGRAM $pid 0 1001 1 1 3000 100";
    for program in ["newuidmap", "theirs"] {
        assert_accepted(&ann.replace("PROGRAM", program), OWN_AND_RANGE);
    }
    assert_eq!(world(&ben.replace("PROGRAM", "theirs")).status.code(), Some(1));
    let output = world(&ben.replace("PROGRAM", "newuidmap"));
    assert_refused(&output, "the process belongs to user 1000, you are 1001");
}

#[test]
fn the_range_of_another_user_is_refused() {
    let case = "sleeper 1000 1000\nas 1000 1000 ./PROGRAM $pid 0 1000 1 1 3000 1";
    assert_eq!(world(&case.replace("PROGRAM", "theirs")).status.code(), Some(1));
    assert_refused(&world(&case.replace("PROGRAM", "newuidmap")), "not within your ranges in /etc/subuid");
}

#[test]
fn the_group_must_be_the_login_group_and_the_process_s() {
    for (groups, reason) in [
        (("1001", "1000"), "the process has group 1001, you have 1000"),
        (("1001", "1001"), "group 1001 is not your login group"),
    ] {
        let case = format!("sleeper 1000 {}\nas 1000 {} ./PROGRAM $pid 0 1000 1", groups.0, groups.1);
        assert_eq!(world(&case.replace("PROGRAM", "theirs")).status.code(), Some(1));
        assert_refused(&world(&case.replace("PROGRAM", "newuidmap")), reason);
    }
}

#[test]
fn a_namespace_that_another_user_made_is_refused() {
    // A process of ann's joins the namespace that ben has made: only capabilities let it in. Debian's newuidmap
    // writes here; the kernel does not let the shim look at a namespace that its caller has no power over.
    let joined = "sleeper 1001 1001; other=$pid
setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=+sys_admin,+sys_ptrace --ambient-caps=+sys_admin,+sys_ptrace \
  nsenter --user --preserve-credentials --target $other sleep 1000 >/dev/null 2>&1 &
pid=\"$! $other\"; target=$!
until [ \"$(cat /proc/$target/comm)\" = sleep ]; do :; done
as 1000 1000 ./newuidmap $target 0 1000 1";
    assert_refused(&world(joined), "cannot be looked at: Permission denied");
}

#[test]
fn owners_of_ranges_are_names_numbers_and_second_names() {
    for owner in ["ann", "1000", "nan"] {
        for program in ["newuidmap", "theirs"] {
            assert_accepted(
                &format!(
                    "echo 'nan:x:1000:1000::/:/bin/sh' >>/etc/passwd
echo '{owner}:2000:100' >/etc/subuid
sleeper 1000 1000
as 1000 1000 ./{program} $pid 0 1000 1 1 2000 100"
                ),
                OWN_AND_RANGE,
            );
        }
    }
    // Who has no entry in /etc/passwd is known by number.
    let nameless = "echo '1002:2000:100' >/etc/subuid
sleeper 1002 1002
as 1002 1002 ./newuidmap $pid 0 1002 1 1 2000 100";
    assert_accepted(nameless, "0 1002 1 1 2000 100");
}

#[test]
fn a_file_that_others_than_root_can_write_is_not_believed() {
    for file in ["/etc/subuid", "/etc/passwd"] {
        for (spoil, reason) in [
            ("chmod 0664 FILE", "can be written by others than root"),
            ("chmod 0646 FILE", "can be written by others than root"),
            ("chown 1000 FILE", "is not owned by root"),
            ("mv FILE /etc/real; ln -s real FILE", "cannot open"),
            ("rm FILE; mkfifo -m 0644 FILE", "is not a regular file"),
            ("rm FILE; mkdir FILE", "is not a regular file"),
            ("rm FILE", "cannot open"),
            ("truncate -s 16777217 FILE", "is larger than 16777216 bytes"),
            ("chmod 0 FILE", "cannot open"),
        ] {
            // setpriv itself would wait for the FIFO.
            if spoil.contains("mkfifo") && file == "/etc/passwd" {
                continue;
            }
            let spoil = spoil.replace("FILE", file);
            let output =
                world(&format!("sleeper 1000 1000\n{spoil}\nas 1000 1000 ./newuidmap $pid 0 1000 1"));
            assert_refused(&output, reason);
            assert!(stderr(&output).contains(file), "{spoil}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_false_proc_is_noticed() {
    // A tmpfs that has what is looked at, with the owner that is asked for.
    let output = world(
        "sleeper 1000 1000
mount -t tmpfs -o mode=0755 proc /proc
mkdir -p /proc/$pid/ns; touch /proc/$pid/uid_map; ln -s x /proc/$pid/exe; chown -R 1000:1000 /proc/$pid
as 1000 1000 ./newuidmap $pid 0 1000 1",
    );
    assert_refused(&output, "not in a proc file system");
}

#[test]
fn root_of_the_parent_namespace_is_mapped_by_root_alone() {
    let granted = "echo 'ann:0:10' >/etc/subuid; sleeper 1000 1000; as 1000 1000 ./newuidmap $pid 0 0 10";
    assert_refused(&world(granted), "would map root of the host");
    for program in ["newuidmap", "theirs"] {
        assert_accepted(&format!("sleeper 0 0; ./{program} $pid 0 0 1"), "0 0 1");
    }
}

#[test]
fn an_outer_container_without_the_capability_is_named() {
    for (program, capability) in [("newuidmap", "setuid"), ("newuidmap-shim", "setgid")] {
        let output = world(&format!(
            "sleeper 1000 1000
setpriv --bounding-set=-{capability} --reuid 1000 --regid 1000 --clear-groups ./{program} $pid 0 1000 1 -- 0 1000 1"
        ));
        assert_refused(&output, "an outer container has dropped it");
    }
}
