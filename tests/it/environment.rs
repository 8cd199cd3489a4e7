//! What a caller may have set, closed, used up or taken away: sbx works all the same, or says what is missing.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use crate::harness::{Run, Sbx, rootfs, sbx, sbx_binary};

/// Words of a shell that runs `sbx run --rm --net none --rootfs … COMMAND` as `"$@"`, prepared by `script`.
fn prepared<'w>(world: &'w Sbx, script: &str, options: &[&str], command: &[&str]) -> Run<'w> {
    let words = [OsString::from("-c"), script.into(), "sh".into(), sbx_binary().into()];
    let network =
        if options.iter().any(|word| word.starts_with("--net")) { None } else { Some("--net=none") };
    let run = ["run", "--rm"].into_iter().chain(network).chain(options.iter().copied()).map(OsString::from);
    let root = [OsString::from("--rootfs"), rootfs().into()];
    let command = command.iter().map(OsString::from);
    world.program("sh").args(words.into_iter().chain(run).chain(root).chain(command))
}

#[test]
fn every_subset_of_closed_streams_is_harmless() {
    // What is closed stays so for the container: it is /dev/null there, and no descriptor of sbx takes its place.
    let command = ["sh", "-c", "cat; echo out; echo err >&2; ls -l /proc/self/fd >&2; echo done > /out/done"];
    for closed in 1..8 {
        let world = sbx();
        let volume = format!("{}:/out", world.work().display());
        let list: String = (0..3).filter(|fd| closed & 1 << fd != 0).map(|fd| format!(" {fd}>&-")).collect();
        let finished =
            prepared(&world, &format!("exec \"$@\"{list}"), &["-i", "-v", &volume], &command).expect_code(0);
        let (out, err) = (finished.stdout(), finished.stderr());
        assert_eq!(out, if closed & 2 == 0 { "out\n" } else { "" }, "closed:{list}");
        assert_eq!(err.contains("err\n"), closed & 4 == 0, "closed:{list}: {err}");
        assert!(!err.contains("sbx") && !err.contains("socket:"), "closed:{list}: {err}");
        assert_eq!(fs::read_to_string(world.work().join("done")).expect("it ran"), "done\n");
        world.assert_clean();
    }
}

#[test]
fn an_empty_environment_suffices() {
    let world = sbx();
    let store = format!("--root={}", world.directory().join("store").display());
    let script = "exec env -i \"$@\"";
    prepared(&world, script, &[&store], &["id", "-u"]).expect_code(0).stdout_is("0\n").stderr_is("");
    assert!(world.directory().join("store/containers").is_dir());
}

#[test]
fn without_a_home_the_users_entry_in_passwd_tells_where_containers_are_kept() {
    let world = sbx().env_remove("HOME").env_remove("XDG_DATA_HOME").env_remove("XDG_RUNTIME_DIR");
    prepared(&world, "exec \"$@\"", &[], &["echo", "up"]).expect_code(0).stdout_is("up\n").stderr_is("");
}

#[test]
fn an_unfit_runtime_directory_is_passed_over() {
    let world = sbx();
    let missing = world.directory().join("none");
    for unfit in [missing.as_path(), Path::new("/"), Path::new("relative"), Path::new("/etc/passwd")] {
        let run = prepared(&world, "exec \"$@\"", &["--net=slirp4netns"], &["ip", "route"]);
        run.env("XDG_RUNTIME_DIR", unfit).expect_code(0).stdout_has("default via").stderr_is("");
    }
    let run = prepared(&world, "exec \"$@\"", &["--log-level=info"], &["true"]);
    run.env("XDG_RUNTIME_DIR", "/").expect_code(0).stderr_has("XDG_RUNTIME_DIR=/ belongs to user 0");
}

#[test]
fn a_removed_working_directory_matters_to_relative_paths_alone() {
    let world = sbx();
    let script = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"";
    prepared(&world, script, &[], &["pwd"]).expect_code(0).stdout_is("/\n");
    prepared(&world, script, &["-v", ".:/mnt"], &["pwd"])
        .expect_code(125)
        .stderr_has("cannot find the working directory");
}

#[test]
fn the_callers_umask_closes_neither_the_store_nor_the_container() {
    let world = sbx();
    let command =
        ["sh", "-c", "umask; touch /x; stat -c %a /x; echo b >> /etc/hosts; stat -c %a /etc/resolv.conf"];
    for umask in ["0777", "0077", "0000"] {
        let script = format!("umask {umask}; exec \"$@\"");
        let run = prepared(&world, &script, &["--net=slirp4netns"], &command);
        run.expect_code(0).stdout_is("0022\n644\n644\n").stderr_is("");
        world.assert_clean();
    }
}

