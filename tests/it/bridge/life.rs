//! The shared namespace comes with the first container and goes with the last, whatever is killed meanwhile.

use nix::sys::signal::{Signal, kill};

use super::{Place, holders, wait_until};
use crate::harness::sbx;
use crate::network::outer::FAR;

#[test]
fn it_comes_with_the_first_and_goes_with_the_last() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    assert!(holders(&world).is_empty(), "a network alone needs no process");
    let first = place.sleeper("first", &["--network=shop"]);
    let held = holders(&world);
    assert!(!held.is_empty());
    let second = place.sleeper("second", &["--network=bridge"]);
    assert_eq!(holders(&world), held, "one namespace for all networks");
    drop(first);
    assert_eq!(
        second.exec(&["ping", "-c", "1", "-W", "2", &second.address("bridge")]).expect_code(0).code(),
        0
    );
    assert_eq!(holders(&world), held);
    drop(second);
    wait_until("the namespace is gone", || holders(&world).is_empty());
    world.assert_clean();
}

/// Each says the one line that it was started for; nothing is left, and no address was given twice.
#[test]
fn fifty_containers_start_and_stop_at_once() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    place.create(&["other"]);
    let script = "ip -o -4 address show dev eth0 | awk '{print $4}'; sleep 0.3";
    let addresses: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..50)
            .map(|number| {
                let network = if number % 5 == 0 { "--network=other" } else { "--network=shop" };
                let place = &place;
                scope.spawn(move || {
                    let run = place.run(&["--rm", network], &["sh", "-c", script]);
                    run.expect_code(0).stderr_is("").stdout()
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("it ran")).collect()
    });
    assert!(addresses.iter().all(|address| address.starts_with("10.")), "{addresses:?}");
    wait_until("the namespace is gone", || holders(&world).is_empty());
    world.assert_clean();
}

#[test]
fn fifty_that_run_at_once_have_fifty_addresses() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let names: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
    let members: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> =
            names.iter().map(|name| scope.spawn(|| place.sleeper(name, &["--network=shop"]))).collect();
        started.into_iter().map(|thread| thread.join().expect("it started")).collect()
    });
    let network = place.document(&["network", "inspect", "shop"]);
    let containers = network["Containers"].as_object().expect("containers").clone();
    let mut addresses: Vec<&str> =
        containers.values().filter_map(|one| one["IPv4Address"].as_str()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 50, "{network}");
    // All are there for each other, at once.
    let script = "for at in $(seq 0 49); do ping -c 1 -W 5 -q c$at >/dev/null & done; for at in $(jobs -p); do wait $at || echo lost; done";
    members[7].sh(script).expect_code(0).stdout_is("");
    place.sbx(["rm", "-f", "-t", "0", "--all"]).expect_code(0);
    wait_until("the namespace is gone", || holders(&world).is_empty());
}

#[test]
fn a_killed_holder_is_made_again_and_everybody_is_back() {
    let mut world = sbx();
    world.allow_leftovers();
    let place = Place::apart(&world, FAR);
    let _far = place.outer().serve(&[&format!("tcp:{FAR}:7000")]);
    place.create(&["shop"]);
    place.create(&["second"]);
    let options = ["--network=shop:alias=store", "--network=second", "-p8080:80"];
    let server = place.server("server", &options, &["tcp:*:80"]);
    let client = place.sleeper("client", &["--network=shop"]);
    let addresses = [server.address("shop"), server.address("second"), client.address("shop")];
    let first = server.sh("cat /proc/1/stat").succeed();
    let first = first.split(' ').nth(21).expect("a start time").to_owned();
    for name in ["sbx-bridge", "sbx-network"] {
        let before = holders(&world);
        let named = |pid: &&nix::unistd::Pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let victim = before.iter().find(named).unwrap_or_else(|| panic!("no {name} runs"));
        kill(*victim, Signal::SIGKILL).expect("it runs");
        let asked = || client.peer(&["tcp", "store", "80", "100000", "1"]);
        wait_until(&format!("the server is reached after {name} was killed"), || asked() == "whole");
        wait_until("the port is served", || {
            place.peer(&["tcp", "127.0.0.1", "8080", "5", "1"]).expect_code(0).stdout() == "whole\n"
        });
        wait_until("the world is reached", || client.peer(&["tcp", FAR, "7000", "5", "1"]) == "whole");
        let now = [server.address("shop"), server.address("second"), client.address("shop")];
        assert_eq!(now, addresses, "they are where they were");
        let still = server.sh("cat /proc/1/stat").succeed();
        assert_eq!(still.split(' ').nth(21), Some(first.as_str()), "no container was started again");
    }
    // Whoever comes later finds them.
    let late = place.sleeper("late", &["--network=shop"]);
    assert_eq!(late.peer(&["tcp", "server", "80"]), "whole");
    drop((late, client, server));
    wait_until("the namespace is gone", || holders(&world).is_empty());
}

