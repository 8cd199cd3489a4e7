//! kill -9 of any process of sbx at any time: what is left ends by itself or with the next command.

mod kept;
mod networks;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Leftovers, Running, Sbx, require, rootfs, sbx};

const KILLS: usize = 200;
/// Worlds at once; two processors are busy with some more than two.
const LANES: usize = 5;

/// Arguments of `sbx run`. The stop timeout of 0 lets a container end at once when its client was killed.
const CASES: &[&[&str]] = &[
    &["--rm", "--net", "none", "--rootfs", "ROOT", "sleep", "0.03"],
    &["--net", "none", "--rootfs", "ROOT", "true"],
    &["--rm", "--net", "none", "--user", "1000", "--rootfs", "ROOT", "sleep", "0.05"],
    &["--rm", "--net", "none", "--storage-driver", "fuse-overlayfs", "--rootfs", "ROOT", "touch", "/x"],
    &[
        "--net",
        "none",
        "--storage-driver",
        "fuse-overlayfs",
        "--rootfs",
        "ROOT",
        "sh",
        "-c",
        "cp /bin/busybox /tmp/x",
    ],
    &["--rm", "--net", "none", "--userns", "keep-id", "--rootfs", "ROOT", "sleep", "0.03"],
    &[
        "--rm",
        "--net",
        "none",
        "--pid",
        "host",
        "--rootfs",
        "ROOT",
        "sh",
        "-c",
        "setsid sleep 0.1 & sleep 0.05",
    ],
    &[
        "--rm", "--net", "none", "--pid", "host", "--init", "--user", "1000", "--rootfs", "ROOT", "sleep",
        "0.05",
    ],
    &["--rm", "--init", "--net", "none", "--rootfs", "ROOT", "su", "user", "-c", "sleep 0.05"],
    &["--rm", "-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", "--rootfs", "ROOT", "sleep", "0.1"],
    &["-p", "127.0.0.1::80", "--user", "1000", "--rootfs", "ROOT", "sleep", "0.05"],
    &["--rm", "--net", "pasta", "--rootfs", "ROOT", "sleep", "0.05"],
    &["--rm", "--net", "none", "host", "touch", "/etc/x"],
    &[
        "--rm",
        "--net",
        "none",
        "--id-tier",
        "single",
        "--rootfs",
        "ROOT",
        "sh",
        "-c",
        "ln -s a /b; chown -h 5 /b /etc; su user -c 'sleep 0.05'",
    ],
    &["--net", "none", "--id-tier", "single", "--rootfs", "ROOT", "sh", "-c", "ln -s a /b; chown -h 5 /b"],
];

/// xorshift64*: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

fn seed() -> u64 {
    let given = std::env::var("SBX_TEST_SEED").ok().filter(|text| !text.is_empty());
    given.map_or_else(
        || {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_nanos()
                as u64
        },
        |text| text.parse().expect("SBX_TEST_SEED is a number"),
    )
}

fn arguments(case: &[&str]) -> Vec<PathBuf> {
    let words = case.iter().map(|word| match *word {
        "ROOT" => rootfs().to_owned(),
        word => word.into(),
    });
    [PathBuf::from("--stop-timeout"), "0".into()].into_iter().chain(words).collect()
}

/// The living processes of a world with their names (proc_pid_comm(5)).
fn processes(world: &Sbx) -> Vec<(Pid, String)> {
    world
        .leftovers()
        .processes
        .into_iter()
        .filter_map(|process| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
            let name = stat.split_once('(')?.1.rsplit_once(')')?;
            (!name.1.starts_with(" Z")).then(|| (process.pid, name.0.to_owned()))
        })
        .collect()
}

fn named(world: &Sbx, name: &str) -> Option<Pid> {
    processes(world).into_iter().find(|(_, found)| found == name).map(|(pid, _)| pid)
}

/// Waits for a process of this name.
fn wait_for(world: &Sbx, name: &str) -> Pid {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(pid) = named(world, name) {
            return pid;
        }
        assert!(Instant::now() < until, "no process `{name}` came:\n{}", world.leftovers());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn end(pid: Pid) -> bool {
    kill(pid, Signal::SIGKILL).is_ok()
}

/// Any next command.
fn next_command(world: &Sbx) {
    let args = [Path::new("--rm"), "--net=none".as_ref(), "--rootfs".as_ref(), rootfs(), "true".as_ref()];
    world.run(args).expect_code(0).stderr_is("");
}

/// Everything that is not a process or a mount: containers, locks, names, and files of the runtime directory.
fn files(world: &Sbx) -> Vec<PathBuf> {
    let listed = |directory: PathBuf| {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let parts = ["containers", "removed", "running", "names"];
    let mut files: Vec<PathBuf> = parts.iter().flat_map(|part| listed(world.store().join(part))).collect();
    let known = [&parts[..], &["cache", "volumes"]].concat();
    files.extend(
        listed(world.store()).into_iter().filter(|path| !known.iter().any(|name| path.ends_with(name))),
    );
    let runtime = listed(world.runtime().join("sbx"));
    let told =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"events-"));
    files.extend(runtime.into_iter().filter(|path| !path.ends_with("helpers.json") && !told(path)));
    files.extend(
        listed(world.store().join("cache")).into_iter().filter(|path| !path.ends_with("overlay.json")),
    );
    files
}

