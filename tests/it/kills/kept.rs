//! kill -9 of any process of a container that is kept, at any time of its life: `ps` tells the truth right afterwards,
//! it starts again, and nothing is left behind.

use super::*;

const KILLS: usize = 300;

/// Options and command of `sbx create`.
const CONTAINERS: &[&[&str]] = &[
    &["--net", "none", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "none", "--storage-driver", "fuse-overlayfs", "--rootfs", "ROOT", "sleep", "1000"],
    &[
        "--net",
        "none",
        "--log-driver",
        "json-file",
        "--rootfs",
        "ROOT",
        "sh",
        "-c",
        "yes | head -c 300000; sleep 1000",
    ],
    &["-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "pasta", "--init", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "none", "--pid", "host", "--user", "1000", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "none", "--userns", "keep-id", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "none", "--id-tier", "single", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "none", "-v", "data:/data", "-v", "/anonymous", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "none", "-t", "--rootfs", "ROOT", "sleep", "1000"],
    &["--net", "none", "--restart", "always", "--rootfs", "ROOT", "sleep", "0.02"],
];

/// What is going on while the kill comes. The first makes the container.
const WORKS: &[&[&str]] = &[
    &["run", "-d"],
    &["create"],
    &["start", "kept"],
    &["start", "kept"],
    &["stop", "-t", "0", "kept"],
    &["restart", "-t", "0", "kept"],
    &["exec", "kept", "sleep", "0.02"],
    &["rm", "-f", "kept"],
    &["rename", "kept", "other"],
    &["ps", "-a"],
];

#[test]
fn three_hundred_kills_at_any_time_of_a_life_lose_nothing() {
    for program in ["newuidmap", "newgidmap", "fuse-overlayfs", "slirp4netns", "pasta"] {
        require(program);
    }
    let seed = seed();
    eprintln!("SBX_TEST_SEED={seed}");
    let tally = Mutex::new(BTreeMap::<String, usize>::new());
    let works = Mutex::new(BTreeMap::<&str, usize>::new());
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (tally, works) = (&tally, &works);
            scope.spawn(move || lane_of_kills(seed.wrapping_add(lane as u64), KILLS / LANES, tally, works));
        }
    });
    let (tally, works) = (tally.into_inner().expect("a tally"), works.into_inner().expect("a tally"));
    eprintln!("killed: {tally:?}, during {works:?}");
    for role in ["sbx", "sbx-monitor", "sbx-child", "sbx-guard", "sleep", "fuse-overlayfs", "slirp4netns"] {
        assert!(tally.contains_key(role), "no kill hit a process `{role}`: {tally:?}");
    }
    for work in WORKS {
        assert!(works.contains_key(work[0]), "no kill came during `{}`: {works:?}", work[0]);
    }
}

fn lane_of_kills(
    seed: u64,
    kills: usize,
    tally: &Mutex<BTreeMap<String, usize>>,
    works: &Mutex<BTreeMap<&'static str, usize>>,
) {
    let mut random = Random::new(seed);
    let world = sbx();
    let mut done = 0;
    for round in 0.. {
        assert!(round < 20 * kills, "most processes end before they are killed");
        let (container, work) =
            (CONTAINERS[random.below(CONTAINERS.len())], WORKS[random.below(WORKS.len())]);
        let what = format!("seed {seed}, round {round}, {container:?}, {work:?}");
        let running = begin(&world, container, work);
        std::thread::sleep(Duration::from_micros(random.below(longest(work)) as u64));
        let killed = choose(&world, &mut random, tally).filter(|(pid, _)| end(*pid));
        let _ = running.finish();
        let what = format!("{what}, killed {killed:?}");
        if let Some((_, name)) = &killed {
            done += 1;
            *tally.lock().expect("a tally").entry(name.clone()).or_default() += 1;
            *works.lock().expect("a tally").entry(work[0]).or_default() += 1;
        }
        the_truth_is_told(&world, &what);
        lives_again_and_goes(&world, &what);
        if done >= kills {
            eprintln!("seed {seed}: {} rounds", round + 1);
            return;
        }
    }
}