#[test]
fn a_killed_uplink_is_made_again() {
    let mut world = sbx();
    world.allow_leftovers();
    let place = Place::apart(&world, FAR);
    let _far = place.outer().serve(&[&format!("tcp:{FAR}:7000")]);
    place.create(&["shop"]);
    let client = place.sleeper("client", &["--network=shop"]);
    assert_eq!(client.peer(&["tcp", FAR, "7000"]), "whole");
    let processes = world.leftovers().processes;
    let uplink = processes.iter().find(|process| process.command.contains("slirp4netns")).expect("an uplink");
    kill(uplink.pid, Signal::SIGKILL).expect("it runs");
    wait_until("the world is reached", || client.peer(&["tcp", FAR, "7000", "5", "1"]) == "whole");
}

#[test]
fn a_killed_monitor_leaves_nothing_in_the_network() {
    let mut world = sbx();
    world.allow_leftovers();
    let place = Place::apart(&world, FAR);
    place.create(&["--subnet=10.210.4.0/24", "shop"]);
    let asks = place.sleeper("asks", &["--network=shop"]);
    let options = ["--network=shop:ip=10.210.4.77,mac=02:42:ac:11:00:77,alias=store", "-p8080:80"];
    let server = place.server("server", &options, &["tcp:*:80"]);
    assert_eq!(asks.ask("store", "A"), "NOERROR 10.210.4.77");
    kill(server.monitor(), Signal::SIGKILL).expect("it runs");
    wait_until("its name is gone", || !asks.ask("store", "A").starts_with("NOERROR"));
    let containers = place.document(&["network", "inspect", "shop"])["Containers"].clone();
    assert_eq!(containers.as_object().map(serde_json::Map::len), Some(1), "{containers}");
    // Address, MAC address and port are free for another.
    let other = place.server("other", &options, &["tcp:*:80"]);
    assert_eq!(asks.ask("store", "A"), "NOERROR 10.210.4.77");
    assert_eq!(other.address("shop"), "10.210.4.77");
    place.peer(&["tcp", "127.0.0.1", "8080"]).expect_code(0).stdout_is("whole\n");
    assert_eq!(asks.peer(&["tcp", "store", "80"]), "whole");
    drop((server, other, asks));
    wait_until("the namespace is gone", || holders(&world).is_empty());
}

#[test]
fn all_monitors_killed_at_once_leave_no_namespace() {
    let mut world = sbx();
    world.allow_leftovers();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let members: Vec<_> =
        ["one", "two", "three"].iter().map(|name| place.sleeper(name, &["--network=shop"])).collect();
    for monitor in members.iter().map(super::Member::monitor).collect::<Vec<_>>() {
        kill(monitor, Signal::SIGKILL).expect("it runs");
    }
    wait_until("the namespace is gone", || holders(&world).is_empty());
    drop(members);
    world.assert_clean();
}

#[test]
fn a_container_that_restarts_keeps_its_address() {
    let world = sbx();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let web = place.sleeper("web", &["--network=shop"]);
    let _other = place.sleeper("other", &["--network=shop"]);
    let (address, mac) = (web.address("shop"), web.mac("shop"));
    for _ in 0..3 {
        place.sbx(["restart", "-t", "0", "web"]).expect_code(0);
        assert_eq!((web.address("shop"), web.mac("shop")), (address.clone(), mac.clone()));
    }
    assert_eq!(web.ask("web", "A"), format!("NOERROR {address}"));
}

#[test]
fn an_emptied_runtime_directory_divides_no_network() {
    let mut world = sbx();
    world.allow_leftovers();
    let place = Place::new(&world);
    place.create(&["shop"]);
    let first = place.server("first", &["--network=shop"], &["tcp:*:7000"]);
    let address = first.address("shop");
    std::fs::remove_dir_all(world.runtime().join("sbx")).expect("the runtime directory");
    let second = place.sleeper("second", &["--network=shop"]);
    wait_until("the first is there", || second.peer(&["tcp", "first", "7000", "5", "1"]) == "whole");
    let named = |name: &str| {
        let is = |pid: &&nix::unistd::Pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        holders(&world).iter().filter(is).count()
    };
    wait_until("one holder is left", || named("sbx-bridge") == 1 && named("sbx-network") == 1);
    assert_ne!(second.address("shop"), address);
    drop((first, second));
    wait_until("the namespace is gone", || holders(&world).is_empty());
}
