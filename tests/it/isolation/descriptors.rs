//! Nothing of sbx is left open, readable or writable inside: descriptors, memory, environment, binary.

use super::super::harness::{sbx, sbx_binary};
use super::{rootfs, run};

/// `ls` shows its own descriptors: the three streams and the directory that it reads.
const OWN: [&str; 2] = ["ls", "/proc/self/fd"];

#[test]
fn the_command_has_its_three_streams_alone() {
    let world = sbx();
    let root = rootfs().to_str().expect("a plain name");
    for flags in [
        &[][..],
        &["-i"],
        &["--init"],
        &["--pid", "host"],
        &["--user", "1000"],
        &["--log-driver", "none"],
        &["--log-driver", "passthrough"],
        &["--read-only"],
    ] {
        let run = world.run(["--rm", "--net", "none"]).args(flags.iter().copied());
        let shown = run.args(["--rootfs", root]).args(OWN).succeed();
        assert_eq!(shown, "0\n1\n2\n3", "{flags:?}");
    }
}

#[test]
fn open_files_of_the_caller_stay_outside() {
    let world = sbx();
    let secret = world.file("secret", "of the caller");
    let root = rootfs().to_str().expect("a plain name");
    for flags in ["", "-i", "--init", "--log-driver=passthrough", "--pid=host"] {
        let script = format!(
            "exec 7<'{}' 8<>'{}' 9</; exec '{}' run --rm --net none {flags} --rootfs '{root}' ls /proc/self/fd",
            secret.display(),
            secret.display(),
            sbx_binary().display()
        );
        assert_eq!(world.program("sh").args(["-c", &script]).succeed(), "0\n1\n2\n3", "{flags}");
    }
}

#[test]
fn a_terminal_adds_no_descriptor() {
    let world = sbx();
    let root = rootfs().to_str().expect("a plain name");
    let mut pty =
        world.pty(["run", "--rm", "-it", "--net", "none", "--rootfs", root, "ls", "-1", "/proc/self/fd"]);
    assert_eq!(pty.finish(), 0);
    assert_eq!(pty.screen().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn the_environment_of_the_caller_stays_outside() {
    let world = sbx().env("SECRET_OF_THE_CALLER", "hunter2");
    for flags in [&[][..], &["--init"], &["--privileged", "--init"]] {
        let script = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'";
        let finished = run(&world, flags, script).expect_code(0);
        let finished = finished.stdout_has("PATH=").stdout_has_not("hunter2").stdout_has_not("XDG_");
        let _ = finished.stdout_has_not(world.directory().to_str().expect("a plain name"));
    }
}

#[test]
fn the_command_line_of_init_tells_nothing_of_the_caller() {
    let world = sbx();
    let flags = ["--init", "-e", "PASSWORD=hunter2", "-v", "/usr:/mnt"];
    let shown =
        run(&world, &flags, "unset PASSWORD; tr '\\0' ' ' </proc/1/cmdline; ps -o pid,args").succeed();
    assert!(shown.contains("sbx-init"), "{shown}");
    for word in ["hunter2", "/usr:/mnt", "--rootfs", rootfs().to_str().expect("a plain name")] {
        assert!(!shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn init_gives_nothing_away() {
    let world = sbx();
    let script = "for file in exe environ mem maps auxv map_files fd cwd root stack syscall; do
        if test -d /proc/1/$file; then ls /proc/1/$file/; else head -c 1 /proc/1/$file; fi >/dev/null 2>&1 && echo $file
        if test $file != stack; then readlink /proc/1/$file; fi
        for fd in 0 1 2 3 4 5 6 7 8 9; do head -c 0 /proc/1/fd/$fd 2>/dev/null && echo fd $fd; done
        echo x >> /proc/1/exe
    done 2>/dev/null; echo end";
    for flags in [
        &["--init"][..],
        &["--init", "--privileged"],
        &["--init", "--cap-add", "SYS_PTRACE"],
        &["--init", "--user", "1000"],
    ] {
        assert_eq!(run(&world, flags, script).succeed(), "end", "{flags:?}");
    }
}

#[test]
fn processes_of_the_caller_are_closed_to_a_container_that_sees_them() {
    let world = sbx();
    let secret = world.file("secret", "hunter2");
    let own = std::process::id();
    let script = format!(
        "cd /proc/{own} && for file in environ mem maps root{0} cwd/secret fd/0; do
            head -c 1 $file >/dev/null 2>&1 && echo $file; done
        for other in /proc/[0-9]*; do cat $other/root{0}; done 2>/dev/null | head -n 1; echo end",
        secret.display()
    );
    for flags in [&["--pid", "host"][..], &["--pid", "host", "--privileged"]] {
        assert_eq!(run(&world, flags, &script).succeed(), "end", "{flags:?}");
    }
}

mod as_root {
    use std::fs;
    use std::process::Stdio;

    use super::super::super::harness::{require_root, sbx};
    use super::super::run;

    /// What nobody without root may look into.
    #[test]
    fn init_holds_nothing_open_but_streams_and_signals() {
        require_root();
        let world = sbx();
        let mut inside =
            run(&world, &["--init", "-i"], "echo ready; read line").stdin_from(Stdio::piped()).spawn();
        inside.wait_for_stdout("ready\n");
        let named = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let left = world.leftovers().to_string();
        let pid = left
            .split(|c: char| !c.is_ascii_digit())
            .find(|pid| !pid.is_empty() && named(pid) == "sbx-init\n")
            .unwrap_or_else(|| panic!("no sbx-init: {left}"));
        let open: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("the descriptors of init")
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok())
            .collect();
        assert_eq!(open.len(), 4, "{open:?}");
        for target in &open {
            assert!(target.starts_with("pipe:") || target == "anon_inode:[signalfd]", "{open:?}");
        }
        inside.close_stdin();
        let _ = inside.finish();
    }
}