/// How long the kill may wait, in microseconds: what is over soon is to be met as well.
fn longest(work: &[&str]) -> usize {
    match work[0] {
        "create" | "ps" | "rename" => 5_000,
        _ => 40_000,
    }
}

/// Makes what the work needs, and starts the work.
fn begin<'w>(world: &'w Sbx, container: &[&str], work: &[&str]) -> Running<'w> {
    let create = |verb: &[&str]| {
        let options = [verb, &["--name", "kept", "--stop-timeout", "0"]].concat();
        let root = rootfs().to_str().expect("text");
        let words =
            options.into_iter().chain(container.iter().map(|word| if *word == "ROOT" { root } else { word }));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    match work[0] {
        "run" | "create" => return world.sbx(create(work)).spawn(),
        "start" => {
            world.sbx(create(&["create"])).succeed();
        }
        _ => {
            world.sbx(create(&["run", "-d"])).succeed();
        }
    }
    world.sbx(work).spawn()
}

/// Name, state and PID of the container, if there is one.
fn shown(world: &Sbx, what: &str) -> Option<(String, String, i32)> {
    let listed = world.sbx(["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Pid}}"]).finish();
    assert_eq!((listed.code(), listed.stderr().as_str()), (0, ""), "{what}");
    let text = listed.stdout();
    let mut lines = text.lines();
    let line = lines.next().filter(|line| !line.is_empty())?;
    assert_eq!(lines.next(), None, "{what}: {text}");
    let words: Vec<&str> = line.split(' ').collect();
    Some((words[0].to_owned(), words[1].to_owned(), words[2].parse().expect("a number")))
}

fn the_truth_is_told(world: &Sbx, what: &str) {
    // It may end between the two looks, and its monitor needs a moment to say so.
    for _ in 0..1000 {
        let Some((_, state, pid)) = shown(world, what) else { return };
        let running = ["running", "paused"].contains(&state.as_str());
        if !running || pid > 0 && alive(Pid::from_raw(pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: a container is shown as running that is not:\n{}", world.leftovers());
}

fn lives_again_and_goes(world: &Sbx, what: &str) {
    if let Some((name, state, _)) = shown(world, what) {
        assert_ne!(state, "dead", "{what}");
        if state == "removing" {
            // The next command goes on with it.
            assert_eq!(world.sbx(["start", &name]).finish().code(), 125, "{what}");
            next_command(world);
            return assert_nothing_left(world, what);
        }
        let started = world.sbx(["start", &name]).finish();
        assert_eq!(started.code(), 0, "{what}, {state}: {}", started.stderr());
        world.sbx(["stop", "-t", "0", &name]).expect_code(0);
        let (_, state, _) = shown(world, what).expect("it is kept");
        assert_eq!(state, "exited", "{what}");
        world.sbx(["rm", "-v", &name]).expect_code(0);
    }
    let _ = world.sbx(["volume", "rm", "-f", "data"]).finish();
    next_command(world);
    assert_nothing_left(world, what);
}

#[test]
fn the_exit_code_is_kept_whatever_else_is_killed() {
    for victim in ["sbx-guard", "slirp4netns"] {
        let world = sbx();
        let root = rootfs().to_str().expect("text");
        let script = "until test -e /tmp/go; do sleep 0.01; done; exit 7";
        world
            .sbx(["run", "-d", "--name=kept", "--net=slirp4netns", "--rootfs", root, "sh", "-c", script])
            .succeed();
        assert!(end(wait_for(&world, victim)));
        world.sbx(["exec", "kept", "touch", "/tmp/go"]).expect_code(0);
        assert_eq!(world.sbx(["wait", "kept"]).succeed(), "7", "{victim}");
        let shown = world.sbx(["ps", "-a", "--format", "{{.State}} {{.ExitCode}}"]).succeed();
        assert_eq!(shown, "exited 7", "{victim}");
        world.sbx(["rm", "kept"]).succeed();
    }
}
