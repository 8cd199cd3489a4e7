//! `sbx network`, and `--network NAME`

mod addresses;
mod changes;
mod live;

use serde_json::Value;

use crate::harness::{Run, Sbx, rootfs, sbx};

/// `sbx create` or `sbx run -d` of a container that sleeps.
fn sleeper<'w>(world: &'w Sbx, verb: &[&str], options: &[&str]) -> Run<'w> {
    let command = world.sbx(verb).args(["--stop-timeout=0"]).args(options);
    command.arg("--rootfs").arg(rootfs()).args(["sleep", "1000"])
}

fn make(world: &Sbx, words: &[&str]) -> String {
    let made = world.sbx(["network", "create"]).args(words).expect_code(0).stderr_is("");
    made.stdout().trim_end().to_owned()
}

fn document(world: &Sbx, words: &[&str]) -> Value {
    let text = world.sbx(words).succeed();
    let documents: Value = serde_json::from_str(&text).expect("JSON");
    documents[0].clone()
}

#[test]
fn a_network_is_made_listed_looked_at_and_removed() {
    let world = sbx();
    world.sbx(["network", "exists", "shop_default"]).expect_code(1);
    // As podman-compose does it.
    assert_eq!(make(&world, &["--label", "app=shop", "--label", "tier", "shop_default"]), "shop_default");
    world.sbx(["network", "exists", "shop_default"]).expect_code(0);
    make(&world, &["-d", "bridge", "other"]);

    let found = document(&world, &["network", "inspect", "shop_default"]);
    let id = found["Id"].as_str().expect("an ID").to_owned();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    for (field, value) in [
        ("Name", Value::from("shop_default")),
        ("name", Value::from("shop_default")),
        ("id", Value::from(id.as_str())),
        ("Driver", Value::from("bridge")),
        ("driver", Value::from("bridge")),
        ("Internal", Value::from(false)),
        ("dns_enabled", Value::from(true)),
        ("ipv6_enabled", Value::from(false)),
        ("network_interface", Value::from("sbx0")),
        ("Labels", serde_json::json!({"app": "shop", "tier": ""})),
        ("labels", serde_json::json!({"app": "shop", "tier": ""})),
        ("Containers", serde_json::json!({})),
    ] {
        assert_eq!(found[field], value, "{field}");
    }
    let created = found["Created"].as_str().expect("a time");
    assert!(created.starts_with("20") && found["created"] == created, "{created}");
    assert_eq!(world.sbx(["network", "inspect", "-f", "{{.Name}}", &id[..8]]).succeed(), "shop_default");
    assert_eq!(
        world.sbx(["network", "inspect", "-f", "{{index .Labels \"app\"}}", "shop_default"]).succeed(),
        "shop"
    );
    world.sbx(["network", "inspect", "nothing"]).expect_code(1).stderr_has("no such network");

    let listed = |filters: &[&str]| {
        let words = ["network", "ls", "--noheading", "--format", "{{.Name}}"];
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        world.sbx(words).args(filters).succeed()
    };
    assert_eq!(listed(&[]), "bridge\nhost\nnone\nother\nprivate\nshop_default");
    assert_eq!(listed(&["label=app=shop"]), "shop_default");
    assert_eq!(listed(&["label=app=none"]), "");
    assert_eq!(listed(&["label!=app", "driver=bridge"]), "bridge\nother");
    assert_eq!(listed(&["type=custom"]), "other\nshop_default");
    assert_eq!(listed(&["type=builtin", "driver=bridge", "scope=local"]), "bridge");
    assert_eq!(listed(&["scope=swarm"]), "");
    assert_eq!(listed(&["name=shop", "name=oth"]), "other\nshop_default");
    assert_eq!(listed(&[&format!("id={}", &id[..10])]), "shop_default");
    assert_eq!(listed(&["until=2020-01-01", "type=custom"]), "");
    world.sbx(["network", "ls", "--filter", "colour=red"]).expect_code(125).stderr_has("driver, id, label");
    assert_eq!(world.sbx(["network", "ls", "-q", "-f", "type=custom"]).succeed(), "other\nshop_default");
    let table = world.sbx(["network", "ls", "-f", "name=shop"]).succeed();
    assert!(table.contains(&id[..12]) && !table.contains(&id) && table.starts_with("NETWORK ID"), "{table}");
    let table = world.sbx(["network", "ls", "-n", "--no-trunc", "-f", "name=shop"]).succeed();
    assert!(table.starts_with(&id), "{table}");

    assert_eq!(world.sbx(["network", "rm", "shop_default"]).succeed(), "shop_default");
    world.sbx(["network", "exists", "shop_default"]).expect_code(1);
    let gone = world.sbx(["network", "rm", "shop_default", "other"]).expect_code(1);
    gone.stderr_has("no such network").stdout_is("other\n");
    world.sbx(["network", "rm", "-f", "shop_default"]).expect_code(0).stdout_is("");
    let told = world.sbx([
        "events",
        "--stream=false",
        "--filter",
        "type=network",
        "--format",
        "{{.Status}} {{.Name}}",
    ]);
    assert_eq!(told.succeed(), "create shop_default\ncreate other\nremove shop_default\nremove other");
}

