//! The filter of system calls: the default one, none, and profiles in docker's format.

use std::path::PathBuf;

use super::super::harness::{Sbx, sbx};
use super::{run, run_on_host_image};

#[test]
fn a_filter_is_in_force_by_default() {
    let world = sbx();
    let script = "sed -n 's/^Seccomp:.//p' /proc/self/status";
    for (flags, mode) in [
        (&[][..], "2"),
        (&["--user", "1000"], "2"),
        (&["--cap-add", "ALL"], "2"),
        (&["--security-opt", "seccomp=unconfined"], "0"),
        (&["--privileged"], "0"),
    ] {
        assert_eq!(run(&world, flags, script).succeed(), mode, "{flags:?}");
    }
    assert_eq!(run(&world, &["--init"], "sed -n 's/^Seccomp:.//p' /proc/1/status").succeed(), "2");
}

#[test]
fn user_namespaces_need_the_capability_or_no_filter() {
    let world = sbx();
    let script = "unshare -U echo made";
    run(&world, &[], script).expect_code(1).stderr_has("Operation not permitted");
    for flags in [["--cap-add", "SYS_ADMIN"], ["--security-opt", "seccomp=unconfined"]] {
        assert_eq!(run(&world, &flags, script).succeed(), "made", "{flags:?}");
    }
}

/// errno of keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING), 0 for none.
fn keyctl() -> String {
    format!(
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); \
         print(ctypes.get_errno() if libc.syscall({}, 0, -3, 0) < 0 else 0)",
        libc::SYS_keyctl
    )
}

#[test]
fn keyrings_are_out_of_reach_by_default() {
    let world = sbx();
    let keyctl = keyctl();
    let eperm = libc::EPERM.to_string();
    assert_eq!(run_on_host_image(&world, &[], &["python3", "-c", &keyctl]).succeed(), eperm);
    let flags = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(run_on_host_image(&world, &flags, &["python3", "-c", &keyctl]).succeed(), "0");
}

const NOT_THERE: &str = r#""action":"SCMP_ACT_ERRNO","errnoRet":38"#;
const KILLED: &str = r#""action":"SCMP_ACT_KILL_PROCESS""#;

/// A profile that allows everything but `names`.
fn forbidding(world: &Sbx, names: &[&str], action: &str) -> PathBuf {
    let names = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":[{names}],{action}}}]}}"#);
    world.file("profile.json", text)
}

fn option(profile: &std::path::Path) -> String {
    format!("seccomp={}", profile.display())
}

#[test]
fn a_profile_of_the_users_own_is_honoured() {
    let world = sbx();
    let option = option(&forbidding(&world, &["mkdir", "mkdirat"], NOT_THERE));
    run(&world, &["--security-opt", &option], "mkdir /tmp/x")
        .expect_code(1)
        .stderr_has("Function not implemented");
    run(&world, &["--security-opt", &option], "unshare -U true").succeed();
}

#[test]
fn a_broken_profile_is_refused_before_anything_starts() {
    let world = sbx();
    for (text, reason) in [
        ("", "seccomp profile"),
        ("{", "seccomp profile"),
        (r#"{"defaultAction":"SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
        (r#"{"syscalls":[]}"#, "defaultAction"),
    ] {
        let option = option(&world.file("profile.json", text));
        run(&world, &["--security-opt", &option], "true").expect_code(125).stderr_has(reason);
        assert!(world.leftovers().is_empty(), "{text}: {}", world.leftovers());
    }
    let directory = format!("seccomp={}", world.work().display());
    run(&world, &["--security-opt", &directory], "true").expect_code(125).stderr_has("seccomp profile");
    run(&world, &["--security-opt", "seccomp=/no/such"], "true").expect_code(125).stderr_has("No such file");
}

#[test]
fn what_sbx_does_last_needs_no_leave_of_the_profile() {
    let world = sbx();
    let late = [
        "capset",
        "setresuid",
        "setresgid",
        "setgroups",
        "chdir",
        "prctl",
        "close_range",
        "umask",
        "rt_sigaction",
        "rt_sigprocmask",
        "keyctl",
        "fchdir",
        "mount",
        "openat",
    ];
    for name in late {
        let option = option(&forbidding(&world, &[name], KILLED));
        let root = super::rootfs().to_str().expect("a plain name");
        for flags in [&[][..], &["--user", "1000"], &["--security-opt", "no-new-privileges"]] {
            let run = world.run(["--rm", "--net", "none", "--security-opt", &option, "-w", "/tmp"]);
            // Not a shell: it would use some of these itself.
            let finished =
                run.args(flags.iter().copied()).args(["--rootfs", root, "/bin/busybox", "true"]).finish();
            let own = ["prctl", "rt_sigaction", "rt_sigprocmask", "setresuid", "setresgid"].contains(&name);
            let fine = finished.code() == 0 || own && finished.code() == 159;
            assert!(fine, "{name} {flags:?}: {} {}", finished.code(), finished.stderr());
        }
    }
}

#[test]
fn a_profile_that_forbids_the_exec_itself_is_an_error_that_says_so() {
    let world = sbx();
    let refused = option(&forbidding(&world, &["execve", "execveat"], NOT_THERE));
    run(&world, &["--security-opt", &refused], "true")
        .expect_code(126)
        .stderr_has("cannot execute `sh`")
        .stderr_has("Function not implemented")
        .stderr_has("seccomp profile");
    let killed = option(&forbidding(&world, &["execve", "execveat"], KILLED));
    run(&world, &["--security-opt", &killed], "true").expect_code(159).stderr_has("seccomp profile");
}
