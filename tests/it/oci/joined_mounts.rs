//! Mount namespaces that are joined by their paths: the container is in them, and the others there keep what is theirs.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use super::{Bundle, behind, content_of, status, wait_for};
use crate::harness::{Running, Sbx, require, rootfs, sbx, sbx_binary};

/// A process with a user and a mount namespace, which has mounted something.
pub(super) struct Holder<'w> {
    process: Running<'w>,
}

impl<'w> Holder<'w> {
    fn new(world: &'w Sbx, propagation: &str) -> Self {
        Self::start(world, &["--user", "--map-root-user", "--mount", "--propagation", propagation])
    }

    pub(super) fn start(world: &'w Sbx, options: &[&str]) -> Self {
        require("unshare");
        let script = "mount -t tmpfs theirs /mnt && mkdir /mnt/dir && echo ready && exec sleep 999";
        let mut process = world.program("unshare").args(options).args(["sh", "-c", script]).spawn();
        process.wait_for_stdout("ready\n");
        Self { process }
    }

    pub(super) fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    pub(super) fn mounts(&self) -> String {
        mounts(self.pid())
    }

    pub(super) fn has_its_own(&self) -> bool {
        fs::metadata(format!("/proc/{}/root/mnt/dir", self.pid())).is_ok()
    }

    pub(super) fn end(self) {
        self.process.signal(nix::sys::signal::Signal::SIGKILL);
        drop(self.process.finish());
    }
}

fn mounts(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("a table of mounts")
}

fn places(table: &str) -> Vec<&str> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).collect()
}

fn pid_of(world: &Sbx, id: &str) -> i32 {
    let state: Value = serde_json::from_str(&world.sbx(["oci", "state", id]).succeed()).expect("JSON");
    state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process")
}

/// The bundle's user and mount namespaces become those of a process.
fn with<'w>(bundle: Bundle<'w>, pid: i32) -> Bundle<'w> {
    let namespaces = json!([
        { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
        { "type": "mount", "path": format!("/proc/{pid}/ns/mnt") },
        { "type": "user", "path": format!("/proc/{pid}/ns/user") },
    ]);
    bundle
        .set("/linux/namespaces", namespaces)
        .set("/linux/uidMappings", json!([]))
        .set("/linux/gidMappings", json!([]))
}

/// One that mounts nothing: for a root that is somebody else's.
fn bare<'w>(bundle: Bundle<'w>, root: &str) -> Bundle<'w> {
    bundle
        .set("/mounts", json!([]))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/root", json!({ "path": root }))
}

/// A container whose root has another one in `/inner`.
fn first(world: &Sbx) -> i32 {
    let bundle =
        Bundle::new(world, "echo first >/tmp/who; exec sleep 999").set("/root", json!({ "path": "rootfs" }));
    let inner = bundle.directory.join("rootfs/inner");
    let copied = Command::new("cp").arg("-a").arg(rootfs()).arg(&inner).status();
    assert!(copied.expect("cannot start cp").success());
    bundle.behind("create", "first").expect_code(0);
    world.sbx(["oci", "start", "first"]).succeed();
    pid_of(world, "first")
}

