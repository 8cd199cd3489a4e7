//! The kernel takes the filters and decides as meant. A filter holds for the thread that installs it and what
//! it starts, so that each test puts a thread of its own under one.

use std::process::Command;

use sbx::container::capabilities::{CapSet, Capability};
use sbx::container::spec::Seccomp;
use sbx::sys::seccomp::install;

/// What `command` prints and its success, under a filter, or without one.
fn under(choice: Seccomp, capabilities: CapSet, mut command: Command) -> (String, bool) {
    let run = move || {
        if let Some(program) = sbx::seccomp::program(&choice, capabilities, (6, 1)).unwrap() {
            nix::sys::prctl::set_no_new_privs().unwrap();
            install(&program).unwrap();
        }
        let output = command.env("LC_ALL", "C").output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&text).into_owned(), output.status.success())
    };
    std::thread::spawn(run).join().unwrap()
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// What the calls return, one after the other: results or negative errnos.
fn calls(choice: Seccomp, capabilities: CapSet, calls: &[String]) -> Vec<i64> {
    let mut python = command(&["/usr/bin/python3", "-c", include_str!("seccomp_kernel.py")]);
    python.args(calls);
    let (text, success) = under(choice, capabilities, python);
    assert!(success, "the calls {calls:?} were not made (is int 0x80 supported here?): {text}");
    text.lines().map(|line| line.parse().unwrap()).collect()
}

fn call(number: libc::c_long, arguments: &str) -> String {
    format!("{number}:{arguments}")
}

const EPERM: i64 = -libc::EPERM as i64;
const ENOSYS: i64 = -libc::ENOSYS as i64;

#[test]
fn default_filter_refuses_what_it_should() {
    // The first four are answered otherwise without the filter, whatever the kernel is made of.
    let asked = [
        call(libc::SYS_unshare, "0"),
        call(libc::SYS_clone3, "0,0"),
        call(libc::SYS_keyctl, "99"),
        call(libc::SYS_personality, "1"),
        call(libc::SYS_io_uring_setup, "0,0"),
        call(libc::SYS_socket, "38,5,0"),
        call(libc::SYS_socket, "0xdead00000026,5,0"),
        call(libc::SYS_mount, "1,1,1,0x1000,0"),
    ];
    let filtered = calls(Seccomp::Default, CapSet::DEFAULT, &asked);
    assert_eq!(filtered, [EPERM, ENOSYS, EPERM, EPERM, ENOSYS, EPERM, EPERM, EPERM]);
    let free = calls(Seccomp::Unconfined, CapSet::DEFAULT, &asked[..4]);
    assert!(free.iter().zip(&filtered).all(|(free, filtered)| free != filtered), "{free:?}");
}

#[test]
fn default_filter_lets_ordinary_calls_through() {
    let asked = [
        call(libc::SYS_getppid, ""),
        call(libc::SYS_personality, "0xffffffff"),
        call(libc::SYS_socket, "2,1,0"),
        call(libc::SYS_openat2, "0,0,0,0"),
    ];
    let results = calls(Seccomp::Default, CapSet::DEFAULT, &asked);
    assert!(results[0] > 0 && results[1] >= 0 && results[2] > 2, "{results:?}");
    assert_eq!(results[3], -i64::from(libc::EINVAL));
    // Threads, pipes, child processes.
    let words = ["sh", "-c", "seq 1000 | sort -R --parallel=4 | wc -l"];
    assert_eq!(under(Seccomp::Default, CapSet::DEFAULT, command(&words)), ("1000\n".into(), true));
}

#[test]
fn user_namespaces_need_sys_admin() {
    let unshare = || command(&["unshare", "--user", "true"]);
    let (text, success) = under(Seccomp::Default, CapSet::DEFAULT, unshare());
    assert!(!success && text.contains("Operation not permitted"), "{text}");
    let admin = CapSet::DEFAULT.with(Capability::SYS_ADMIN);
    assert_eq!(under(Seccomp::Default, admin, unshare()), (String::new(), true));
}

/// 310 is unshare for 32-bit programs and process_vm_readv for others, 165 getresuid and mount.
#[cfg(target_arch = "x86_64")]
#[test]
fn calls_through_int_80_are_read_in_their_own_numbering() {
    let asked = ["i386:310:0".to_owned(), "i386:165:0,0,0".to_owned(), "i386:1000:".to_owned()];
    let efault = -i64::from(libc::EFAULT);
    assert_eq!(calls(Seccomp::Unconfined, CapSet::DEFAULT, &asked), [0, efault, ENOSYS]);
    assert_eq!(calls(Seccomp::Default, CapSet::DEFAULT, &asked), [EPERM, efault, ENOSYS]);
}

#[test]
fn profiles_from_a_file_are_honoured() {
    let profile = Seccomp::Profile(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS",
             "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]}
        ]}"#
        .into(),
    );
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("made");
    let words = ["mkdir", target.to_str().unwrap()];
    let (text, success) = under(profile.clone(), CapSet::EMPTY, command(&words));
    assert!(!success && text.contains("No space left on device") && !target.exists(), "{text}");
    let kill =
        |signal| command(&["sh", "-c", &format!("exec 2>/dev/null; sh -c 'kill -{signal} $$'; echo $?")]);
    // SIGSYS by the filter, SIGUSR2 by the program's own doing.
    assert_eq!(under(profile.clone(), CapSet::EMPTY, kill(10)).0, "159\n");
    assert_eq!(under(profile, CapSet::EMPTY, kill(12)).0, "140\n");
}

#[test]
fn an_empty_program_is_refused_by_the_kernel() {
    let result = std::thread::spawn(|| {
        nix::sys::prctl::set_no_new_privs().unwrap();
        install(&[])
    });
    assert_eq!(result.join().unwrap().unwrap_err().raw_os_error(), Some(libc::EINVAL));
}
