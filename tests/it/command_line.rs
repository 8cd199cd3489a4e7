//! Words, options and files of `sbx run` that shape the command, and errors of the command line.

use std::os::unix::fs::symlink;

use crate::harness::{Finished, Run, Sbx, rootfs, sbx};

/// `sbx run --rm --net none --rootfs ROOTFS WORDS…`
fn run<'w>(world: &'w Sbx, words: &[&str]) -> Run<'w> {
    world.run(["--rm", "--net", "none", "--rootfs"]).arg(rootfs()).args(words)
}

fn is_refused(run: Run<'_>, words: &str) -> Finished {
    run.expect_code(125).stdout_is("").stderr_has("Error: ").stderr_has(words)
}

#[test]
fn words_after_the_image_belong_to_the_command() {
    let world = sbx();
    world
        .run([
            "--rm",
            "--net",
            "none",
            "host",
            "echo",
            "--rm",
            "-e",
            "A=1",
            "--help",
            "--no-such-option",
            "--",
            "-x",
        ])
        .expect_code(0)
        .stdout_is("--rm -e A=1 --help --no-such-option -- -x\n");
    run(&world, &["echo", "-h", "--version", "--root", "x", "--log-level"])
        .expect_code(0)
        .stdout_is("-h --version --root x --log-level\n");
    run(&world, &["--", "echo", "-e", "x"]).expect_code(0).stdout_is("x\n");
    // The commonest slip: what follows the image is no option any more.
    world
        .run(["--rm", "--net=none", "host", "-it", "sh"])
        .expect_code(127)
        .stderr_has("cannot execute `-it`")
        .stderr_has("options stand before the image");
}

#[test]
fn words_reach_the_command_unchanged() {
    let world = sbx();
    run(&world, &["sh", "-c", "printf '<%s>' \"$@\"", "sh", "", "a b", "$HOME", "\"'\\", "*", "ä\n"])
        .expect_code(0)
        .stdout_is("<><a b><$HOME><\"'\\><*><ä\n>");
}

#[test]
fn the_environment_is_made_and_not_inherited() {
    let world = sbx().env("LEAKED", "yes");
    let text = run(&world, &["--hostname", "box", "env"]).expect_code(0).stdout();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "HOSTNAME", "PATH", "container"], "{text}");
    assert!(text.contains("HOME=/root\n") && text.contains("HOSTNAME=box"), "{text}");
    assert!(text.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"), "{text}");
}

#[test]
fn variables_come_from_files_then_from_options_and_the_last_wins() {
    let world = sbx().env("FROM_CALLER", "caller's").env("FILED", "caller's too");
    let one =
        world.file("one", "# a comment\nA=file one\nB=file one\n\n  # another\nFILED\nQUOTED=\"as it is\"\n");
    let two = world.file("two", "B=file two\nC=file two\nEMPTY=\nMISSING_HERE\n");
    let (one, two) = (one.to_str().expect("UTF-8"), two.to_str().expect("UTF-8"));
    let script =
        "echo \"$A|$B|$C|$FROM_CALLER|$FILED|$QUOTED|${EMPTY-unset}|${NOWHERE-unset}|${MISSING_HERE-unset}\"";
    run(
        &world,
        &[
            "-e",
            "C=option",
            "-e",
            "D=one",
            "-e",
            "D=two",
            "-e",
            "FROM_CALLER",
            "-e",
            "NOWHERE",
            "--env-file",
            one,
            "--env-file",
            two,
            "sh",
            "-c",
            script,
        ],
    )
    .expect_code(0)
    .stdout_is("file one|file two|option|caller's|caller's too|\"as it is\"||unset|unset\n");
    run(&world, &["-e", "D=one", "--env=D=two=three", "sh", "-c", "echo $D"])
        .expect_code(0)
        .stdout_is("two=three\n");
    run(&world, &["-e", "HOME=/elsewhere", "-e", "PATH=/bin", "sh", "-c", "echo $HOME $PATH"])
        .expect_code(0)
        .stdout_is("/elsewhere /bin\n");
}

#[test]
fn an_environment_file_that_is_broken_is_refused() {
    let world = sbx();
    let bad = world.file("bad", "A=1\nwith space=2\n");
    is_refused(run(&world, &["--env-file", bad.to_str().expect("UTF-8"), "true"]), "bad");
    is_refused(run(&world, &["--env-file", "/no/such", "true"]), "/no/such");
    is_refused(run(&world, &["-e", "=x", "true"]), "=x");
}