#[test]
fn the_container_is_there_with_its_own_root_and_goes_without_a_trace() {
    let world = sbx();
    let holder = Holder::new(&world, "private");
    let before = holder.mounts();
    let script = "hostname; ls -d /mnt/dir /home/* 2>&1; ls /proc | grep -c '^[0-9]'; touch /x || echo refused; \
                  cat /proc/kcore | wc -c; exec sleep 999";
    let bundle = with(Bundle::new(&world, script), holder.pid());
    let run = behind(&world).args(["oci", "run", "--detach", "--bundle"]).arg(&bundle.directory);
    run.arg("web").expect_code(0);
    let pid = pid_of(&world, "web");
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).expect("a namespace");
    assert_eq!(namespace(pid), namespace(holder.pid()));
    let root = bundle.directory.join("rootfs");
    let root = root.to_str().expect("UTF-8");
    let during = holder.mounts();
    // The copy of what is there anyway, and the tree.
    assert_eq!(places(&during).iter().filter(|place| **place == root).count(), 2, "{during}");
    assert!(places(&during).contains(&format!("{root}/proc").as_str()), "{during}");
    assert!(during.starts_with(&before), "{during}");
    assert!(holder.has_its_own());
    let exec = world.sbx(["oci", "exec", "web", "sh", "-c", "ls -d /mnt/dir; hostname; echo /*; pwd"]);
    let seen = exec.expect_code(0).stderr_has("No such file").stdout();
    assert!(seen.starts_with("sbx\n") && seen.contains("/proc") && seen.ends_with("\n/\n"), "{seen}");
    assert!(!seen.contains("/home/") && !seen.contains("/boot"), "{seen}");
    world.sbx(["oci", "kill", "web", "KILL"]).succeed();
    wait_for(&world, "web", "stopped");
    world.sbx(["oci", "delete", "web"]).succeed();
    assert_eq!(holder.mounts(), before);
    let said = fs::read_to_string(world.work().join("out")).expect("what it said");
    assert!(said.starts_with("sbx\n") && said.contains("refused") && said.ends_with("\n0\n"), "{said}");
    holder.end();
}

#[test]
fn what_fails_leaves_nothing_there() {
    let world = sbx();
    let holder = Holder::new(&world, "private");
    let before = holder.mounts();
    let hook = json!({ "startContainer": [{ "path": "/bin/false" }] });
    let bundle = with(Bundle::new(&world, "true"), holder.pid()).set("/hooks", hook);
    bundle.run().expect_code(1).stderr_has("the startContainer hook number 1 failed");
    assert_eq!(holder.mounts(), before);
    let bundle = with(Bundle::new(&world, "true"), holder.pid());
    bundle.behind("create", "web").expect_code(0);
    assert_ne!(holder.mounts(), before);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid_of(&world, "web")), nix::sys::signal::SIGKILL)
        .expect("killed");
    wait_for(&world, "web", "stopped");
    world.sbx(["oci", "delete", "web"]).succeed();
    assert_eq!(holder.mounts(), before);
    // Whoever was in the namespace is gone, and so are the mounts.
    bundle.behind("create", "web").expect_code(0);
    holder.end();
    world.sbx(["oci", "delete", "--force", "web"]).succeed();
}

#[test]
fn peers_of_a_shared_mount_see_nothing_of_it() {
    let world = sbx();
    let holder = Holder::new(&world, "shared");
    let enter = world.program("nsenter").args(["--user", "--mount", "--preserve-credentials", "--target"]);
    let script = "echo ready; exec sleep 999";
    let unshare = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script];
    let mut peer = enter.arg(holder.pid().to_string()).args(unshare).spawn();
    peer.wait_for_stdout("ready\n");
    let table = || mounts(peer.pid().as_raw());
    let (before, of_peer) = (holder.mounts(), table());
    let bundle = with(Bundle::new(&world, "exec sleep 999"), holder.pid());
    bundle.behind("create", "web").expect_code(0);
    let root = bundle.directory.join("rootfs/proc");
    assert!(places(&holder.mounts()).contains(&root.to_str().expect("UTF-8")));
    assert!(!places(&table()).contains(&root.to_str().expect("UTF-8")));
    world.sbx(["oci", "delete", "--force", "web"]).succeed();
    assert_eq!(holder.mounts(), before);
    assert_eq!(table(), of_peer);
    peer.signal(nix::sys::signal::Signal::SIGKILL);
    drop(peer.finish());
    holder.end();
}

