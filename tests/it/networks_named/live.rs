//! Networks of containers that run: what they find inside, and what is told of them.

use serde_json::{Value, json};

use super::{document, make, sleeper};
use crate::harness::{Sbx, sbx};

fn inside(world: &Sbx, container: &str, script: &str) -> String {
    world.sbx(["exec", container, "sh", "-c", script]).succeed()
}

fn endpoint(world: &Sbx, container: &str, network: &str) -> Value {
    document(world, &["inspect", container])["NetworkSettings"]["Networks"][network].clone()
}

fn interfaces(world: &Sbx, container: &str) -> String {
    inside(world, container, "cd /sys/class/net; echo *")
}

#[test]
fn a_container_has_the_addresses_and_names_that_it_asked_for() {
    let world = sbx();
    make(&world, &["--subnet=10.210.0.0/24", "--subnet=fd12:3456::/64", "--opt=mtu=1400", "shop"]);
    let options = [
        "--name=web",
        "--hostname=front",
        "--network=shop:ip=10.210.0.7,ip6=fd12:3456::7,mac=02:42:ac:11:00:02,alias=www,interface_name=net0",
    ];
    sleeper(&world, &["run", "-d"], &options).expect_code(0).stderr_is("");
    sleeper(&world, &["run", "-d"], &["--name=other", "--network=shop"]).expect_code(0);
    let seen = inside(
        &world,
        "web",
        "ip -o addr show net0; cat /sys/class/net/net0/address /sys/class/net/net0/mtu",
    );
    for part in ["10.210.0.7/24", "fd12:3456::7/64", "02:42:ac:11:00:02", "1400"] {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    let hosts = inside(&world, "web", "cat /etc/hosts");
    assert!(
        hosts.contains("10.210.0.7\tfront web\n") && hosts.contains("fd12:3456::7\tfront web"),
        "{hosts}"
    );
    let servers = inside(&world, "web", "grep nameserver /etc/resolv.conf");
    assert_eq!(servers, "nameserver 10.210.0.1\nnameserver fd12:3456::1");

    let web = document(&world, &["inspect", "web"]);
    let id = web["Id"].as_str().expect("an ID");
    let shop = &web["NetworkSettings"]["Networks"]["shop"];
    for (field, value) in [
        ("IPAddress", json!("10.210.0.7")),
        ("IPPrefixLen", json!(24)),
        ("Gateway", json!("10.210.0.1")),
        ("GlobalIPv6Address", json!("fd12:3456::7")),
        ("GlobalIPv6PrefixLen", json!(64)),
        ("IPv6Gateway", json!("fd12:3456::1")),
        ("MacAddress", json!("02:42:ac:11:00:02")),
        ("Aliases", json!(["www"])),
        ("DNSNames", json!(["web", "www", &id[..12], "front"])),
    ] {
        assert_eq!(shop[field], value, "{field}");
    }
    assert_eq!(shop["EndpointID"].as_str().map(str::len), Some(64));
    // Only the network `bridge` stands there.
    assert_eq!(web["NetworkSettings"]["IPAddress"], "");
    let sandbox = web["NetworkSettings"]["SandboxKey"].as_str().expect("a path");
    assert_eq!(sandbox, format!("/proc/{}/ns/net", web["State"]["Pid"]));

    let shown = document(&world, &["network", "inspect", "shop"]);
    assert_eq!(shown["Containers"].as_object().map(serde_json::Map::len), Some(2), "{shown}");
    let member = &shown["Containers"][id];
    assert_eq!(member["IPv4Address"], "10.210.0.7/24");
    assert_eq!(member["IPv6Address"], "fd12:3456::7/64");
    assert_eq!((&member["MacAddress"], &member["EndpointID"]), (&shop["MacAddress"], &shop["EndpointID"]));
    assert_eq!(
        member["interfaces"]["net0"]["subnets"][0],
        json!({ "ipnet": "10.210.0.7/24", "gateway": "10.210.0.1" })
    );
    let taken = sleeper(&world, &["run", "-d"], &["--network=shop", "--ip=10.210.0.7"]).expect_code(125);
    taken.stderr_has("10.210.0.7");
    world.sbx(["rm", "-fa"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    let world = sbx();
    make(&world, &["--subnet=10.210.0.0/24", "shop"]);
    make(&world, &["--subnet=10.210.1.0/24", "back"]);
    sleeper(&world, &["run", "-d"], &["--name=web", "--network=shop"]).expect_code(0);
    sleeper(&world, &["run", "-d"], &["--name=db", "--network=back"]).expect_code(0);
    assert_eq!(interfaces(&world, "web"), "eth0 lo");

    let connect = ["network", "connect", "--ip=10.210.1.7", "--alias=front", "back", "web"];
    world.sbx(connect).expect_code(0).stdout_is("").stderr_is("");
    assert_eq!(interfaces(&world, "web"), "eth0 eth1 lo");
    assert_eq!(endpoint(&world, "web", "back")["IPAddress"], "10.210.1.7");
    assert!(inside(&world, "db", "nslookup front").contains("10.210.1.7"));
    inside(&world, "web", "ping -c1 -W2 db");
    let hosts = inside(&world, "web", "cat /etc/hosts /etc/resolv.conf");
    assert!(hosts.contains("10.210.1.7\t") && hosts.contains("nameserver 10.210.1.1"), "{hosts}");
    world.sbx(connect).expect_code(125).stderr_has("is already connected to network");
    // An address that is another's changes nothing.
    let taken = ["network", "connect", "--ip=10.210.1.7", "back"];
    sleeper(&world, &["run", "-d"], &["--name=third", "--network=shop"]).expect_code(0);
    world.sbx(taken).arg("third").expect_code(125).stderr_has("10.210.1.7");
    assert_eq!(
        (interfaces(&world, "third").as_str(), endpoint(&world, "third", "back")),
        ("eth0 lo", Value::Null)
    );

    world.sbx(["network", "disconnect", "shop", "web"]).expect_code(0).stdout_is("").stderr_is("");
    assert_eq!(interfaces(&world, "web"), "eth1 lo");
    assert_eq!(endpoint(&world, "web", "shop"), Value::Null);
    assert_eq!(world.sbx(["network", "reload", "web"]).succeed(), "web");
    inside(&world, "web", "ping -c1 -W2 db");

    // It stays so when it is started again.
    world.sbx(["restart", "-t0", "web"]).expect_code(0);
    assert_eq!(interfaces(&world, "web"), "eth0 lo");
    assert_eq!(endpoint(&world, "web", "back")["IPAddress"], "10.210.1.7");
    world.sbx(["network", "disconnect", "back", "web"]).expect_code(0);
    assert_eq!(interfaces(&world, "web"), "lo");
    world.sbx(["network", "connect", "shop", "web"]).expect_code(0);
    inside(&world, "web", "ping -c1 -W2 third");
    let told = ["events", "--stream=false", "--filter=type=network", "--format={{.Status}} {{.Name}}"];
    let told = world.sbx(told).succeed();
    let changes: Vec<&str> = told.lines().filter(|line| line.contains("connect")).collect();
    assert_eq!(
        changes,
        ["connect back", "disconnect shop", "disconnect back", "connect shop"],
        "each once, and nothing of what failed"
    );
    world.sbx(["rm", "-fa"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn a_renamed_container_is_found_by_its_new_name() {
    let world = sbx();
    make(&world, &["--subnet=10.210.0.0/24", "shop"]);
    sleeper(&world, &["run", "-d"], &["--name=web", "--network=shop"]).expect_code(0);
    sleeper(&world, &["run", "-d"], &["--name=db", "--network=shop"]).expect_code(0);
    inside(&world, "db", "ping -c1 -W2 web");
    world.sbx(["rename", "web", "front"]).expect_code(0).stderr_is("");
    inside(&world, "db", "ping -c1 -W2 front");
    world.sbx(["exec", "db", "ping", "-c1", "-W1", "web"]).expect_code(1);
    // Also in a life that follows.
    world.sbx(["restart", "-t0", "front"]).expect_code(0);
    inside(&world, "db", "ping -c1 -W2 front");
    assert!(inside(&world, "front", "cat /etc/hosts").contains(" front\n"));
    world.sbx(["rm", "-fa"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn the_built_in_network_has_links_for_names() {
    let world = sbx();
    let db = ["--name=db", "--network=bridge", "--expose=6379", "--env=MODE=fast"];
    sleeper(&world, &["run", "-d"], &db).expect_code(0).stderr_is("");
    let settings = document(&world, &["inspect", "db"])["NetworkSettings"].clone();
    let address = settings["IPAddress"].as_str().expect("an address").to_owned();
    assert!(
        !address.is_empty() && settings["Networks"]["bridge"]["IPAddress"] == address.as_str(),
        "{settings}"
    );
    assert_eq!(settings["Networks"]["bridge"]["DNSNames"], Value::Null);
    let id = document(&world, &["inspect", "db"])["Id"].as_str().expect("an ID")[..12].to_owned();

    // As docker has it, such a container is on that network.
    let options = ["--name=web", "--link=db:my-store", "--env=MY_STORE_PORT=own"];
    sleeper(&world, &["run", "-d"], &options).expect_code(0).stderr_is("");
    let hosts = inside(&world, "web", "cat /etc/hosts");
    for name in ["my-store", "db", &id] {
        assert!(hosts.contains(&format!("{address}\t{name}\n")), "{name} is not in {hosts}");
    }
    inside(&world, "web", "ping -c1 -W2 my-store");
    let variables = inside(&world, "web", "env");
    for variable in [
        "MY_STORE_NAME=/web/my-store".to_owned(),
        format!("MY_STORE_PORT_6379_TCP=tcp://{address}:6379"),
        format!("MY_STORE_PORT_6379_TCP_ADDR={address}"),
        "MY_STORE_PORT_6379_TCP_PORT=6379".to_owned(),
        "MY_STORE_PORT_6379_TCP_PROTO=tcp".to_owned(),
        "MY_STORE_ENV_MODE=fast".to_owned(),
        // The container's own.
        "MY_STORE_PORT=own".to_owned(),
    ] {
        assert!(variables.lines().any(|line| line == variable), "{variable} is not in {variables}");
    }
    assert!(!variables.contains("MY_STORE_ENV_PATH"), "{variables}");
    assert_eq!(document(&world, &["inspect", "web"])["HostConfig"]["Links"], json!(["/db:/web/my-store"]));
    // No names otherwise.
    world.sbx(["exec", "db", "ping", "-c1", "-W1", "web"]).expect_code(1);

    world.sbx(["stop", "-t0", "web", "db"]).expect_code(0);
    let refused = world.sbx(["start", "web"]).expect_code(125);
    refused.stderr_has("db is not running").stderr_has("sbx start db");
    make(&world, &["shop"]);
    sleeper(&world, &["create"], &["--network=shop", "--link=db"])
        .expect_code(125)
        .stderr_has("none of the same");
    world.sbx(["rm", "-fa"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn a_link_in_a_network_with_names_is_one_more() {
    let world = sbx();
    make(&world, &["--subnet=10.210.0.0/24", "shop"]);
    sleeper(&world, &["run", "-d"], &["--name=db", "--network=shop:ip=10.210.0.7"]).expect_code(0);
    sleeper(&world, &["run", "-d"], &["--name=web", "--network=shop", "--link=db:store"]).expect_code(0);
    assert!(inside(&world, "web", "cat /etc/hosts").contains("10.210.0.7\tstore\n"));
    assert!(!inside(&world, "web", "env").contains("STORE_"));
    // It is nobody else's.
    world.sbx(["exec", "db", "ping", "-c1", "-W1", "store"]).expect_code(1);
    world.sbx(["rm", "-fa"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn no_servers_change_under_containers_that_run() {
    let world = sbx();
    make(&world, &["shop"]);
    sleeper(&world, &["run", "-d"], &["--name=web", "--network=shop"]).expect_code(0);
    let update = ["network", "update", "--dns-add=192.0.2.53", "shop"];
    world.sbx(update).expect_code(125).stderr_has("containers run in it: web");
    world.sbx(["rm", "-fa"]).expect_code(0);
    world.sbx(update).expect_code(0);
    world.assert_clean();
}
