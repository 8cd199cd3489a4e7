//! podman-compose: a project of two services, a volume and a published port.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Run, Sbx, images, sbx_by_all_names};

/// Without any network: compose makes one for the project.
fn project(world: &Sbx, port: u16) {
    world.put_image(&images().busybox(), "docker.io/library/busybox:latest");
    world.file(
        "shop/compose.yaml",
        format!(
            r#"
services:
  fill:
    image: busybox
    command: ["sh", "-c", "echo from the volume >/data/index.html; trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    volumes: ["shared:/data"]
    labels: {{tier: back}}
  web:
    image: busybox
    command: ["httpd", "-f", "-p", "80", "-h", "/srv"]
    environment: {{PURPOSE: test}}
    ports: ["127.0.0.1:{port}:80"]
    volumes: ["shared:/srv:ro"]
    depends_on: [fill]
    stop_grace_period: 1s
volumes:
  shared:
"#
        ),
    );
}

fn compose<'w>(world: &'w Sbx, words: &[&str]) -> Run<'w> {
    let path = world.directory().join("names/podman");
    let run = world.client("podman-compose").arg("--podman-path").arg(path).args(words);
    run.directory(world.work().join("shop")).timeout(Duration::from_secs(120))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// What the server says, once it answers.
fn page(port: u16) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let mut text = String::new();
        let asked = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            stream.read_to_string(&mut text)
        });
        if asked.is_ok() && text.contains("200 OK") {
            return text;
        }
        assert!(Instant::now() < until, "the service never answered: {asked:?} {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_project_comes_up_and_goes() {
    let world = sbx_by_all_names();
    let port = free_port();
    project(&world, port);
    compose(&world, &["up", "-d"]).expect_code(0);
    assert!(page(port).ends_with("from the volume\n"));
    let running = world.sbx(["ps", "--sort=names", "--format", "{{.Names}} {{.State}}"]).succeed();
    assert_eq!(running, "shop_fill_1 running\nshop_web_1 running");
    let members = ["ps", "--sort=names", "--format", "{{.Names}}", "--filter", "network=shop_default"];
    assert_eq!(world.sbx(members).succeed(), "shop_fill_1\nshop_web_1");
    let label = "label=io.podman.compose.project=shop";
    assert_eq!(world.sbx(["network", "ls", "-q", "--filter", label]).succeed(), "shop_default");

    let listed = compose(&world, &["ps", "--format", "json"]).expect_code(0).stdout();
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    compose(&world, &["ps"]).expect_code(0).stdout_has("shop_web_1");
    compose(&world, &["exec", "-T", "web", "sh", "-c", "echo $PURPOSE; cat /srv/index.html"])
        .expect_code(0)
        .stdout_is("test\nfrom the volume\n");
    compose(&world, &["port", "web", "80"]).expect_code(0).stdout_has(&port.to_string());

    // Unchanged, it stays as it is; stopped and started, the volume has what it had.
    let ids = world.sbx(["ps", "-aq", "--sort=names"]).succeed();
    compose(&world, &["up", "-d"]).expect_code(0);
    assert_eq!(world.sbx(["ps", "-aq", "--sort=names"]).succeed(), ids);
    compose(&world, &["stop", "-t", "2"]).expect_code(0);
    assert_eq!(world.sbx(["ps", "-q"]).succeed(), "");
    compose(&world, &["start"]).expect_code(0);
    assert!(page(port).ends_with("from the volume\n"));
    compose(&world, &["restart", "-t", "1", "web"]).expect_code(0);
    assert!(page(port).ends_with("from the volume\n"));

    compose(&world, &["down", "--volumes"]).expect_code(0);
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
    assert_eq!(world.sbx(["volume", "ls", "-q"]).succeed(), "");
    assert_eq!(world.sbx(["pod", "ls", "-q"]).succeed(), "");
    assert_eq!(world.sbx(["network", "ls", "-q", "--filter", "type=custom"]).succeed(), "");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "the port is still taken");
    world.assert_clean();
}