fn assert_nothing_left(world: &Sbx, what: &str) {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let files = files(world);
        // The files first: looking at every process of the machine is much dearer.
        let left = if files.is_empty() { Some(world.leftovers()) } else { None };
        if left.as_ref().is_some_and(Leftovers::is_empty) {
            return;
        }
        let over = Instant::now() >= until;
        let left = left.or_else(|| over.then(|| world.leftovers())).unwrap_or_default();
        assert!(!over, "{what}: left behind:\n{left}{files:#?}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The container of a world that holds one, by what its lock file says.
fn record(world: &Sbx) -> serde_json::Value {
    let entry = fs::read_dir(world.store().join("running")).expect("a store").next();
    let path = entry.expect("a container").expect("an entry").path();
    serde_json::from_slice(&fs::read(path).expect("a lock file")).expect("a record")
}

fn alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn two_hundred_kills_in_a_row_leave_nothing() {
    for program in ["newuidmap", "newgidmap", "fuse-overlayfs", "slirp4netns", "pasta"] {
        require(program);
    }
    let seed = seed();
    eprintln!("SBX_TEST_SEED={seed}");
    let tally = Mutex::new(BTreeMap::<String, usize>::new());
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let tally = &tally;
            scope.spawn(move || kill_in_a_row(seed.wrapping_add(lane as u64), KILLS / LANES, tally));
        }
    });
    let tally = tally.into_inner().expect("a tally");
    eprintln!("killed: {tally:?}");
    assert_eq!(tally.values().sum::<usize>(), KILLS);
    for role in ["sbx", "sbx-monitor", "sbx-child", "sbx-guard"] {
        assert!(tally.contains_key(role), "no kill hit a process `{role}`: {tally:?}");
    }
}

fn kill_in_a_row(seed: u64, kills: usize, tally: &Mutex<BTreeMap<String, usize>>) {
    let mut random = Random::new(seed);
    let world = sbx();
    let mut spans: BTreeMap<usize, Duration> = BTreeMap::new();
    let mut done = 0;
    for round in 0.. {
        assert!(round < 20 * kills, "most processes end before they are killed");
        let number = random.below(CASES.len());
        if random.below(8) == 0 {
            // What was probed is probed again.
            let _ = fs::remove_file(world.store().join("cache/overlay.json"));
            let _ = fs::remove_file(world.runtime().join("sbx/helpers.json"));
        }
        let begun = Instant::now();
        let running = world.run(arguments(CASES[number])).spawn();
        let span = spans.get(&number).copied().unwrap_or(Duration::from_millis(100));
        std::thread::sleep(span * random.below(1000) as u32 / 1000);
        let mut victim = choose(&world, &mut random, tally);
        if victim.as_ref().is_some_and(|(_, name)| name == "sbx") && random.below(2) == 0 {
            // The client is there all the time; the others have their turn.
            std::thread::sleep(span * random.below(500) as u32 / 1000);
            victim = choose(&world, &mut random, tally);
        }
        let killed = victim.filter(|(pid, _)| end(*pid));
        let finished = running.finish();
        if let Some((_, name)) = &killed {
            done += 1;
            *tally.lock().expect("a tally").entry(name.clone()).or_default() += 1;
        } else {
            spans.insert(number, begun.elapsed());
            assert_eq!(finished.code(), 0, "{:?}: {}", CASES[number], finished.stderr());
        }
        let what = format!("seed {seed}, round {round}, {:?}, killed {killed:?}", CASES[number]);
        put_in_order(&world, &what, CASES[number]);
        if done == kills {
            eprintln!("seed {seed}: {} rounds", round + 1);
            return;
        }
    }
}

