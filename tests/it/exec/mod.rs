//! `sbx exec`: commands in containers that run.

mod inside;
mod streams;
mod terminal;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::harness::{Background, require, sbx};

/// Whether `holds` comes true within some seconds.
fn comes_true(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn the_exit_code_is_the_commands() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    for code in [0, 1, 42, 125, 255] {
        web.sh(&[], &format!("exit {code}")).expect_code(code).stderr_is("");
    }
    web.sh(&[], "kill -TERM $$").expect_code(143);
    web.exec(&[], &["no-such-command"]).expect_code(127).stderr_has("no such command on the PATH");
    web.exec(&[], &["/bin/no-such-command"]).expect_code(127).stderr_has("no such file in the container");
    web.exec(&[], &["/etc"]).expect_code(126).stderr_has("`/etc` is a directory");
    web.exec(&["-u", "nobody-knows"], &["true"])
        .expect_code(125)
        .stderr_has("no matching entries in passwd file");
    web.exec(&["-w", "/no/such/place"], &["true"])
        .expect_code(126)
        .stderr_has("cannot enter the working directory");
    web.exec(&["-w", "here"], &["true"]).expect_code(125).stderr_has("it is not an absolute path");
    world
        .sbx(["exec", "nobody", "true"])
        .expect_code(125)
        .stderr_has("no container with the name or ID `nobody`")
        .stderr_has("sbx ps -a");
    world.sbx(["exec"]).arg(&web.id).expect_code(125).stderr_has("without a command");
}

#[test]
fn containers_are_named_in_every_way() {
    let world = sbx();
    let cidfile = world.work().join("cid");
    let cidfile = cidfile.to_str().expect("a path in UTF-8");
    let web = Background::start(&world, &["--name", "web", "--cidfile", cidfile], "sleep 1000");
    for word in ["web", &web.id, &web.id[..8]] {
        world.sbx(["exec", word, "echo", "here"]).expect_code(0).stdout_is("here\n");
    }
    world.sbx(["exec", "--latest", "echo", "here"]).expect_code(0).stdout_is("here\n");
    world.sbx(["exec", "-l", "ls", "-d", "/"]).expect_code(0).stdout_is("/\n");
    world.sbx(["exec", "--cidfile", cidfile, "echo", "here"]).expect_code(0).stdout_is("here\n");
    world.sbx(["container", "exec", "web", "echo", "here"]).expect_code(0).stdout_is("here\n");
}

#[test]
fn a_container_that_does_not_run_is_told() {
    let world = sbx();
    let web = Background::start(&world, &["--name", "web"], "exit 3");
    assert!(comes_true(|| web.inspect("{{.State.Status}}") == "exited"));
    let refused = web.exec(&[], &["true"]).expect_code(255);
    refused
        .stderr_has("can only create exec sessions on running containers")
        .stderr_has("is not running")
        .stderr_has("sbx start ");
}

#[test]
fn a_command_ends_with_its_container() {
    let world = sbx();
    for flags in [&[][..], &["--pid", "host"]] {
        let web = Background::start(&world, flags, "sleep 1000");
        let mut guest = web.sh(&[], "trap '' TERM; echo here; sleep 1000 & wait; sleep 1000").spawn();
        guest.wait_for_stdout("here\n");
        world.sbx(["kill"]).arg(&web.id).expect_code(0);
        guest.finish().code_is(137);
    }
}

#[test]
fn a_detached_command_goes_on_and_its_session_is_printed() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let session = web.sh(&["-d"], "echo lost; echo begun > /tmp/begun; exec sleep 999").succeed();
    assert!(session.len() == 64 && session.bytes().all(|b| b.is_ascii_hexdigit()), "{session}");
    assert!(comes_true(|| web.exec(&[], &["ps", "-o", "args"]).succeed().contains("sleep 999")));
    web.exec(&[], &["cat", "/tmp/begun"]).expect_code(0).stdout_is("begun\n");
    web.exec(&["-d"], &["no-such-command"]).expect_code(127).stdout_is("");
}

#[test]
fn a_client_that_is_killed_leaves_its_command() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let script = "echo here; while :; do echo more; echo more >&2; sleep 0.01; done & \
                  while :; do date > /tmp/alive; sleep 0.01; done";
    let mut client = web.sh(&[], script).spawn();
    client.wait_for_stdout("here\n");
    client.signal(Signal::SIGKILL);
    let _ = client.finish();
    let look = || web.sh(&[], "ps -o args | grep -c '^sh -c echo here'; stat -c %y /tmp/alive").succeed();
    let (before, _) = (look(), std::thread::sleep(Duration::from_millis(1100)));
    let after = look();
    assert_ne!(before, after, "it does not write any more");
    let writers = after.lines().next().and_then(|count| count.parse::<u32>().ok());
    assert!(writers.is_some_and(|count| count >= 2), "what writes to the pipes has ended: {after}");
}

#[test]
fn signals_end_the_client_and_not_the_command() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let mut client = web.sh(&[], "echo here; exec sleep 998").spawn();
    client.wait_for_stdout("here\n");
    client.signal(Signal::SIGINT);
    client.finish().code_is(130);
    web.exec(&[], &["ps", "-o", "args"]).expect_code(0).stdout_has("sleep 998\n");
}

#[test]
fn many_commands_run_at_once() {
    let world = sbx();
    let web = Background::start(&world, &[], "sleep 1000");
    let running: Vec<_> =
        (0..30).map(|n| web.sh(&["-i"], &format!("cat; exit {n}")).stdin("x").spawn()).collect();
    for (code, one) in running.into_iter().enumerate() {
        let code = i32::try_from(code).expect("a small number");
        one.finish().code_is(code).stdout_is("x");
    }
}

/// The working directory is on a FUSE file system that does not answer.
#[test]
fn a_set_up_that_hangs_holds_nobody_else_up() {
    require("bindfs");
    let world = sbx();
    let (source, mount) = (world.work().join("source"), world.work().join("mount"));
    std::fs::create_dir_all(source.join("deep")).expect("a directory");
    std::fs::create_dir(&mount).expect("a directory");
    let server = world
        .program("bindfs")
        .args(["-f", "--no-allow-other", "-o", "attr_timeout=0,entry_timeout=0"])
        .args([&source, &mount])
        .spawn();
    assert!(comes_true(|| mount.join("deep").exists()));
    let volume = format!("{}:/slow", mount.display());
    let web = Background::start(&world, &["-v", &volume], "sleep 1000");
    server.signal(Signal::SIGSTOP);
    let mut stuck = web.exec(&["-w", "/slow/deep"], &["echo", "late"]).spawn();
    let gone = web.exec(&["-w", "/slow/deep"], &["touch", "/tmp/ran"]).spawn();
    std::thread::sleep(Duration::from_millis(100));
    assert!(stuck.is_running());
    let begun = Instant::now();
    web.exec(&[], &["echo", "soon"]).expect_code(0).stdout_is("soon\n");
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for the other one");
    gone.signal(Signal::SIGKILL);
    let _ = gone.finish();
    server.signal(Signal::SIGCONT);
    stuck.finish().code_is(0).stdout_is("late\n");
    std::thread::sleep(Duration::from_millis(100));
    web.exec(&[], &["ls", "/tmp"]).expect_code(0).stdout_is("");
    drop(web);
    world.program("fusermount3").arg("-u").arg(&mount).expect_code(0);
    let _ = server.finish();
}