#[test]
fn the_working_directory_is_made_where_it_is_missing() {
    let world = sbx();
    run(&world, &["pwd"]).expect_code(0).stdout_is("/\n");
    run(&world, &["-w", "/etc", "pwd"]).expect_code(0).stdout_is("/etc\n");
    run(&world, &["-w", "/made/for/this", "sh", "-c", "pwd; touch x; ls"])
        .expect_code(0)
        .stdout_is("/made/for/this\nx\n");
    run(&world, &["--workdir", "/tmp/../var", "pwd"]).expect_code(0).stdout_is("/var\n");
    is_refused(run(&world, &["-w", "relative", "pwd"]), "not an absolute path");
    is_refused(run(&world, &["-w", "/etc/passwd", "pwd"]), "`/etc/passwd`");
}

#[test]
fn the_working_directory_is_found_inside_however_links_point() {
    let world = sbx();
    let root = world.own_rootfs();
    symlink("/etc", root.join("link")).expect("a link");
    symlink("../../../../../../../../tmp", root.join("up")).expect("a link");
    for (link, inside) in [("/link", "/etc\n"), ("/up", "/tmp\n")] {
        world
            .run(["--rm", "--net", "none", "-w", link, "--rootfs"])
            .arg(&root)
            .args(["sh", "-c", "pwd -P"])
            .expect_code(0)
            .stdout_is(inside);
    }
}

#[test]
fn the_entry_point_comes_before_the_words() {
    let world = sbx();
    run(&world, &["--entrypoint", "echo", "a", "b"]).expect_code(0).stdout_is("a b\n");
    run(&world, &["--entrypoint", "[\"echo\", \"-n\", \"first\"]", "a", "b"])
        .expect_code(0)
        .stdout_is("first a b");
    run(&world, &["--entrypoint", "", "echo", "a"]).expect_code(0).stdout_is("a\n");
    run(&world, &["--entrypoint", "pwd"]).expect_code(0).stdout_is("/\n");
    run(&world, &["--entrypoint", "a b", "c"]).expect_code(127);
    is_refused(run(&world, &["--entrypoint", ""]), "no command specified");
    is_refused(run(&world, &["--entrypoint", "[\"echo\"", "a"]), "--entrypoint");
    is_refused(run(&world, &["--entrypoint", "[1]", "a"]), "--entrypoint");
}

#[test]
fn a_name_is_taken_while_its_container_is_kept() {
    let world = sbx();
    let keep = |name| world.run(["--name", name, "--net", "none", "--rootfs"]).arg(rootfs()).arg("true");
    keep("once").expect_code(0);
    let finished = is_refused(keep("once"), "the container name \"once\" is already in use by container \"");
    assert!(finished.stderr().contains("Hint: "), "no way out is told: {}", finished.stderr());
    for _ in 0..2 {
        run(&world, &["--name", "again", "true"]).expect_code(0);
    }
    for name in ["", "-x", "a b", "a/b", "ä", ".x"] {
        is_refused(run(&world, &[&format!("--name={name}"), "true"]), "name");
    }
    assert_eq!(std::fs::read_dir(world.store().join("containers")).expect("the store").count(), 1);
}

#[test]
fn the_file_with_the_id_goes_with_the_container() {
    let world = sbx();
    let file = world.work().join("id");
    let path = file.to_str().expect("UTF-8");
    let volume = format!("{}:/shown", world.work().display());
    let seen = run(&world, &["--cidfile", path, "-v", &volume, "cat", "/shown/id"]).succeed();
    assert!(seen.len() == 64 && seen.bytes().all(|byte| byte.is_ascii_hexdigit()), "{seen}");
    assert!(!file.exists(), "the container is removed, and the file is there");

    world.run(["--cidfile", path, "--net", "none", "--rootfs"]).arg(rootfs()).arg("true").expect_code(0);
    let id = std::fs::read_to_string(&file).expect("the container is kept, and so is the file");
    assert!(world.store().join("containers").join(&id).is_dir());

    let refused = is_refused(run(&world, &["--cidfile", path, "true"]), "container ID file found");
    assert!(refused.stderr().contains("Hint: "), "{}", refused.stderr());
    assert_eq!(std::fs::read_to_string(&file).expect("it is untouched"), id);

    std::fs::remove_file(&file).expect("the file");
    run(&world, &["--cidfile", path, "no-such-command"]).expect_code(127);
    assert!(!file.exists(), "the container never ran, and the file is there");
    is_refused(run(&world, &["--cidfile", "/no/such/directory/id", "true"]), "/no/such/directory/id");
}

#[test]
fn a_removed_container_leaves_nothing_and_a_kept_one_its_record() {
    let world = sbx();
    run(&world, &["sh", "-c", "mkdir -p /a/b; chmod 0 /a/b; chown 33:33 /a"]).expect_code(0);
    world.assert_clean();
    world
        .run(["--name", "kept", "--net", "none", "--rootfs"])
        .arg(rootfs())
        .args(["sh", "-c", "exit 3"])
        .expect_code(3);
    let id = std::fs::read_link(world.store().join("names/kept")).expect("the name");
    assert!(world.store().join("containers").join(id).is_dir());
}