#[test]
fn a_name_is_taken_once() {
    let world = sbx();
    make(&world, &["shop"]);
    let id = document(&world, &["network", "inspect", "shop"])["Id"].clone();
    world.sbx(["network", "create", "shop"]).expect_code(125).stderr_has("in use").stderr_has("--ignore");
    assert_eq!(world.sbx(["network", "create", "--ignore", "shop"]).succeed(), "shop");
    assert_eq!(document(&world, &["network", "inspect", "shop"])["Id"], id);
    for name in ["host", "none", "private", "bridge", "default", "a/b", "-x", "a b", ".."] {
        world.sbx(["network", "create", "--", name]).expect_code(125).stderr_has("as the name of a network");
    }
    let made = world.store().join("networks/s.bridge");
    for name in ["private", "host", "none", "bridge"] {
        world.sbx(["network", "exists", name]).expect_code(0);
        world.sbx(["network", "rm", "-f", name]).expect_code(125).stderr_has("always there");
    }
    let listed = ["network", "ls", "--no-trunc", "--noheading", "-f", "name=bridge"];
    let before = world.sbx(listed).succeed();
    assert!(!made.exists(), "looking for it makes it");
    for name in ["private", "host", "none", "bridge"] {
        assert_eq!(world.sbx(["network", "inspect", "-f", "{{.Name}}", name]).succeed(), name);
    }
    assert!(made.exists());
    assert_eq!(world.sbx(listed).succeed(), before);
    assert_eq!(world.sbx(["network", "prune", "-f"]).succeed(), "shop");
    assert!(made.exists());
}

