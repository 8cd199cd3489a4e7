//! Pods of podman: containers in namespaces of others, joined by their paths.

use std::fs;

use crate::harness::{Podman, require};

#[test]
fn containers_of_a_pod_share_what_the_pod_has() {
    require("catatonit");
    let podman = Podman::above_sbx();
    let create = podman.podman(["pod", "create", "--name=pod", "--network=none", "--share=net,ipc,uts,pid"]);
    create.expect_code(0);
    let image = podman.image.as_str();
    let in_pod = |words: &[&str]| podman.podman(["run", "--pod=pod"]).args(words).expect_code(0).stdout();
    in_pod(&["--detach", "--name=first", image, "sh", "-c", "mkfifo /dev/shm/f; exec sleep 999"]);
    let script = "hostname; until [ -p /dev/shm/f ]; do sleep 0.01; done; ps | grep -c 'sleep 99[9]'; readlink /proc/self/ns/net";
    let seen = in_pod(&["--rm", image, "sh", "-c", script]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..2], ["pod", "1"], "{seen}");
    let net = podman.podman(["exec", "first", "readlink", "/proc/self/ns/net"]);
    assert_eq!(net.expect_code(0).stdout().trim(), lines[2]);
    podman.podman(["pod", "stop", "-t", "0", "pod"]).expect_code(0);
    podman.podman(["pod", "start", "pod"]).expect_code(0);
    podman.podman(["exec", "first", "hostname"]).expect_code(0).stdout_is("pod\n");
    podman.podman(["pod", "rm", "-f", "-t", "0", "pod"]).expect_code(0);
    podman.assert_clean();
}

#[test]
fn the_network_namespace_of_another_container_is_joined() {
    let podman = Podman::above_sbx();
    podman.start(&["--name=server"], "echo hello | nc -l -p 8000 & exec sleep 999");
    let script = "until nc 127.0.0.1 8000 </dev/null; do sleep 0.05; done";
    let run = ["run", "--rm", "--network=container:server", &podman.image, "sh", "-c", script];
    podman.podman(run).expect_code(0).stdout_is("hello\n");
    podman.podman(["rm", "-f", "-t", "0", "server"]).expect_code(0);
    podman.assert_clean();
}

#[test]
fn a_kubernetes_file_is_played() {
    require("catatonit");
    let podman = Podman::above_sbx();
    let image = podman.image.as_str();
    podman.start(&["--name=web"], "exec sleep 999");
    let file = podman.world.work().join("web.yaml");
    let text = podman.podman(["generate", "kube", "web"]).expect_code(0).stdout();
    fs::write(&file, &text).expect("a file");
    assert!(text.contains(&image[..12]) || text.contains("image:"), "{text}");
    podman.podman(["rm", "-f", "-t", "0", "web"]).expect_code(0);
    let file = file.display().to_string();
    podman.podman(["play", "kube", "--network=none", &file]).expect_code(0);
    podman.podman(["exec", "web-pod-web", "echo", "plays"]).expect_code(0).stdout_is("plays\n");
    podman.podman(["play", "kube", "--down", &file]).expect_code(0);
    podman.assert_clean();
}
