//! kill -9 of whatever holds bridge networks together, while containers come, go and move: afterwards everybody is in
//! the networks again, and nothing is left.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::bridge::{Member, Place, holders, wait_until};

/// Each is a container, all at once.
const LANES: usize = 50;
const VICTIMS: [&str; 4] = ["sbx-bridge", "sbx-network", "slirp4netns", "sbx-monitor"];
const NETWORKS: [&str; 3] = ["shop", "back", "bridge"];

/// What one container is told to do, one after another. Any of it may fail, since anything may be killed meanwhile.
const WORKS: [&[&str]; 5] = [
    &["network", "connect", "back", "NAME"],
    &["network", "disconnect", "back", "NAME"],
    &["restart", "-t", "0", "NAME"],
    &["stop", "-t", "0", "NAME"],
    &["start", "NAME"],
];

#[test]
fn kills_while_fifty_containers_come_go_and_move_leave_the_networks_as_they_were() {
    let mut world = sbx();
    world.allow_leftovers();
    let place = Place::new(&world);
    let seed = seed();
    eprintln!("SBX_TEST_SEED={seed}");
    place.create(&["--ipv6", "shop"]);
    place.create(&["back"]);
    let names: Vec<String> = (0..LANES).map(|lane| format!("c{lane}")).collect();
    let (tally, busy) = (Mutex::new(BTreeMap::<&str, usize>::new()), AtomicUsize::new(LANES));
    std::thread::scope(|scope| {
        for (lane, name) in names.iter().enumerate() {
            let (place, busy) = (&place, &busy);
            scope.spawn(move || {
                live(place, name, &mut Random::new(seed.wrapping_add(lane as u64)));
                busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut random = Random::new(!seed);
        while busy.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(Duration::from_millis(random.below(60) as u64));
            let victim = VICTIMS[random.below(VICTIMS.len())];
            let all: Vec<Pid> = processes(&world)
                .into_iter()
                .filter(|(_, name)| name == victim)
                .map(|(pid, _)| pid)
                .collect();
            if !all.is_empty() && end(all[random.below(all.len())]) {
                *tally.lock().expect("a tally").entry(victim).or_default() += 1;
            }
        }
    });
    let tally = tally.into_inner().expect("a tally");
    eprintln!("killed: {tally:?}");
    for victim in VICTIMS {
        assert!(tally.contains_key(victim), "no kill hit a process `{victim}`: {tally:?}");
    }
    everybody_is_back(&place, &names, seed);
    place.sbx(["rm", "-f", "-t", "0", "--all"]).expect_code(0);
    wait_until(&format!("seed {seed}: the namespace is gone"), || holders(&world).is_empty());
    world.assert_clean();
    assert_eq!(place.sbx(["ps", "-aq"]).succeed(), "");
    a_new_day(&place);
    wait_until(&format!("seed {seed}: the namespace is gone again"), || holders(&world).is_empty());
    world.assert_clean();
}

fn live(place: &Place, name: &str, random: &mut Random) {
    let network = format!("--network={}", NETWORKS[random.below(NETWORKS.len())]);
    let port = format!("-p127.0.0.1:{}:80", 27_000 + name[1..].parse::<u16>().expect("a number"));
    drop(place.run(&["-d", "--name", name, &network, &port], &["sleep", "100000"]).finish());
    for _ in 0..8 {
        let work = WORKS[random.below(WORKS.len())];
        let words: Vec<&str> = work.iter().map(|word| if *word == "NAME" { name } else { word }).collect();
        drop(place.sbx(words).finish());
    }
}

/// Whoever lost its monitor, or was stopped, starts again at the first attempt; the others need nothing.
fn everybody_is_back(place: &Place, names: &[String], seed: u64) {
    // A monitor that was killed last of all is missed a moment later: its guard has to hear of it.
    std::thread::sleep(Duration::from_millis(500));
    for name in names {
        let state = place.sbx(["inspect", "-f", "{{.State.Status}}", name]).finish();
        if state.code() != 0 {
            // Its `run` was cut short.
            place.run(&["-d", "--name", name, "--network=shop"], &["sleep", "100000"]).expect_code(0);
        } else if state.stdout().trim() != "running" {
            place.sbx(["start", name]).expect_code(0);
        }
    }
    let running = place.sbx(["ps", "-q"]).succeed();
    assert_eq!(running.lines().count(), names.len(), "seed {seed}");
    let mut addresses: Vec<String> = Vec::new();
    for name in names {
        let networks = place.document(&["inspect", name])["NetworkSettings"]["Networks"].clone();
        for (network, endpoint) in networks.as_object().expect("networks") {
            let [address, gateway] = ["IPAddress", "Gateway"]
                .map(|field| endpoint[field].as_str().expect("an address").to_owned());
            wait_until(&format!("seed {seed}: {name} reaches the gateway of {network}, {endpoint}"), || {
                let ping = ["exec", name, "ping", "-c", "1", "-W", "1", "-I", &address, &gateway];
                place.sbx(ping).finish().code() == 0
            });
            addresses.push(address);
        }
    }
    let count = addresses.len();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), count, "seed {seed}: an address was given twice");
}

/// Names, ports and networks are as on the first.
fn a_new_day(place: &Place) {
    let options = ["--network=shop", "-p127.0.0.1:27000:7000"];
    let server: Member = place.server("c0", &options, &["tcp:*:7000"]);
    let client = place.sleeper("c1", &["--network=shop"]);
    assert_eq!(client.peer(&["tcp", "c0", "7000"]), "whole");
    place.peer(&["tcp", "127.0.0.1", "27000"]).expect_code(0).stdout_is("whole\n");
    drop((client, server));
    place.sbx(["network", "rm", "shop", "back"]).expect_code(0);
}
