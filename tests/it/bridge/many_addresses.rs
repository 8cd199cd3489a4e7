//! One name for many containers.

use super::{Place, wait_until};
use crate::harness::sbx;

/// More than fit a datagram of 512 bytes: the answer is cut, and whole over TCP.
const MEMBERS: usize = 40;

#[test]
fn a_name_of_many_has_all_their_addresses() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["pool"]);
    let options = ["--network=pool:alias=worker"];
    let names: Vec<String> = (0..MEMBERS).map(|number| format!("worker{number}")).collect();
    let workers: Vec<_> = std::thread::scope(|scope| {
        let start = |name| place.sleeper(name, &options);
        let started: Vec<_> = names.iter().map(|name| scope.spawn(move || start(name))).collect();
        started.into_iter().map(|thread| thread.join().expect("it started")).collect()
    });
    let containers = place.document(&["network", "inspect", "pool"])["Containers"].clone();
    let shown = containers.as_object().expect("containers").values();
    let mut addresses: Vec<String> =
        shown.filter_map(|one| one["IPv4Address"].as_str()?.split('/').next()).map(str::to_owned).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), MEMBERS, "each has its own");
    let answer = workers[0].ask("worker", "A");
    let whole = answer.strip_prefix("cut ").unwrap_or_else(|| panic!("it fits no 512 bytes: {answer}"));
    assert_eq!(whole, format!("NOERROR {}", addresses.join(" ")));
    assert_eq!(workers[0].peer(&["lookup", "worker"]), addresses.join(" "), "as any program does it");

    let gone = workers[MEMBERS - 1].address("pool");
    place.sbx(["stop", "-t", "0", &workers[MEMBERS - 1].name]).expect_code(0);
    wait_until("it is out of the name", || !workers[0].ask("worker", "A").contains(&format!(" {gone} ")));
    place.sbx(["rm", "-f", "-t", "0", "--all"]).expect_code(0);
}