/// A process of the world: half the time the one whose name was hit least so far, else each name is as likely
/// as any other.
fn choose(world: &Sbx, random: &mut Random, tally: &Mutex<BTreeMap<String, usize>>) -> Option<(Pid, String)> {
    let mut by_name: BTreeMap<String, Vec<Pid>> = BTreeMap::new();
    for (pid, name) in processes(world) {
        by_name.entry(name).or_default().push(pid);
    }
    if by_name.is_empty() {
        return None;
    }
    let (rare, any) = (random.below(2) == 0, random.below(by_name.len()));
    let (name, pids) = if rare {
        let tally = tally.lock().expect("a tally");
        by_name.iter().min_by_key(|(name, _)| tally.get(*name).copied().unwrap_or(0))?
    } else {
        by_name.iter().nth(any)?
    };
    Some((pids[random.below(pids.len())], name.clone()))
}

fn put_in_order(world: &Sbx, what: &str, case: &[&str]) {
    next_command(world);
    if !case.contains(&"--rm") {
        // A container that is to be kept is, and does not run.
        let until = Instant::now() + Duration::from_secs(5);
        while !locks(world).is_empty() || !world.leftovers().processes.is_empty() {
            assert!(Instant::now() < until, "{what}: left behind:\n{}", world.leftovers());
            std::thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(world.sbx(["ps", "-q"]).succeed(), "", "{what}");
        world.sbx(["rm", "--all"]).expect_code(0).stderr_is("");
    }
    assert_nothing_left(world, what);
}

fn locks(world: &Sbx) -> Vec<PathBuf> {
    let running = fs::read_dir(world.store().join("running"));
    running.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// A container whose first process has changed its user, so that no parent-death signal reaches it.
fn user_container<'w>(world: &'w Sbx, more: &[&str]) -> Running<'w> {
    let mut args: Vec<PathBuf> = more.iter().map(PathBuf::from).collect();
    args.extend(["--net=none".into(), "--rootfs".into(), rootfs().to_owned()]);
    args.extend(["su", "user", "-c", "echo up; exec sleep 1000"].map(PathBuf::from));
    let mut running = world.run(args).spawn();
    running.wait_for_stdout("up");
    running
}