#[test]
fn the_file_mode_mask_is_the_commands() {
    let world = sbx();
    run(&world, &["sh", "-c", "umask"]).expect_code(0).stdout_is("0022\n");
    for (given, shown) in [("0077", "0077\n"), ("27", "0027\n"), ("0", "0000\n")] {
        run(&world, &["--umask", given, "sh", "-c", "umask"]).expect_code(0).stdout_is(shown);
    }
    for bad in ["8", "1777", "x", ""] {
        is_refused(run(&world, &["--umask", bad, "true"]), "--umask");
    }
}

#[test]
fn stop_signals_are_words_or_numbers() {
    let world = sbx();
    for good in ["TERM", "SIGKILL", "sigusr1", "9", "RTMIN+3"] {
        run(&world, &["--stop-signal", good, "true"]).expect_code(0);
    }
    for bad in ["NOSUCH", "0", "65", "-1", ""] {
        is_refused(run(&world, &[&format!("--stop-signal={bad}"), "true"]), "--stop-signal");
    }
}

#[test]
fn labels_and_annotations_are_kept_with_the_container() {
    let world = sbx();
    world
        .run([
            "--name",
            "marked",
            "-l",
            "plain",
            "--label",
            "key=a=b",
            "--annotation",
            "note=text",
            "--net",
            "none",
        ])
        .arg("--rootfs")
        .arg(rootfs())
        .arg("true")
        .expect_code(0);
    let id = std::fs::read_link(world.store().join("names/marked")).expect("the name");
    let directory = world.store().join("containers").join(id);
    let spec = std::fs::read_dir(&directory)
        .expect("the container")
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .find_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok()?.get("labels").map(|_| text))
        .expect("a record with labels");
    let spec: serde_json::Value = serde_json::from_str(&spec).expect("JSON");
    assert_eq!(spec["labels"], serde_json::json!({ "key": "a=b", "plain": "" }));
    assert_eq!(spec["annotations"], serde_json::json!({ "note": "text" }));
    is_refused(run(&world, &["--label", "=x", "true"]), "--label");
}

#[test]
fn warnings_are_silenced_and_more_is_told_on_request() {
    let world = sbx();
    let said = |options: &[&str]| {
        let command = ["--net", "host", "-p", "8080:80", "host", "true"];
        let run = world.run(options.iter().chain(&["--rm"]).chain(&command));
        run.expect_code(0).stdout_is("").stderr()
    };
    assert!(said(&[]).starts_with("Warning: "), "{}", said(&[]));
    assert_eq!(said(&["--quiet"]), "");
    assert_eq!(said(&["-q"]), "");
    assert_eq!(said(&["--log-level", "error"]), "");
    assert_eq!(said(&["--log-level=fatal"]), "");
    assert_eq!(said(&["--log-level", "warning"]), said(&["--log-level", "WARN"]));
    let bad = is_refused(run(&world, &["--log-level", "loud", "true"]), "--log-level loud");
    assert!(bad.stderr().contains("error, warn, info, debug, trace"), "{}", bad.stderr());
    // Before the command, too, as podman has it.
    world.sbx(["--log-level", "error", "run", "--rm", "--net", "none", "host", "true"]).expect_code(0);
}

#[test]
fn an_unknown_option_is_told_with_what_is_like_it() {
    let world = sbx();
    let refused = is_refused(world.run(["--no-such-option", "host", "true"]), "no option `--no-such-option`");
    assert!(refused.stderr().contains("sbx run --help"), "{}", refused.stderr());
    is_refused(world.run(["--volum", "/a:/b", "host", "true"]), "there is `--volume`");
    is_refused(world.run(["-Z", "host", "true"]), "no option `-Z`");
    is_refused(world.sbx(["--no-such-option", "run"]), "no option `--no-such-option`");
}

#[test]
fn an_unknown_command_is_told_with_what_is_like_it() {
    let world = sbx();
    let refused = is_refused(world.sbx(["runn", "host", "true"]), "there is no command `runn`");
    assert!(refused.stderr().contains("there is `run`"), "{}", refused.stderr());
    is_refused(world.sbx(["no-such-command"]), "`sbx --help`");
    is_refused(world.sbx(["help", "no-such-command"]), "`sbx --help`");
}

#[test]
fn commands_of_podman_that_are_not_there_say_why() {
    let world = sbx();
    for command in ["kube", "manifest", "compose", "mount", "checkpoint"] {
        let refused = is_refused(world.sbx([command, "x"]), &format!("there is no command `{command}`"));
        assert!(refused.stderr().contains("Caused by: "), "{command}: {}", refused.stderr());
    }
}