#[test]
fn that_of_another_container_stays_its_own() {
    let world = sbx();
    let pid = first(&world);
    let before = mounts(pid);
    let script = "test ! -e /tmp/who && echo inner; ls /proc | grep -c '^[0-9]'; exec sleep 999";
    let second = with(Bundle::new(&world, script), pid).set("/root", json!({ "path": "/inner" }));
    second.behind("create", "second").expect_code(0);
    world.sbx(["oci", "start", "second"]).succeed();
    assert!(places(&mounts(pid)).contains(&"/inner/proc"));
    let in_first = |script: &str| world.sbx(["oci", "exec", "first", "sh", "-c", script]).succeed();
    assert_eq!(
        in_first("cat /tmp/who; cat /proc/1/comm; ls -d /inner/inner 2>/dev/null; true"),
        "first\nsleep"
    );
    assert_eq!(
        world
            .sbx(["oci", "exec", "second", "sh", "-c", "cat /proc/1/comm; ls -d /inner 2>&1"])
            .expect_code(1)
            .stdout(),
        "sleep\nls: /inner: No such file or directory\n"
    );
    world.sbx(["oci", "delete", "--force", "second"]).succeed();
    assert_eq!(mounts(pid), before);
    assert_eq!(in_first("cat /tmp/who /proc/1/comm"), "first\nsleep");

    // The other end first.
    second.behind("create", "second").expect_code(0);
    world.sbx(["oci", "start", "second"]).succeed();
    world.sbx(["oci", "delete", "--force", "first"]).succeed();
    assert_eq!(status(&world, "second"), "running");
    world.sbx(["oci", "exec", "second", "cat", "/proc/1/comm"]).expect_code(0).stdout_is("sleep\n");
    world.sbx(["oci", "delete", "--force", "second"]).succeed();
}

#[test]
fn the_root_of_the_others_is_shared_and_nothing_is_mounted_on_it() {
    let world = sbx();
    let pid = first(&world);
    let before = mounts(pid);
    let script = "cat /tmp/who; cat /proc/mounts | wc -l; echo second >/tmp/who; echo >/dev/null";
    let second = bare(with(Bundle::new(&world, script), pid), "/");
    let number = before.lines().count();
    second.run().expect_code(0).stdout_has("first\n").stderr_has("");
    assert_eq!((mounts(pid).lines().count(), mounts(pid)), (number, before.clone()));
    let said = world.sbx(["oci", "exec", "first", "cat", "/tmp/who"]).succeed();
    assert_eq!(said, "second");
    for (name, pointer, value) in [
        ("mounts", "/mounts", json!([{ "destination": "/proc", "type": "proc", "source": "proc" }])),
        ("linux.maskedPaths", "/linux/maskedPaths", json!(["/tmp"])),
        ("root.readonly", "/root", json!({ "path": "/", "readonly": true })),
        ("linux.rootfsPropagation", "/linux/rootfsPropagation", json!("shared")),
    ] {
        let second = bare(with(Bundle::new(&world, "true"), pid), "/").set(pointer, value);
        second.run().expect_code(1).stderr_has(&format!(
            "it would be hidden from all others there: `root.path` leads to it, and the bundle has {name}"
        ));
        assert_eq!(mounts(pid), before);
    }
    world.sbx(["oci", "delete", "--force", "first"]).succeed();
}

