//! What a command finds in the container, and what the container can do to sbx while it comes in.

use std::time::{Duration, Instant};

use super::super::harness::{Background, rootfs, sbx};
use super::comes_true;

/// Namespaces, capabilities, filters and limits.
const SHOW: &str = "cd /proc/self/ns; for kind in *; do echo $kind $(readlink $kind); done
    grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status; hostname; umask; pwd; cat /proc/self/uid_map /proc/self/limits
    cat /proc/self/oom_score_adj; readlink /proc/self/root";

/// Every way to make the container's user namespace, and to share others.
const MODES: &[&[&str]] = &[
    &[],
    &["--userns", "keep-id"],
    &["--userns", "nomap"],
    &["--userns", "auto"],
    &["--id-tier", "single"],
    &["--id-tier", "single", "--emulate-root", "never"],
    &["--pid", "host"],
    &["--userns", "keep-id", "--pid", "host", "--uts", "host"],
    &["--ipc", "host", "--uts", "host", "--cgroupns", "host", "--net", "host"],
    &["--init"],
    &["--privileged"],
    &["--read-only"],
    &["--cap-drop", "all", "--security-opt", "no-new-privileges"],
    &["--security-opt", "seccomp=unconfined", "--cap-add", "SYS_ADMIN"],
    &["--ulimit", "nofile=100:200", "--umask", "0077", "--oom-score-adj", "500"],
];

#[test]
fn a_command_is_confined_as_the_first_process_is() {
    for flags in MODES {
        is_confined_as_the_first(flags);
    }
}

/// Not every kernel has such namespaces.
#[test]
fn a_command_is_in_the_time_namespace_of_the_first_process() {
    is_confined_as_the_first(&["--timens", "private"]);
}

fn is_confined_as_the_first(flags: &[&str]) {
    let world = sbx();
    let flags = [flags, &["-w", "/tmp"][..]].concat();
    let web = Background::start(&world, &flags, &format!("{SHOW}; echo told; sleep 1000"));
    let log = world.store().join("containers").join(&web.id).join("log");
    let told = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(comes_true(|| told().contains(" told\n")), "{flags:?}: {}", told());
    // `TIMESTAMP stdout F TEXT`
    let first: Vec<String> =
        told().lines().filter_map(|line| line.splitn(4, ' ').nth(3).map(str::to_owned)).collect();
    let ours = web.sh(&[], &format!("cd /tmp; {SHOW}; echo told")).succeed();
    let ours: Vec<&str> = ours.lines().collect();
    assert_eq!(ours, first, "{flags:?}");
}

#[test]
fn a_command_joins_what_the_container_joined() {
    let world = sbx();
    let web = Background::start(&world, &["--name", "web"], "sleep 1000");
    for flags in [
        &["--userns", "container:web"][..],
        &["--userns", "container:web", "--pid", "container:web", "--net", "container:web"],
        &["--net", "container:web", "--init"],
    ] {
        let guest = Background::start(&world, flags, "sleep 1000");
        let ours = guest.sh(&[], "for kind in /proc/self/ns/*; do readlink $kind; done").succeed();
        let pid = guest.inspect("{{.State.Pid}}");
        assert_eq!(ours.lines().filter(|line| line.starts_with("pid:")).count(), 2, "{pid}");
        let theirs = web.sh(&[], "for kind in /proc/self/ns/*; do readlink $kind; done").succeed();
        for kind in ["user:", "net:"] {
            let of = |text: &str| text.lines().find(|line| line.starts_with(kind)).map(str::to_owned);
            if flags.contains(&"--net") || kind == "user:" {
                assert_eq!(of(&ours), of(&theirs), "{flags:?}");
            }
        }
        guest.sh(&[], "echo in > /tmp/in; grep -c SigBlk /proc/self/status").expect_code(0).stdout_is("1\n");
        web.exec(&[], &["cat", "/tmp/in"]).expect_code(1);
    }
}

#[test]
fn user_directory_and_environment_are_the_containers_unless_said_otherwise() {
    let world = sbx();
    let file = world.file("vars", "FROM_FILE=file\nBOTH=file\n");
    let flags = [
        "-u",
        "www-data",
        "-w",
        "/opt",
        "-e",
        "OF=container",
        "-e",
        "BOTH=container",
        "--group-add",
        "staff",
    ];
    let web = Background::start(&world, &flags, "sleep 1000");
    let show = "echo $(id -u):$(id -g):$(id -G) $PWD $HOME $OF $BOTH $FROM_FILE $NEW";
    web.sh(&[], show).expect_code(0).stdout_is("33:33:33 50 /opt /var/www container container\n");
    let told = web.sh(
        &["-u", "user", "-w", "/srv", "--env-file", file.to_str().expect("a path"), "-e", "NEW=flag"],
        show,
    );
    told.expect_code(0).stdout_is("1000:1000:1000 50 /srv /home/user container file file flag\n");
    web.sh(&["-u", "0:1000"], show)
        .expect_code(0)
        .stdout_is("0:1000:1000 50 /opt /root container container\n");
    web.sh(&["-u", "4242"], show).expect_code(0).stdout_is("4242:0:0 50 /opt / container container\n");
    web.sh(&["-e", "BORROWED"], "echo $BORROWED")
        .env("BORROWED", "callers")
        .expect_code(0)
        .stdout_is("callers\n");
}