#[test]
fn a_killed_monitor_takes_its_container_with_it() {
    for more in [&["--rm"][..], &["--rm", "--user=0:0", "--pid=host"], &["--rm", "--init"]] {
        let world = sbx();
        let running = user_container(&world, more);
        assert!(end(wait_for(&world, "sbx-monitor")));
        running.finish().code_is(125).stderr_has("the monitor of the container was killed");
        let until = Instant::now() + Duration::from_secs(5);
        while !processes(&world).is_empty() {
            assert!(
                Instant::now() < until,
                "{more:?}: without a next command there live\n{}",
                world.leftovers()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
        next_command(&world);
        assert_nothing_left(&world, "a killed monitor");
    }
}

#[test]
fn the_next_command_ends_what_monitor_and_guard_left_when_both_were_killed() {
    let mut survivors = 0;
    for more in [&["--rm"][..], &["--rm", "--pid=host"], &["--rm", "--storage-driver=fuse-overlayfs"]] {
        let world = sbx();
        let running = user_container(&world, more);
        let (monitor, guard) = (wait_for(&world, "sbx-monitor"), wait_for(&world, "sbx-guard"));
        // A stopped guard cannot do its work before it is killed, too.
        kill(guard, Signal::SIGSTOP).expect("the guard is there");
        assert!(end(monitor) && end(guard));
        running.finish().code_is(125);
        if named(&world, "sleep").is_some() {
            survivors += 1;
        }
        next_command(&world);
        assert_nothing_left(&world, "both killed");
    }
    assert!(survivors > 0, "no container outlived its monitor and guard: this test shows nothing");
}

#[test]
fn a_killed_guard_is_replaced() {
    let world = sbx();
    let running = user_container(&world, &["--rm"]);
    let first = wait_for(&world, "sbx-guard");
    assert!(end(first));
    let until = Instant::now() + Duration::from_secs(5);
    let second = loop {
        if let Some(pid) = named(&world, "sbx-guard").filter(|pid| *pid != first) {
            break pid;
        }
        assert!(Instant::now() < until, "there is no new guard");
        std::thread::sleep(Duration::from_millis(1));
    };
    while record(&world)["guard"]["pid"] != second.as_raw() {
        assert!(Instant::now() < until, "the new guard is not recorded");
        std::thread::sleep(Duration::from_millis(1));
    }
    let sleep = wait_for(&world, "sleep");
    assert!(end(wait_for(&world, "sbx-monitor")));
    running.finish().code_is(125);
    while alive(sleep) {
        assert!(Instant::now() < until, "the new guard does not guard");
        std::thread::sleep(Duration::from_millis(1));
    }
    next_command(&world);
    assert_nothing_left(&world, "a killed guard");
}

#[test]
fn a_container_whose_root_server_was_killed_ends_and_says_why() {
    let world = sbx();
    let running = user_container(&world, &["--rm", "--storage-driver=fuse-overlayfs"]);
    assert!(end(wait_for(&world, "fuse-overlayfs")));
    running.finish().code_is(137).stderr_has("fuse-overlayfs, which served the root file system, ended");
    assert_nothing_left(&world, "a killed server");
}

#[test]
fn a_container_outlives_its_network_helper() {
    let world = sbx();
    let args = ["--rm", "-i", "--rootfs"].map(PathBuf::from);
    let command = ["sh", "-c", "echo up; read line; echo $line"].map(PathBuf::from);
    let args: Vec<PathBuf> = args.into_iter().chain([rootfs().to_owned()]).chain(command).collect();
    let mut running = world.run(args).stdin_from(std::process::Stdio::piped()).spawn();
    running.wait_for_stdout("up");
    assert!(end(wait_for(&world, "slirp4netns")));
    std::thread::sleep(Duration::from_millis(50));
    use std::io::Write;
    running.stdin().write_all(b"still here\n").expect("the container reads");
    running.finish().code_is(0).stdout_is("up\nstill here\n");
    assert_nothing_left(&world, "a killed helper");
}

#[test]
fn a_container_whose_client_was_killed_gets_the_stop_signal_and_ends() {
    let world = sbx();
    let script = "trap 'echo stopped > /out/seen; exit' USR1; echo up; while :; do sleep 0.01; done";
    let volume = format!("{}:/out", world.work().display());
    let args = ["--rm", "--net=none", "--stop-signal=USR1", "-v", &volume, "--rootfs"].map(PathBuf::from);
    let command = ["sh", "-c", script].map(PathBuf::from);
    let args: Vec<PathBuf> = args.into_iter().chain([rootfs().to_owned()]).chain(command).collect();
    let mut running = world.run(args).spawn();
    running.wait_for_stdout("up");
    assert!(end(running.pid()));
    running.finish().code_is(137);
    assert_nothing_left(&world, "a killed client");
    assert_eq!(fs::read_to_string(world.work().join("seen")).expect("a trace of the signal"), "stopped\n");
}

#[test]
fn a_command_that_ignores_the_stop_signal_is_killed_after_the_stop_timeout() {
    let world = sbx();
    let args = ["--rm", "--net=none", "--stop-timeout=1", "--rootfs"].map(PathBuf::from);
    let command = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"].map(PathBuf::from);
    let args: Vec<PathBuf> = args.into_iter().chain([rootfs().to_owned()]).chain(command).collect();
    let mut running = world.run(args).spawn();
    running.wait_for_stdout("up");
    let begun = Instant::now();
    assert!(end(running.pid()));
    let _ = running.finish();
    std::thread::sleep(Duration::from_millis(500));
    assert!(named(&world, "sbx-monitor").is_some(), "it was killed before its time");
    assert_nothing_left(&world, "a killed client");
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_kept_container_is_exited_after_its_monitor_was_killed() {
    let world = sbx();
    let running = user_container(&world, &["--name=kept"]);
    let running_status = world.sbx(["ps", "--format", "{{.Names}} {{.State}}"]).succeed();
    assert_eq!(running_status, "kept running");
    assert!(end(wait_for(&world, "sbx-monitor")));
    running.finish().code_is(125);
    // Before anything cleaned up, it is not shown as running either.
    assert_eq!(world.sbx(["ps", "-q"]).succeed(), "");
    next_command(&world);
    let listed = world.sbx(["ps", "-a", "--format", "{{.Names}} {{.State}} {{.ExitCode}}"]).succeed();
    assert_eq!(listed, "kept exited 137");
    assert_eq!(world.sbx(["rm", "kept"]).succeed(), "kept");
    assert_nothing_left(&world, "a kept container");
}

#[test]
fn a_killed_launcher_is_noticed_at_every_step() {
    let world = sbx();
    let mut hits = 0;
    for step in 0..24 {
        let running = world
            .run(arguments(&["--rm", "--net", "none", "--userns", "keep-id", "--rootfs", "ROOT", "true"]));
        let running = running.timeout(Duration::from_secs(20)).spawn();
        let launcher = loop {
            if let Some(pid) = named(&world, "sbx-launcher") {
                break Some(pid);
            }
            if named(&world, "fuse-overlayfs").is_some() || processes(&world).is_empty() {
                break None;
            }
        };
        std::thread::sleep(Duration::from_micros(500) * step);
        let hit = launcher.is_some_and(end);
        let code = running.finish().code();
        assert!(code == 0 || hit, "exit code {code}");
        hits += usize::from(code == 125);
    }
    assert!(hits > 0, "no launcher was killed before its work was done");
    next_command(&world);
    assert_nothing_left(&world, "killed launchers");
}