#[test]
fn flags_may_have_their_value_written() {
    let world = sbx();
    run(&world, &["--interactive=true", "cat"]).stdin("x").expect_code(0).stdout_is("x");
    run(&world, &["-i=false", "cat"]).stdin("x").expect_code(0).stdout_is("");
    run(&world, &["-it=0", "sh", "-c", "cat; test ! -t 0"]).stdin("x").expect_code(0).stdout_is("x");
    run(&world, &["--read-only", "--read-only-tmpfs", "true"]).expect_code(0);
    is_refused(run(&world, &["--init=maybe", "true"]), "`--init`");
    let kept = run(&world, &["--rm=false", "true", "--rm=true"]).expect_code(0);
    drop(kept);
    world.sbx(["ps", "-aq"]).expect_code(0).stdout_has("\n");
}

#[test]
fn options_of_podman_that_are_not_there_say_why() {
    let world = sbx();
    for option in [
        "--memory-swappiness=10",
        "--oom-kill-disable",
        "--cpu-rt-period",
        "--cpu-count",
        "--device-cgroup-rule",
        "--health-startup-cmd",
        "--link-local-ip",
        "--systemd",
        "--gpus",
    ] {
        let refused = is_refused(world.run([option, "host", "true"]), "is not supported");
        assert!(refused.stderr().contains("Caused by: "), "{option}: {}", refused.stderr());
    }
    // The last of a bundle of short options takes a value.
    is_refused(world.run(["-itm", "host", "true"]), "size of `--memory`: `host`");
}

#[test]
fn wrong_values_name_option_and_value() {
    let world = sbx();
    for (option, value, way_out) in [
        ("--userns", "bogus", "keep-id"),
        ("--uidmap", "x", "CONTAINER:FROM"),
        ("--id-tier", "x", "range, root, single"),
        ("--storage-driver", "x", "auto, fuse-overlayfs, overlay"),
        ("--log-driver", "x", "k8s-file, json-file, none, passthrough"),
        ("--stop-timeout", "x", "such as `90`"),
        ("--timeout", "-1", "such as `90`"),
        ("--oom-score-adj", "5000", "1000"),
    ] {
        let refused = is_refused(world.run([&format!("{option}={value}"), "host", "true"]), value);
        assert!(refused.stderr().contains(way_out), "{option}: {}", refused.stderr());
    }
    is_refused(world.run(["--rootfs"]), "`--rootfs` needs a value");
    is_refused(world.run(["--rm=perhaps", "host", "true"]), "--rm");
    is_refused(world.run(["--rootfs", "/a", "--rootfs-rw", "/b", "true"]), "--rootfs-rw");
}

#[test]
fn words_that_are_not_text_are_refused_not_mangled() {
    use std::os::unix::ffi::OsStrExt;
    let world = sbx();
    let noise = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    world
        .run(["--rm", "--net", "none", "host", "echo"])
        .arg(noise)
        .expect_code(125)
        .stdout_is("")
        .stderr_has("UTF-8");
}

#[test]
fn errors_below_a_group_of_commands_name_the_whole_command() {
    let world = sbx();
    is_refused(world.sbx(["image", "exists"]), "`sbx image exists` needs IMAGE");
    is_refused(world.sbx(["image", "nosuch"]), "`sbx image --help` lists the commands");
    is_refused(world.sbx(["pull", "--tls-verify=maybe", "x"]), "cannot use `--tls-verify maybe`");
    is_refused(world.sbx(["search", ""]), "cannot search for nothing");
    is_refused(world.run(["--rmi", "host", "true"]), "until `sbx rmi`");
    is_refused(world.sbx(["pull", "--signature-policy=x", "x"]), "signatures are not verified");
}

#[test]
fn the_help_of_every_command_has_examples() {
    fn walk(world: &Sbx, words: &[&str], without: &mut Vec<String>) -> usize {
        let help = world.sbx(words.iter().chain(&["--help"])).succeed();
        if !help.contains("Examples:\n") {
            without.push(words.join(" "));
        }
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
        let verbs = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
        let verbs =
            verbs.filter(|line| !line.starts_with([' ', '-'])).filter_map(|line| line.split(' ').next());
        verbs
            .filter(|verb| *verb != "help")
            .map(|verb| walk(world, &[words, &[verb]].concat(), without))
            .sum::<usize>()
            + 1
    }
    let mut without = Vec::new();
    let seen = walk(&sbx(), &[], &mut without);
    assert!(seen > 100, "only {seen} commands were found");
    assert!(without.is_empty(), "without examples: {without:?}");
}

#[test]
fn words_that_are_missing_are_named() {
    let world = sbx();
    world.sbx(["exec"]).expect_code(125).stderr_has("`sbx exec CONTAINER COMMAND`");
    world.sbx(["exec", "web"]).expect_code(125).stderr_has("`sbx exec CONTAINER COMMAND`");
}