#[test]
fn what_cannot_be_had_is_refused_with_the_reason() {
    let world = sbx();
    for (option, cause) in [
        ("--driver=macvlan", "only the host's root"),
        ("--driver=ipvlan", "--network pasta"),
        ("--driver=overlay", "daemons"),
        ("--driver=host", "--network host"),
        ("--driver=none", "--network none"),
        ("--driver=weave", "no such driver"),
        ("--subnet=10.210.0.1/24", "--subnet 10.210.0.0/24"),
        ("--subnet=10.210.0.0/31", "too small"),
        ("--subnet=10.0.2.0/24", "Pool overlaps with other one on this address space"),
        ("--gateway=10.210.0.1", "add `--subnet`"),
        ("--ip-range=10.210.0.0/28", "add `--subnet`"),
        ("--ip-range=10.210.0.1", "10.91.0.128/25"),
        ("--aux-address=10.210.0.1", "NAME=IP"),
        ("--opt=colour=red", "no option `colour`"),
        ("--opt=com.docker.network.bridge.enable_icc=false", "a network of its own"),
        ("--opt=mtu=12", "from 68"),
        ("--ipam-driver=dhcp", "DHCP server"),
        ("--ipam-driver=none", "--network none"),
        ("--ipam-opt=a=b", "no options"),
        ("--route=10.8.0.0/24,10.9.0.1", "one way out"),
        ("--interface-name=a/b", "character"),
        ("--interface-name=0123456789abcdef", "15"),
        ("--scope=swarm", "daemons"),
        ("--ingress", "daemons"),
        ("--config-only", "macvlan"),
    ] {
        let refused = world.sbx(["network", "create", option, "shop"]).expect_code(125);
        refused.stderr_has("cannot make the network `shop`").stderr_has(cause).stdout_is("");
    }
    world.sbx(["network", "create", "--subnet=10.210.0.0", "shop"]).expect_code(125).stderr_has("--subnet");
    world.sbx(["network", "exists", "shop"]).expect_code(1);
    make(
        &world,
        &["--subnet=10.210.0.0/24", "--attachable", "--scope=local", "--ipam-driver=default", "shop"],
    );
    make(&world, &["second"]);
    for (options, cause) in [
        (&["--network=shop:colour=red"][..], "no option `colour=red`"),
        (&["--network=shop", "--network=host"], "`host` and other networks"),
        (&["--network=shop", "--network=shop:alias=x"], "is there twice"),
        (&["--network=shop:mac=02:42:ac:11:00:02", "--mac-address=02:42:ac:11:00:03"], "twice"),
        (&["--network=shop:mac=01:42:ac:11:00:02"], "multicast"),
        (&["--network=shop:ip=10.211.0.2"], "not in the subnet 10.210.0.0/24"),
        (&["--network=shop", "--ip=10.210.0.1"], "gateway's"),
        (&["--network=shop", "--ip=10.210.0.255"], "broadcast"),
        (&["--network=shop", "--ip=10.210.0.0"], "of the network"),
        (&["--network=shop", "--ip6=fd00::7"], "no IPv6 addresses"),
        (&["--network=shop", "--network=second", "--ip=10.210.0.7"], "2 networks"),
        (&["--network=shop", "--network=second", "--network-alias=web"], "2 networks"),
        (&["--network=shop:interface_name=a", "--network=second:interface_name=a"], "same name"),
        (&["--network=private", "--network-alias=web"], "no network that others can be in"),
        (&["--ip=10.210.0.7"], "no network that others can be in"),
        (&["--network=none", "--ip=10.210.0.7"], "no network that others can be in"),
        (&["--network=nothing"], "sbx network create nothing"),
        (&["--network=shop", "--link=nobody"], "no container with the name or ID `nobody`"),
        (&["--network=none", "--link=nobody"], "cannot use `--link nobody` with `--network none`"),
    ] {
        sleeper(&world, &["create"], options).expect_code(125).stderr_has(cause);
    }
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
}

#[test]
fn a_container_is_a_member_and_keeps_its_network() {
    let world = sbx();
    make(&world, &["shop"]);
    make(&world, &["empty"]);
    let id = document(&world, &["network", "inspect", "shop"])["Id"].as_str().expect("an ID").to_owned();
    let options = ["--name=web", "--network=shop:alias=www,mac=02:42:ac:11:00:02", "--network-alias=front"];
    sleeper(&world, &["run", "-d"], &options).expect_code(0).stderr_is("");
    sleeper(&world, &["create"], &["--name=idle", &format!("--network={}", &id[..12])]).expect_code(0);
    sleeper(&world, &["create"], &["--name=alone"]).expect_code(0);

    let web = document(&world, &["inspect", "web"]);
    let endpoint = &web["NetworkSettings"]["Networks"]["shop"];
    assert_eq!(endpoint["NetworkID"], id.as_str());
    assert_eq!(endpoint["Aliases"], serde_json::json!(["www", "front"]));
    assert_eq!(endpoint["MacAddress"], "02:42:ac:11:00:02");
    assert_eq!(web["HostConfig"]["NetworkMode"], "shop");
    let address = ["exec", "web", "sh", "-c", "cat /sys/class/net/eth0/address"];
    assert_eq!(world.sbx(address).succeed(), "02:42:ac:11:00:02");
    for filter in ["network=shop".to_owned(), format!("network={}", &id[..12])] {
        let found = world.sbx([
            "ps",
            "-a",
            "--sort=names",
            "--format",
            "{{.Names}} {{.Networks}}",
            "--filter",
            &filter,
        ]);
        assert_eq!(found.succeed(), "idle shop\nweb shop", "{filter}");
    }
    // Those that are up, as docker and podman show them.
    let containers = document(&world, &["network", "inspect", "shop"])["Containers"].clone();
    assert_eq!(containers.as_object().map(serde_json::Map::len), Some(1), "{containers}");
    assert_eq!(containers[web["Id"].as_str().expect("an ID")]["Name"], "web");

    // Also one that has never run keeps it.
    world.sbx(["network", "rm", "shop"]).expect_code(2).stderr_has("web").stderr_has("idle");
    assert_eq!(world.sbx(["network", "prune", "-f"]).succeed(), "empty");
    world.sbx(["rm", "-f", "web"]).expect_code(0);
    world.sbx(["network", "rm", "shop"]).expect_code(2).stderr_has("in it: idle");
    world.sbx(["start", "idle"]).expect_code(0);
    assert_eq!(world.sbx(["network", "rm", "-f", "-t", "0", "shop"]).succeed(), "shop");
    assert_eq!(world.sbx(["ps", "-a", "--format", "{{.Names}}"]).succeed(), "alone");
    world.sbx(["network", "rm", "shop"]).expect_code(1);
}