#[test]
fn few_descriptors_suffice() {
    let world = sbx();
    for driver in ["overlay", "fuse-overlayfs"] {
        let driver = format!("--storage-driver={driver}");
        let options = [driver.as_str(), "--net=slirp4netns"];
        prepared(&world, "ulimit -n 64; exec \"$@\"", &options, &["sh", "-c", "ulimit -n"])
            .expect_code(0)
            .stdout_is("64\n")
            .stderr_is("");
    }
    prepared(&world, "ulimit -n 10; exec \"$@\"", &[], &["true"]).expect_code(125).stderr_has("Error: ");
    world.assert_clean();
}

#[test]
fn where_no_process_can_be_started_that_is_said_and_nothing_is_left() {
    let world = sbx();
    // Enough for some of the processes that it takes, for none, for all but the last; others run meanwhile.
    for more in [0, 1, 2, 3, 4, 6, 8] {
        let limit = if more == 0 { 1 } else { tasks_of_this_user() + more };
        let script = format!("exec prlimit --nproc={limit} \"$@\"");
        let run = prepared(&world, &script, &[], &["echo", "up"]);
        let finished = run.finish();
        // Root has no such limit.
        if !nix::unistd::geteuid().is_root() {
            let text = finished.stderr();
            assert!(!text.contains("panicked"), "limit {limit}: {text}");
            let failed = finished.code() == 125 && text.contains("Error: ");
            assert!(failed || more > 0 && finished.code() == 0, "limit {limit}: {}: {text}", finished.code());
        }
        world.sbx(["rm", "--all"]).expect_code(0);
        world.assert_clean();
    }
}

#[test]
fn a_file_size_limit_is_an_error_and_no_death_by_a_signal() {
    let world = sbx();
    prepared(&world, "ulimit -f 0; exec \"$@\"", &[], &["true"])
        .expect_code(125)
        .stderr_has("Caused by: File too large.");
    world.assert_clean();
    // Enough for the store's own files: the container has the limit, and its default action.
    let script = "ulimit -f 64; exec \"$@\"";
    let command = ["sh", "-c", "echo up; head -c 100000 /dev/zero > /big; echo $?"];
    prepared(&world, script, &[], &command).expect_code(0).stdout_has("up\n153\n");
    world.assert_clean();
}

#[test]
fn ignored_and_blocked_signals_of_the_caller_disturb_nothing() {
    let world = sbx();
    let python = "import os, signal, sys
for number in range(1, 65):
    if number not in (9, 19, 32, 33):
        if sys.argv[1] == 'ignored':
            signal.signal(number, signal.SIG_IGN)
        else:
            signal.pthread_sigmask(signal.SIG_BLOCK, [number])
os.execv(sys.argv[2], sys.argv[2:])";
    for how in ["ignored", "blocked"] {
        let command = ["sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status; sleep 0.01; exit 7"];
        let script = format!("exec python3 -c \"{python}\" {how} \"$@\"");
        for options in [&["--net=slirp4netns"][..], &["--userns=keep-id"], &["--init"]] {
            let run = prepared(&world, &script, options, &command).expect_code(7).stderr_is("");
            let masks = run.stdout();
            for mask in masks.lines() {
                assert!(mask.ends_with("0000000000000000"), "{how} {options:?}: {masks}");
            }
        }
        world.assert_clean();
    }
}

#[test]
fn a_full_tmp_is_no_obstacle() {
    let world = sbx().env_remove("XDG_RUNTIME_DIR");
    // A /tmp of this test's own, in a mount namespace of its own.
    let script = "exec unshare --user --map-root-user --map-auto --mount sh -c '
        mount -t tmpfs -o size=64k none /tmp && { head -c 1000000 /dev/zero > /tmp/full 2>/dev/null; true; } &&
        exec \"$@\"' sh \"$@\"";
    prepared(&world, script, &[], &["echo", "up"]).expect_code(0).stdout_is("up\n");
    world.assert_clean();
}

/// What RLIMIT_NPROC counts: processes and threads.
fn tasks_of_this_user() -> usize {
    use std::os::unix::fs::MetadataExt;
    let own = nix::unistd::geteuid().as_raw();
    let processes = fs::read_dir("/proc").expect("a /proc").flatten().map(|entry| entry.path());
    processes
        .filter(|path| path.metadata().is_ok_and(|metadata| metadata.uid() == own))
        .filter_map(|path| Some(fs::read_dir(path.join("task")).ok()?.count()))
        .sum()
}

#[test]
fn the_command_may_run_on_the_processors_of_the_caller() {
    let allowed = |status: &str| -> String {
        status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).expect("a status").to_owned()
    };
    let own = allowed(&fs::read_to_string("/proc/self/status").expect("our own"));
    let first = own.split(['\t', ',', '-']).nth(1).expect("a processor");
    for (script, expected) in [
        ("exec \"$@\"".to_owned(), own.clone()),
        (format!("exec taskset -c {first} \"$@\""), format!("Cpus_allowed_list:\t{first}")),
    ] {
        let world = sbx();
        let finished = prepared(&world, &script, &[], &["cat", "/proc/self/status"]).expect_code(0);
        assert_eq!(allowed(&finished.stdout()), expected, "{script}");
        world.assert_clean();
    }
}
