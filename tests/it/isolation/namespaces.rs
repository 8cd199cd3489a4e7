//! The demonstrations of the classic tutorials on namespaces: what one side does, the other does not see.

use std::fs;
use std::process::Stdio;

use super::super::harness::{Sbx, require, sbx};
use super::{own_namespace, run, run_on_host_image};

const KINDS: [&str; 8] = ["user", "mnt", "pid", "uts", "ipc", "net", "cgroup", "time"];
const SHOW: &str =
    "cd /proc/self/ns && for kind in user mnt pid uts ipc net cgroup time; do readlink $kind; done";

/// Which namespaces a container with these flags shares with the caller.
fn shared(world: &Sbx, flags: &[&str]) -> Vec<&'static str> {
    let shown = run(world, flags, SHOW).succeed();
    let inside: Vec<&str> = shown.lines().collect();
    assert_eq!(inside.len(), KINDS.len(), "{shown}");
    KINDS
        .iter()
        .zip(inside)
        .filter(|(kind, inside)| own_namespace(kind) == *inside)
        .map(|(kind, _)| *kind)
        .collect()
}

#[test]
fn every_namespace_but_time_is_the_containers_own() {
    assert_eq!(shared(&sbx(), &[]), ["time"]);
}

#[test]
fn a_time_namespace_is_made_on_request() {
    let world = sbx();
    assert!(shared(&world, &["--timens", "private"]).is_empty());
    assert_eq!(shared(&world, &["--timens", "host"]), ["time"]);
    run(&world, &["--timens", "container:x"], "true").expect_code(125).stderr_has("there are: host, private");
}

#[test]
fn one_flag_shares_one_namespace_with_the_host() {
    let world = sbx();
    for (flag, kind) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup"), ("--net", "net")]
    {
        assert_eq!(shared(&world, &[flag, "host"]), [kind, "time"].map(|kind| kind), "{flag} host");
    }
}

#[test]
fn every_flag_together_leaves_users_and_mounts_alone() {
    let flags = ["--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host", "--net", "host"];
    assert_eq!(shared(&sbx(), &flags), ["pid", "uts", "ipc", "net", "cgroup", "time"]);
}

#[test]
fn the_command_is_process_one_and_alone() {
    let world = sbx();
    assert_eq!(run(&world, &[], "echo $$ /proc/[0-9]*").succeed(), "1 /proc/1");
    let listed = run(&world, &[], "ps -o pid,args; true").succeed();
    let pids: Vec<&str> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((pids[0], pids.len()), ("1", 2), "{listed}");
}

#[test]
fn with_the_hosts_processes_those_of_the_caller_show() {
    let script = format!("test -d /proc/{} && test $$ != 1 && echo yes", std::process::id());
    assert_eq!(run(&sbx(), &["--pid", "host"], &script).succeed(), "yes");
}

/// A message queue of the host that goes with the test.
struct Queue {
    id: String,
    key: u32,
}

impl Queue {
    fn new(world: &Sbx) -> Self {
        require("ipcmk");
        let id = number_in(&world.program("ipcmk").arg("-Q").succeed());
        let key = keys(&fs::read_to_string("/proc/sysvipc/msg").expect("the table of queues"))
            .into_iter()
            .find(|(_, found)| *found == id)
            .expect("the new queue is in the table")
            .0;
        Self { id, key }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ipcrm").args(["-q", &self.id]).status();
    }
}

fn number_in(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Key and ID of each queue in /proc/sysvipc/msg.
fn keys(table: &str) -> Vec<(u32, String)> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let key: i32 = fields.next()?.parse().ok()?;
        Some((key.cast_unsigned(), fields.next()?.to_owned()))
    });
    rows.collect()
}

#[test]
fn message_queues_of_the_host_are_not_seen_inside() {
    let world = sbx();
    let queue = Queue::new(&world);
    let shown = format!("0x{:08x}", queue.key);
    world.program("ipcs").arg("-q").expect_code(0).stdout_has(&shown);
    run_on_host_image(&world, &[], &["ipcs", "-q"])
        .expect_code(0)
        .stdout_has("Message Queues")
        .stdout_has_not(&shown);
    run_on_host_image(&world, &["--ipc", "host"], &["ipcs", "-q"]).expect_code(0).stdout_has(&shown);
}

#[test]
fn message_queues_of_a_container_are_not_seen_outside() {
    let world = sbx();
    let script = "ipcmk -Q >/dev/null && ipcs -q && echo made && read line";
    let mut inside =
        run_on_host_image(&world, &["-i"], &["sh", "-c", script]).stdin_from(Stdio::piped()).spawn();
    inside.wait_for_stdout("made\n");
    let listed = inside.stdout_now();
    let key = listed.split_whitespace().find(|word| word.starts_with("0x")).expect("a key").to_owned();
    world.program("ipcs").arg("-q").expect_code(0).stdout_has("Message Queues").stdout_has_not(&key);
    inside.close_stdin();
    let _ = inside.finish();
}