#[test]
fn logs_of_all_services_are_shown() {
    let world = sbx_by_all_names();
    world.put_image(&images().busybox(), "docker.io/library/busybox:latest");
    let service = |name: &str| {
        format!(
            "  {name}:\n    image: busybox\n    network_mode: none\n    command: [\"echo\", \"I am {name}\"]\n"
        )
    };
    world.file("shop/compose.yaml", format!("services:\n{}{}", service("one"), service("two")));
    compose(&world, &["--in-pod=false", "up"]).expect_code(0).stdout_has("I am one").stdout_has("I am two");
    let logs = compose(&world, &["--in-pod=false", "logs"]).expect_code(0);
    logs.stdout_has("I am one").stdout_has("I am two");
    compose(&world, &["--in-pod=false", "down"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn networks_are_made_as_the_file_says() {
    let world = sbx_by_all_names();
    world.put_image(&images().busybox(), "docker.io/library/busybox:latest");
    let service = |name: &str, networks: &str| {
        format!(
            "  {name}:\n    image: busybox\n    command: [\"sleep\", \"1000\"]\n    stop_grace_period: 0s\n    networks: {networks}\n"
        )
    };
    let front = service("front", "{outer: {}, inner: {ipv4_address: 10.210.7.7, aliases: [www]}}");
    let back = service("back", "[inner]");
    let networks =
        "networks:\n  outer: {}\n  inner: {internal: true, ipam: {config: [{subnet: 10.210.7.0/24}]}}\n";
    world.file("shop/compose.yaml", format!("services:\n{front}{back}{networks}"));
    compose(&world, &["--in-pod=false", "up", "-d"]).expect_code(0);
    let asked = |name: &str| {
        let words = ["exec", "shop_back_1", "nslookup", name];
        world.sbx(words).succeed()
    };
    for name in ["front", "www", "shop_front_1"] {
        let answer = asked(name);
        assert!(answer.contains("10.210.7.7"), "{name}: {answer}");
    }
    assert_eq!(world.sbx(["network", "inspect", "-f", "{{.Internal}}", "shop_inner"]).succeed(), "true");
    compose(&world, &["--in-pod=false", "down"]).expect_code(0);
    assert_eq!(world.sbx(["network", "ls", "-q", "--filter", "type=custom"]).succeed(), "");

    // What the kernel gives to root alone is refused, and nothing seems to be there.
    world.file("shop/compose.yaml", format!("services:\n{back}networks:\n  inner: {{driver: macvlan}}\n"));
    let refused = compose(&world, &["up", "-d"]).finish();
    assert_ne!(refused.code(), 0);
    // The reason of sbx itself is not shown by this client.
    assert!(refused.stderr().contains("network create"), "{}", refused.stderr());
    world.sbx(["network", "exists", "shop_inner"]).expect_code(1);
    assert_eq!(world.sbx(["ps", "-aq"]).succeed(), "");
    compose(&world, &["down"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn services_are_built_from_their_dockerfiles() {
    let world = sbx_by_all_names();
    world.put_image(&images().busybox(), "docker.io/library/busybox:latest");
    world.file(
        "shop/compose.yaml",
        r#"
services:
  plain:
    build: ./plain
    network_mode: none
  tuned:
    image: example.org/tuned:7
    network_mode: none
    build:
      context: .
      dockerfile: tuned/Containerfile.tuned
      target: final
      args: {WHO: compose, EMPTY: ""}
      labels: {made.by: compose}
      network: none
      shm_size: 1m
      ulimits: {nofile: 100}
"#,
    );
    world.file("shop/plain/Dockerfile", "FROM busybox\nCOPY said /\nCMD [\"cat\", \"/said\"]\n");
    world.file("shop/plain/said", "plain words\n");
    world.file(
        "shop/tuned/Containerfile.tuned",
        "FROM busybox AS first\nARG WHO\nRUN echo \"$WHO $(ulimit -n)\" >/said\n\
         FROM busybox AS final\nCOPY --from=first /said /said\nCMD [\"cat\", \"/said\"]\nFROM final\nRUN false\n",
    );
    compose(&world, &["--in-pod=false", "build"]).expect_code(0);
    compose(&world, &["--in-pod=false", "up"])
        .expect_code(0)
        .stdout_has("plain words")
        .stdout_has("compose 100");
    let label =
        ["image", "inspect", "--format", "{{index .Config.Labels \"made.by\"}}", "example.org/tuned:7"];
    assert_eq!(world.sbx(label).succeed(), "compose");
    compose(&world, &["--in-pod=false", "down"]).expect_code(0);

    world.file("shop/plain/said", "other words\n");
    let up = compose(&world, &["--in-pod=false", "up", "--build"]).expect_code(0);
    up.stdout_has("other words").stdout_has("compose 100");
    compose(&world, &["--in-pod=false", "down"]).expect_code(0);
    world.assert_clean();
}