#[test]
fn networks_that_nobody_is_in_are_pruned_by_label() {
    let world = sbx();
    make(&world, &["--label=app=shop", "one"]);
    make(&world, &["two"]);
    world.sbx(["network", "prune"]).stdin("n\n").expect_code(0).stdout_is("").stderr_has("WARNING!");
    world.sbx(["network", "prune", "-f", "--filter", "name=one"]).expect_code(125);
    assert_eq!(world.sbx(["network", "prune", "-f", "--filter", "label=app=shop"]).succeed(), "one");
    world.sbx(["network", "prune"]).stdin("y\n").expect_code(0).stdout_is("two\n");

    make(&world, &["--label=app=shop", "three"]);
    make(&world, &["four"]);
    sleeper(&world, &["create"], &["--network=four", "--label=app=shop"]).expect_code(0);
    let pruned = world.sbx(["system", "prune", "-f", "--filter", "label=app=shop"]).succeed();
    assert!(pruned.contains("Deleted Networks:\nthree\n"), "{pruned}");
    // The container went first.
    let pruned = world.sbx(["system", "prune", "-f"]).succeed();
    assert!(pruned.contains("Deleted Networks:\nfour\n"), "{pruned}");
}

#[test]
fn a_container_whose_network_is_gone_says_so() {
    let world = sbx();
    make(&world, &["shop"]);
    sleeper(&world, &["create"], &["--name=web", "--network=shop"]).expect_code(0);
    // No command of sbx does that.
    std::fs::remove_file(world.store().join("networks/s.shop")).expect("the record");
    let refused = world.sbx(["start", "web"]).expect_code(125);
    refused.stderr_has("the network `shop` is gone").stderr_has("Hint: ");
    make(&world, &["shop"]);
    world.sbx(["start", "web"]).expect_code(125).stderr_has("no network with the ID");
    world.sbx(["rm", "web"]).expect_code(0);
    world.assert_clean();
}

/// Whoever makes a container in a network and whoever removes it meanwhile agree about who was first.
#[test]
fn a_network_is_never_removed_below_a_container_that_is_being_made() {
    let world = sbx();
    for round in 0..6 {
        make(&world, &["shop"]);
        let name = format!("web{round}");
        let (made, removed) = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                sleeper(&world, &["create"], &[&format!("--name={name}"), "--network=shop"]).finish().code()
            });
            // At another moment each time.
            std::thread::sleep(std::time::Duration::from_millis(3 * round));
            let removed = world.sbx(["network", "rm", "shop"]).finish().code();
            (made.join().expect("create"), removed)
        });
        assert!(matches!((made, removed), (0, 2) | (125, 0)), "create {made}, rm {removed}");
        let exists = world.sbx(["network", "exists", "shop"]).finish().code();
        assert_eq!(exists == 0, made == 0);
        world.sbx(["network", "rm", "-f", "shop"]).expect_code(0);
    }
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
}
