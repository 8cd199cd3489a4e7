//! `sbx port`, `--expose` and `--publish-all`

use serde_json::{Value, json};

use crate::harness::{Sbx, image, rootfs, sbx};

/// A container that is made and not started.
fn create(world: &Sbx, options: &[&str]) {
    world
        .sbx(["create", "--name=web"])
        .args(options)
        .arg("--rootfs")
        .arg(rootfs())
        .arg("true")
        .expect_code(0);
}

fn ports_of(world: &Sbx) -> Value {
    let text = world.sbx(["inspect", "-f", "{{json .NetworkSettings.Ports}}", "web"]).succeed();
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn the_ports_of_a_container_are_shown_and_found() {
    let world = sbx();
    create(&world, &["-p", "127.0.0.1::80", "-p", "127.0.0.1::9/udp", "-p", "127.0.0.1::100-101"]);
    let shown = world.sbx(["port", "web"]).succeed();
    let inside: Vec<&str> = shown.lines().map(|line| line.split(" -> ").next().expect("a port")).collect();
    assert_eq!(inside, ["9/udp", "80/tcp", "100/tcp", "101/tcp"], "{shown}");
    let place = shown.lines().nth(1).and_then(|line| line.split(" -> ").nth(1)).expect("a place");
    assert!(place.starts_with("127.0.0.1:"), "{shown}");
    for word in ["80", "80/tcp"] {
        assert_eq!(world.sbx(["port", "web", word]).succeed(), place);
    }
    assert_eq!(world.sbx(["container", "port", "web", "80"]).succeed(), place);
    assert_eq!(world.sbx(["port", "--latest"]).succeed(), shown);
    assert_eq!(world.sbx(["port", "-l", "80"]).succeed(), place);
    let missing = world.sbx(["port", "web", "81"]);
    missing.expect_code(1).stderr_has("no public port '81/tcp' published for web");
    world.sbx(["port", "web", "80/udp"]).expect_code(1);
    world.sbx(["port", "web", "x"]).expect_code(125);
    world.sbx(["port", "nothing"]).expect_code(125);
    assert_eq!(world.sbx(["port", "--all"]).succeed(), "", "it does not run");
}

#[test]
fn the_ports_of_all_that_run_are_shown() {
    let world = sbx();
    let id = world
        .sbx(["run", "-d", "--rm", "--stop-timeout=0", "-p", "127.0.0.1::80", "--rootfs"])
        .arg(rootfs())
        .args(["sleep", "1000"])
        .succeed();
    let shown = world.sbx(["port", "-a"]).succeed();
    assert!(shown.starts_with(&format!("{}\t80/tcp -> 127.0.0.1:", &id[..12])), "{shown}");
    world.sbx(["rm", "-f", &id]).succeed();
}

#[test]
fn exposed_ports_are_shown_without_a_place() {
    let world = sbx();
    create(&world, &["--expose", "80-81", "--expose=53/udp", "-p", "127.0.0.1::80"]);
    let ports = ports_of(&world);
    assert_eq!((&ports["81/tcp"], &ports["53/udp"]), (&Value::Null, &Value::Null), "{ports}");
    assert_eq!(ports["80/tcp"][0]["HostIp"], "127.0.0.1");
    assert_eq!(ports.as_object().map(serde_json::Map::len), Some(3), "{ports}");
    let exposed = world.sbx(["inspect", "-f", "{{json .Config.ExposedPorts}}", "web"]).succeed();
    assert_eq!(
        serde_json::from_str::<Value>(&exposed).expect("JSON"),
        json!({ "53/udp": {}, "80/tcp": {}, "81/tcp": {} })
    );
    assert_eq!(world.sbx(["port", "web"]).succeed().lines().count(), 1);
    let bad = world.run(["--expose", "x", "--rootfs"]).arg(rootfs()).arg("true");
    bad.expect_code(125).stderr_has("--expose x");
}

#[test]
fn every_port_of_the_image_is_published_on_request() {
    let world = sbx();
    image()
        .runnable()
        .with("ExposedPorts", json!({ "80/tcp": {}, "53/udp": {}, "bad": {} }))
        .load(&world, "serves:1");
    world
        .sbx(["create", "--name=web", "-P", "--expose=443", "-p", "127.0.0.1::80", "serves:1", "true"])
        .expect_code(0);
    let ports = ports_of(&world);
    assert_eq!(ports.as_object().map(serde_json::Map::len), Some(3), "{ports}");
    assert_eq!(ports["80/tcp"].as_array().map(Vec::len), Some(1), "it was published already: {ports}");
    for port in ["53/udp", "80/tcp", "443/tcp"] {
        let number: u16 =
            ports[port][0]["HostPort"].as_str().and_then(|text| text.parse().ok()).expect("a port");
        assert!(number >= 1024, "{ports}");
    }
}