#[test]
fn a_hostname_changed_inside_stays_inside() {
    let world = sbx();
    let outside = || fs::read_to_string("/proc/sys/kernel/hostname").expect("a hostname");
    let before = outside();
    let script = "hostname other-name && hostname";
    assert_eq!(run(&world, &["--cap-add", "SYS_ADMIN"], script).succeed(), "other-name");
    assert_eq!(outside(), before);
    run(&world, &[], script).expect_code(1).stderr_has("not permitted");
    run(&world, &["--uts", "host", "--cap-add", "SYS_ADMIN"], script)
        .expect_code(1)
        .stderr_has("not permitted");
    assert_eq!(run(&world, &["--uts", "host"], "hostname").succeed(), before.trim_end());
    assert_eq!(outside(), before);
}

#[test]
fn names_are_set_on_request() {
    let world = sbx();
    let flags = ["--hostname", "web1", "--domainname", "example.org"];
    let script = "hostname; cat /proc/sys/kernel/domainname; cat /etc/hostname";
    assert_eq!(run(&world, &flags, script).succeed(), "web1\nexample.org\nweb1");
    let shared = run(&world, &["--uts", "host", "--hostname", "web1"], "true");
    shared.expect_code(125).stderr_has("not the container's own");
    let shared = run(&world, &["--uts", "host", "--domainname", "example.org"], "true");
    shared.expect_code(125).stderr_has("not the container's own");
}

#[test]
fn network_devices_of_the_host_do_not_show() {
    let world = sbx();
    let script = "ls /sys/class/net; sed '1,2d; s/:.*//; s/ //g' /proc/net/dev";
    assert_eq!(run(&world, &[], script).succeed(), "lo\nlo");
    let mut outside: Vec<_> = fs::read_dir("/sys/class/net")
        .expect("devices")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    outside.sort();
    let inside = run(&world, &["--net", "host"], "ls /sys/class/net").succeed();
    assert_eq!(inside.lines().collect::<Vec<_>>(), outside);
}

#[test]
fn mounts_made_inside_do_not_show_outside() {
    let world = sbx();
    let bind = format!("{}:/w", world.work().display());
    let script = "mount -t tmpfs sbx-inside /w && grep -c sbx-inside /proc/self/mountinfo && touch /w/file \
                  && echo made && read line";
    let flags = ["-i", "--cap-add", "SYS_ADMIN", "-v", &bind];
    let mut inside = run(&world, &flags, script).stdin_from(Stdio::piped()).spawn();
    inside.wait_for_stdout("made\n");
    let outside = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!outside.contains("sbx-inside"), "{outside}");
    assert!(!world.work().join("file").exists());
    inside.close_stdin();
    let _ = inside.finish();
}

#[test]
fn the_control_group_of_a_container_is_the_root_of_what_it_sees() {
    let world = sbx();
    let shown = run(&world, &[], "cat /proc/self/cgroup").succeed();
    assert!(!shown.is_empty() && shown.lines().all(|line| line.ends_with(":/")), "{shown}");
    let outside = fs::read_to_string("/proc/self/cgroup").expect("control groups");
    let shared = run(&world, &["--cgroupns", "host"], "cat /proc/self/cgroup").succeed();
    // In one of its own below that, where the caller may make it.
    let below = shared.trim_end().strip_prefix(outside.trim_end()).expect(&shared);
    assert!(below.is_empty() || below.starts_with("/sbx-"), "{shared} in {outside}");
}

#[test]
fn root_inside_is_the_caller_outside() {
    use std::os::unix::fs::MetadataExt;
    let world = sbx();
    let bind = format!("{}:/w", world.work().display());
    let script = "id -u; id -g; touch /w/file; stat -c %u /w/file; cat /proc/self/setgroups";
    assert_eq!(run(&world, &["-v", &bind], script).succeed(), "0\n0\n0\nallow");
    let made = fs::metadata(world.work().join("file")).expect("the file that was made inside");
    assert_eq!(made.uid(), nix::unistd::geteuid().as_raw());
}

#[test]
fn words_that_are_no_mode_are_refused_with_those_that_are() {
    let world = sbx();
    for flag in ["--pid", "--ipc", "--uts", "--cgroupns"] {
        for word in ["", "hosts", "container", "ns:relative"] {
            let refused = run(&world, &[flag, word], "true").expect_code(125);
            refused.stderr_has("there are: private");
        }
    }
    assert!(world.leftovers().is_empty());
}
