//! `sbx top`: the processes of a container.

use super::harness::{Background, sbx};

/// The lines below the header, with single spaces.
fn rows(text: &str) -> Vec<String> {
    text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn processes_are_shown_with_the_containers_numbers_and_names() {
    let world = sbx();
    let web = Background::start(&world, &["--name", "web"], "sleep 999 & wait");
    web.exec(&["-d", "-u", "www-data"], &["sleep", "888"]).expect_code(0);
    let shown = world.sbx(["top", "web"]).succeed();
    let head: Vec<&str> = shown.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(head, ["USER", "PID", "PPID", "%CPU", "ELAPSED", "TTY", "TIME", "COMMAND"]);
    let shown = world.sbx(["top", "web", "user,pid,ppid", "args"]).succeed();
    assert_eq!(
        rows(&shown),
        ["root 1 0 sh -c sleep 999 & wait", "root 2 1 sleep 999", "www-data 3 0 sleep 888"]
    );
    world.sbx(["container", "top", "-l", "pid"]).expect_code(0).stdout_is("PID\n1\n2\n3\n");
    let shown = world.sbx(["top", "web", "hpid", "comm", "seccomp", "capeff", "uid", "group"]).succeed();
    let rows = rows(&shown);
    assert!(rows[0].starts_with(&format!("{} sh filter CHOWN,", web.inspect("{{.State.Pid}}"))), "{shown}");
    assert!(rows[2].ends_with(" sleep filter none 33 www-data"), "{shown}");
}

#[test]
fn every_mode_shows_the_containers_processes_and_no_others() {
    for flags in [
        &["--init"][..],
        &["--pid", "host"],
        &["--pid", "host", "--init"],
        &["--pid", "host", "--net", "private"],
        &["--pid", "host", "--id-tier", "single"],
        &["--userns", "keep-id"],
        &["--userns", "auto"],
        &["--id-tier", "single"],
    ] {
        let world = sbx();
        let other = Background::start(&world, flags, "sleep 555");
        let web = Background::start(&world, flags, "sleep 999 & wait");
        web.exec(&["-d"], &["sleep", "777"]).expect_code(0);
        let shown = world.sbx(["top", &web.id, "args"]).succeed();
        let mut rows = rows(&shown);
        rows.retain(|row| row != "sbx-init");
        rows.sort();
        assert_eq!(rows, ["sh -c sleep 999 & wait", "sleep 777", "sleep 999"], "{flags:?}");
        drop(other);
    }
}

#[test]
fn options_of_ps_are_the_containers_own() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 999 & wait");
    let shown = world.sbx(["top", &web.id, "-o", "pid,args"]).succeed();
    assert!(rows(&shown).contains(&"2 sleep 999".to_owned()), "{shown}");
    assert!(shown.contains("ps -o pid,args"), "{shown}");
}

#[test]
fn a_container_that_does_not_run_has_none() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 999");
    world.sbx(["stop", "-t", "0"]).arg(&web.id).expect_code(0);
    world.sbx(["top"]).arg(&web.id).expect_code(125).stderr_has("is not running").stdout_is("");
    world.sbx(["top", "nobody"]).expect_code(125).stderr_has("no container with the name or ID");
    world.sbx(["top"]).expect_code(125).stderr_has("no name or ID");
}