#[test]
fn emulated_users_come_in_as_themselves() {
    let world = sbx();
    let web = Background::start(&world, &["--id-tier", "single"], "sleep 1000");
    let script = "id -u; id -G; touch /tmp/$(id -u); stat -c %u:%g /tmp/$(id -u)";
    web.sh(&["-u", "33"], script).expect_code(0).stdout_is("33\n33\n33:33\n");
    web.sh(&["-u", "user"], script).expect_code(0).stdout_is("1000\n1000 50\n1000:1000\n");
    web.sh(&[], &format!("{script}; chown 7:8 /tmp/0; stat -c %u:%g /tmp/0"))
        .expect_code(0)
        .stdout_is("0\n0\n0:0\n7:8\n");
    web.sh(&["-u", "33"], "stat -c %u:%g /tmp/0; chown 33 /tmp/0").expect_code(1).stdout_is("7:8\n");
}

#[test]
fn privileged_brings_every_capability_and_no_filter() {
    let world = sbx();
    let web = Background::start(&world, &["--cap-drop", "all"], "sleep 1000");
    let show = "sed -n 's/^\\(CapEff\\|Seccomp\\):\\s*//p' /proc/self/status";
    web.sh(&[], show).expect_code(0).stdout_is("0000000000000000\n2\n");
    let shown = web.sh(&["--privileged"], show).succeed();
    let mut lines = shown.lines();
    let capabilities = u64::from_str_radix(lines.next().expect("a line"), 16).expect("a number");
    assert!(capabilities.count_ones() >= 38, "{shown}");
    assert_eq!(lines.next(), Some("0"));
    web.sh(&["--privileged"], "mount -t tmpfs none /mnt").expect_code(0);
    web.sh(&[], "mount -t tmpfs none /mnt").expect_code(1);
}

#[test]
fn a_command_has_its_streams_and_nothing_else() {
    let world = sbx();
    let root = rootfs().to_str().expect("a path in UTF-8");
    for flags in [&[][..], &["--id-tier", "single"], &["--userns", "keep-id"]] {
        let web = Background::start_all(&world, flags, &["--rootfs", root, "sleep", "1000"]);
        for exec in [&[][..], &["-i"], &["-t"], &["-u", "user"], &["--privileged"]] {
            let shown = web.exec(exec, &["ls", "/proc/self/fd"]).succeed();
            // The last one is the directory that ls reads.
            assert_eq!(
                shown.split_whitespace().collect::<Vec<_>>(),
                ["0", "1", "2", "3"],
                "{flags:?} {exec:?}"
            );
        }
        let kinds = web.sh(&["-i"], "for n in 0 1 2; do readlink /proc/$$/fd/$n; done").stdin("").succeed();
        assert!(kinds.lines().all(|line| line.starts_with("pipe:[")), "{kinds}");
        // Signals are as a fresh program expects them.
        web.sh(&[], "grep -E 'Sig(Blk|Ign)' /proc/self/status | tr -d '\\t' | grep -v 0000000000000000")
            .expect_code(1);
    }
}

/// A process inside with every capability looks at all others, again and again, and at what they have open.
#[test]
fn nobody_inside_gets_hold_of_sbx_or_of_the_host() {
    let world = sbx();
    let spy = "trap '' TERM; while :; do for p in /proc/[0-9]*; do
        for l in exe root cwd fd/0 fd/3 fd/4 fd/5 fd/6 fd/7 fd/8 fd/9 fd/10; do
            to=$(readlink $p/$l 2>/dev/null) && case $to in
                *sbx*|/var/tmp*|/work*|socket:*) echo $p/$l leads to $to >> /tmp/found;; esac
        done
        case $(tr '\\0' ' ' < $p/cmdline 2>/dev/null) in *e[x]ec*hid''den=1*) echo $p tells its caller >> /tmp/found;; esac
    done; echo x >> /tmp/rounds; done";
    for flags in [&["--privileged"][..], &["--privileged", "--userns", "keep-id", "-u", "root"]] {
        let web = Background::start(&world, flags, spy);
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            web.exec(&["-e", "hidden=1"], &["true"]).expect_code(0);
            web.exec(&["-t"], &["no-such-command"]).expect_code(127);
        }
        let rounds = web.sh(&[], "cat /tmp/rounds | wc -l").succeed();
        assert!(rounds.trim().parse::<u32>().is_ok_and(|rounds| rounds > 2), "{rounds}");
        web.sh(&[], "cat /tmp/found 2>/dev/null").expect_code(1).stdout_is("");
    }
}

/// CVE-2019-5736, CVE-2024-21626: what is executed or entered is never a link to what sbx has open.
#[test]
fn links_of_proc_lead_a_command_nowhere() {
    let world = sbx();
    let web = Background::start(&world, &[], "ln -s /proc/self/exe /tmp/me; sleep 1000");
    web.exec(&[], &["/proc/self/exe", "--version"]).expect_code(126).stdout_is("");
    assert!(comes_true(|| web.exec(&[], &["test", "-L", "/tmp/me"]).spawn().finish().code() == 0));
    web.exec(&[], &["/tmp/me", "--version"]).expect_code(126).stdout_is("");
    for n in 3..12 {
        let refused = web.exec(&["-w", &format!("/proc/self/fd/{n}")], &["pwd"]).expect_code(126);
        refused.stdout_is("");
    }
}

/// The terminal comes from what lies at /dev/pts now.
#[test]
fn a_false_terminal_is_an_error() {
    let world = sbx();
    let web = Background::start(
        &world,
        &["--privileged"],
        "umount /dev/pts; mkfifo /dev/pts/ptmx; echo done > /tmp/done; sleep 1000",
    );
    assert!(comes_true(|| web.exec(&[], &["test", "-e", "/tmp/done"]).spawn().finish().code() == 0));
    let refused = web.exec(&["-t"], &["true"]).timeout(Duration::from_secs(10)).expect_code(125);
    refused.stderr_has("cannot open a terminal");
}
