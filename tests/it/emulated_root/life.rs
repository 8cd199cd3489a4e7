//! The server's own life: it ends with the container, and the container with it.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Running, Sbx, rootfs, sbx, sbx_binary};

/// A container that has recorded owners of symlinks, one of them renamed and one removed.
fn start(world: &Sbx) -> Running<'_> {
    let script = "ln -s x /l; chown -h 5:6 /l; mv /l /moved; ln -s x /gone; chown -h 5 /gone; rm /gone
                  trap 'exit 3' TERM; echo ready; sleep 100 & wait";
    let mut running = world
        .run(["--id-tier", "single", "--net", "none", "--name", "one", "--rootfs"])
        .arg(rootfs())
        .args(["sh", "-c", script])
        .spawn();
    running.wait_for_stdout("ready");
    running
}

/// The process with this name that this world started.
#[track_caller]
fn process(world: &Sbx, name: &str) -> Pid {
    let named = |pid: &Pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        comm.trim() == name
    };
    let found = world.leftovers().processes.into_iter().map(|process| process.pid).find(named);
    found.unwrap_or_else(|| panic!("no process {name}"))
}

fn owners(world: &Sbx) -> Option<String> {
    let containers = fs::read_dir(world.store().join("containers")).ok()?;
    let path = containers.flatten().next()?.path().join("owners");
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn wait_for_the_end(world: &Sbx) {
    let until = Instant::now() + Duration::from_secs(15);
    while !world.leftovers().processes.is_empty() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn without_the_server_the_container_ends_and_says_why() {
    let world = sbx();
    let running = start(&world);
    kill(process(&world, "sbx-emulate"), Signal::SIGKILL).expect("it is there");
    running.finish().code_is(137).stderr_has("the server of emulated root");
    world.sbx(["rm", "one"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn the_server_ends_with_the_monitor() {
    let world = sbx();
    let running = start(&world);
    kill(process(&world, "sbx-monitor"), Signal::SIGKILL).expect("it is there");
    drop(running.finish());
    wait_for_the_end(&world);
    let owners = owners(&world).unwrap_or_default();
    assert!(owners.contains("5:6:0777:symlink - "), "{owners:?}");
    world.sbx(["rm", "one"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn owners_of_symlinks_are_written_beside_the_containers_layer() {
    let world = sbx();
    let running = start(&world);
    // At once, so that a kill does not lose it; at the end the name of then.
    let recorded = owners(&world).unwrap_or_default();
    assert!(recorded.contains("5:6:0777:symlink - l\0"), "{recorded:?}");
    running.signal(Signal::SIGTERM);
    running.finish().code_is(3);
    assert_eq!(owners(&world).as_deref(), Some("sbx owners 1\n5:6:0777:symlink - moved\0"));
    world.sbx(["rm", "one"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn nobody_inside_sees_or_reaches_the_server() {
    let world = sbx();
    let run = |options: &[&str], script: &str| {
        let run = world.run(["--rm", "--id-tier", "single", "--net", "none"]).args(options);
        run.arg("--rootfs").arg(rootfs()).args(["sh", "-c", script]).expect_code(0).stdout()
    };
    let seen = run(&[], "cat /proc/[0-9]*/comm; ls -l /proc/[0-9]*/fd 2>/dev/null | grep seccomp; true");
    assert!(!seen.contains("sbx") && !seen.contains("seccomp"), "{seen}");
    let script = "for p in $(grep -l sbx-emulate /proc/[0-9]*/comm | cut -d/ -f3); do
                      ls /proc/$p/fd/ /proc/$p/root/ 2>&1; cat /proc/$p/environ 2>&1; dd if=/proc/$p/mem count=1 2>&1
                  done; true";
    let said = run(&["--pid", "host"], script);
    assert!(said.contains("Permission denied") && !said.contains("HOME="), "{said}");
}

#[test]
fn below_an_outer_listener_the_outer_one_serves() {
    let world = sbx();
    let store = format!("{}:/store", world.work().display());
    let binary = format!("{}:/usr/local/bin/sbx:ro", sbx_binary().display());
    let root = format!("{}:/rootfs:ro", rootfs().display());
    let run = |more: &str| {
        let script = format!(
            "XDG_RUNTIME_DIR=/tmp sbx --root /store run --rm --id-tier single --net none {more} --rootfs /rootfs \
             sh -c 'touch /x && chown 5 /x && stat -c %u /x; su user -c \"id -u\"'"
        );
        world
            .run(["--rm", "--id-tier", "single", "--privileged", "--net", "none", "--tmpfs", "/tmp"])
            .args(["--emulate-root", "always", "-v", &store, "-v", &binary, "-v", &root, "host", "sh", "-c"])
            .arg(script)
            .finish()
    };
    let said = run("").code_is(0).stdout_is("5\n1000\n").stderr();
    assert!(said.contains("system calls are answered already"), "{said}");
    run("--emulate-root always").code_is(125).stderr_has("cannot emulate root");
}