#[test]
fn paths_that_are_none_and_what_cannot_be_say_why() {
    let world = sbx();
    let holder = Holder::new(&world, "private");
    let before = holder.mounts();
    let fifo = world.work().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let file = world.file("file", "");
    let link = world.work().join("link");
    symlink(format!("/proc/{}/ns/mnt", holder.pid()), &link).expect("a symlink");
    let (fifo, file) = (fifo.to_str().expect("UTF-8").to_owned(), file.to_str().expect("UTF-8").to_owned());
    let net = format!("/proc/{}/ns/net", holder.pid());
    for (path, words) in [
        (fifo.as_str(), "the file is not a namespace"),
        (&file, "the file is not a namespace"),
        (&net, "the file is a namespace of another kind: net"),
        ("/proc/999999999/ns/mnt", "No such file or directory"),
        ("/proc/1/ns/mnt", "Permission denied"),
        ("ns/mnt", "the specification asks for an absolute path"),
        ("/proc/self/ns/mnt", "it is the caller's own, and the container's mounts would be the caller's"),
    ] {
        let mut bundle = with(Bundle::new(&world, "echo ran"), holder.pid());
        bundle.config["linux"]["namespaces"][3]["path"] = json!(path);
        bundle.write();
        bundle.run().expect_code(1).stdout_is("").stderr_has(words);
    }
    let mut bundle = with(Bundle::new(&world, "echo ran"), holder.pid());
    bundle.config["linux"]["namespaces"][3]["path"] = json!(link);
    bundle.write();
    bundle.run().expect_code(0).stdout_is("ran\n");

    let mut bundle = Bundle::new(&world, "echo ran");
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().expect("namespaces") {
        if namespace["type"] == "mount" {
            namespace["path"] = json!(format!("/proc/{}/ns/mnt", holder.pid()));
        }
    }
    bundle.write();
    bundle.run().expect_code(1).stdout_is("").stderr_has("join the user namespace that it belongs to");

    // Of another user namespace than the one that is joined.
    let other = Holder::new(&world, "private");
    let mut bundle = with(Bundle::new(&world, "echo ran"), holder.pid());
    bundle.config["linux"]["namespaces"][3]["path"] = json!(format!("/proc/{}/ns/mnt", other.pid()));
    bundle.write();
    bundle.run().expect_code(1).stdout_is("").stderr_has("cannot join the mnt namespace");
    other.end();

    let tmpfs = json!({ "destination": "/mnt", "type": "tmpfs", "options": ["unbindable"] });
    let bundle = with(Bundle::new(&world, "echo ran"), holder.pid()).mount(tmpfs);
    bundle.run().expect_code(1).stdout_is("").stderr_has("`/mnt` is to be unbindable");

    let inside = format!("/proc/{}/root/mnt/link", holder.pid());
    symlink("/proc/self/root", &inside).expect("a link of the others");
    for (root, words) in [
        ("/no/such", "cannot find the root file system in the mount namespace of"),
        ("/mnt/link/etc", "Too many levels of symbolic links"),
    ] {
        let bundle =
            with(Bundle::new(&world, "echo ran"), holder.pid()).set("/root", json!({ "path": root }));
        bundle.run().expect_code(1).stdout_is("").stderr_has(words);
    }
    assert_eq!(holder.mounts(), before);
    holder.end();
}

#[test]
fn those_who_are_there_see_nothing_of_sbx_and_its_descriptors() {
    let world = sbx();
    // Looks into whoever comes, as root of the same user namespace and in the same PID namespace.
    let script = "exec >/tmp/seen 2>/dev/null; while :; do for p in /proc/[0-9]*; do readlink $p/exe; ls -l $p/fd $p/root; \
                  cat $p/cmdline; done; done";
    let spy = Bundle::new(&world, script)
        .set("/root", json!({ "path": "rootfs" }))
        .set("/process/capabilities/bounding", json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]))
        .set("/process/capabilities/effective", json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]))
        .set("/process/capabilities/permitted", json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]));
    let inner = spy.directory.join("rootfs/inner");
    let copied = Command::new("cp").arg("-a").arg(rootfs()).arg(&inner).status();
    assert!(copied.expect("cannot start cp").success());
    spy.behind("create", "spy").expect_code(0);
    world.sbx(["oci", "start", "spy"]).succeed();
    let pid = pid_of(&world, "spy");
    let mut second = with(Bundle::new(&world, "sleep 0.1"), pid).set("/root", json!({ "path": "/inner" }));
    second.config["linux"]["namespaces"][0]["path"] = json!(format!("/proc/{pid}/ns/pid"));
    second.config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["type"] != "proc");
    second.write();
    for _ in 0..5 {
        second.run().expect_code(0);
    }
    let seen = content_of(&spy.directory.join("rootfs/tmp/seen"));
    // It has looked at them, too.
    assert!(seen.contains("sleep\u{0}0.1"), "it saw nobody");
    let sbx = sbx_binary();
    let of_ours = ["exec.fifo", "complaint.json", "memfd:", "mnt:[", sbx.to_str().expect("UTF-8")];
    let found: Vec<&str> =
        seen.lines().filter(|line| of_ours.iter().any(|word| line.contains(word))).collect();
    assert!(found.is_empty(), "{found:?}");
    world.sbx(["oci", "delete", "--force", "spy"]).succeed();
}
