//! `sbx pod`, `--pod` and `--requires`

use serde_json::Value;

use crate::harness::{Sbx, rootfs, sbx};

fn make_pod(world: &Sbx, name: &str) -> String {
    // As podman-compose does it.
    world.sbx(["pod", "create", &format!("--name={name}"), "--infra=false", "--share="]).succeed()
}

/// `sbx create` or `sbx run -d` of a container that sleeps.
fn sleeper(world: &Sbx, verb: &[&str], options: &[&str]) -> String {
    let options = [&["--net=none", "--stop-timeout=0"], options].concat();
    world.sbx(verb).args(options).arg("--rootfs").arg(rootfs()).args(["sleep", "1000"]).succeed()
}

fn states(world: &Sbx) -> String {
    let listed = world.sbx(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).succeed();
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    lines.join(", ")
}

#[test]
fn a_pod_is_made_listed_looked_at_and_removed() {
    let world = sbx();
    assert_eq!(
        world.sbx(["pod", "ps"]).succeed(),
        "POD ID   NAME   STATUS   CREATED   INFRA ID   # OF CONTAINERS"
    );
    world.sbx(["pod", "exists", "pod_site"]).expect_code(1);
    let id = make_pod(&world, "pod_site");
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    for word in ["pod_site", &id, &id[..8]] {
        world.sbx(["pod", "exists", word]).expect_code(0);
    }
    let listed =
        world.sbx(["pod", "ls", "--format", "{{.ID}} {{.Name}} {{.Status}} {{.NumberOfContainers}}"]);
    assert_eq!(listed.succeed(), format!("{} pod_site Created 0", &id[..12]));
    let document: Value =
        serde_json::from_str(&world.sbx(["pod", "inspect", "pod_site"]).succeed()).expect("JSON");
    assert_eq!(
        (&document[0]["Id"], &document[0]["Name"]),
        (&Value::from(id.as_str()), &Value::from("pod_site"))
    );
    assert_eq!(document[0]["InfraContainerID"], "");
    let taken = world.sbx(["pod", "create", "--infra=false", "--share=", "pod_site"]);
    taken.expect_code(125).stderr_has("in use").stderr_has("Hint: ");
    assert_eq!(world.sbx(["pod", "rm", "pod_site"]).succeed(), id);
    world.sbx(["pod", "exists", "pod_site"]).expect_code(1);
    world.sbx(["pod", "rm", "pod_site"]).expect_code(1).stderr_has("no pod `pod_site`");
    world.sbx(["pod", "rm", "-i", "pod_site"]).expect_code(0);
    let told =
        world.sbx(["events", "--stream=false", "--filter", "type=pod", "--format", "{{.Status}} {{.Name}}"]);
    assert_eq!(told.succeed(), "create pod_site\nremove pod_site");
}

#[test]
fn what_shares_namespaces_is_refused_with_the_reason() {
    let world = sbx();
    for options in [
        &[][..],
        &["--infra=false", "--share=net,ipc"],
        &["--infra", "--share="],
        &["--infra=false", "-p", "80:80"],
        &["--infra=false", "--hostname", "web"],
        &["--infra=false", "--share=", "--userns=keep-id"],
        &["--infra=false", "--share=", "-v", "/tmp:/tmp"],
    ] {
        let create = world.sbx(["pod", "create"]).args(options).arg("site");
        create.expect_code(125).stderr_has("share namespaces").stderr_has("--infra=false --share=");
    }
    world.sbx(["pod", "ps", "-q"]).expect_code(0).stdout_is("");
    let run = |options: &[&str]| world.run(options).args(["--rootfs"]).arg(rootfs()).arg("true");
    run(&["--pod", "nothing"]).expect_code(125).stderr_has("no pod `nothing`");
    run(&["--pod", "new:site"]).expect_code(125).stderr_has("pod create --infra=false --share= site");
    world.assert_clean();
}

#[test]
fn limits_of_a_pod_are_refused_with_the_way_to_have_them() {
    let world = sbx();
    let create = |options: &[&str]| {
        world.sbx(["pod", "create", "--infra=false", "--share="]).args(options).arg("site").expect_code(125)
    };
    for options in [
        &["-m", "64m"][..],
        &["--memory-swap", "-1"],
        &["--cpus=0.5"],
        &["-c", "512"],
        &["--cpuset-cpus=0"],
        &["--device-read-bps=/dev/sda:1m"],
        &["--blkio-weight", "300", "--memory=1g"],
    ] {
        create(options)
            .stderr_has("cannot limit a pod")
            .stderr_has("--cgroup-parent site.slice")
            .stderr_has("set-property");
    }
    create(&["--cgroup-parent=../x"]).stderr_has("cannot use `--cgroup-parent ../x`");
    world.sbx(["pod", "ps", "-q"]).expect_code(0).stdout_is("");
    world.assert_clean();
}

#[test]
fn the_containers_of_a_pod_are_started_stopped_and_removed_together() {
    let world = sbx();
    let pod = make_pod(&world, "site");
    sleeper(&world, &["create"], &["--pod=site", "--name=one"]);
    sleeper(&world, &["create"], &["--pod", &pod, "--name=two"]);
    sleeper(&world, &["create"], &["--name=other"]);
    let state = || world.sbx(["pod", "inspect", "-f", "{{.State}} {{.NumContainers}}", "site"]).succeed();
    for word in ["site", &pod[..9]] {
        let found = world.sbx(["ps", "-aq", "--filter", &format!("pod={word}")]).succeed();
        assert_eq!(found.lines().count(), 2, "{found}");
    }
    assert_eq!(state(), "Created 2");
    assert_eq!(world.sbx(["pod", "start", "site"]).succeed(), pod);
    assert_eq!(states(&world), "one running, other created, two running");
    assert_eq!(state(), "Running 2");
    world.sbx(["stop", "one"]).succeed();
    assert_eq!(state(), "Degraded 2");
    world.sbx(["pod", "rm", "site"]).expect_code(2).stderr_has("`two` runs").stderr_has("pod rm -f site");
    world.sbx(["pod", "stop", "site"]).succeed();
    assert_eq!(state(), "Exited 2");
    assert_eq!(world.sbx(["inspect", "-f", "{{.Pod}}", "one"]).succeed(), pod);
    assert_eq!(world.sbx(["ps", "-a", "--filter", "name=one", "--format", "{{.PodName}}"]).succeed(), "site");
    world.sbx(["pod", "restart", "site"]).succeed();
    assert_eq!(state(), "Running 2");
    world.sbx(["pod", "kill", "-s", "KILL", "site"]).succeed();
    world.sbx(["pod", "start", "site"]).succeed();
    assert_eq!(world.sbx(["pod", "rm", "-f", "-t", "0", "site"]).succeed(), pod);
    assert_eq!(states(&world), "other created");
    world.sbx(["rm", "other"]).succeed();
    world.assert_clean();
}

#[test]
fn pods_without_running_containers_are_pruned() {
    let world = sbx();
    let (empty, down) = (make_pod(&world, "empty"), make_pod(&world, "down"));
    make_pod(&world, "up");
    sleeper(&world, &["create"], &["--pod=down", "--name=one"]);
    sleeper(&world, &["run", "-d"], &["--pod=up", "--name=two"]);
    let pruned = world.sbx(["pod", "prune", "-f"]).succeed();
    let mut pruned: Vec<&str> = pruned.lines().collect();
    pruned.sort_unstable();
    let mut expected = [empty.as_str(), down.as_str()];
    expected.sort_unstable();
    assert_eq!(pruned, expected);
    assert_eq!(states(&world), "two running");
    world.sbx(["pod", "rm", "--all", "-f", "-t0"]).succeed();
    world.assert_clean();
}

#[test]
fn what_a_container_requires_is_started_before_it() {
    let world = sbx();
    for (name, requires) in
        [("db", None), ("cache", Some("--requires=db")), ("web", Some("--requires=cache,db"))]
    {
        let name = format!("--name={name}");
        let options: Vec<&str> = std::iter::once(name.as_str()).chain(requires).collect();
        sleeper(&world, &["create"], &options);
    }
    assert_eq!(world.sbx(["start", "web"]).succeed(), "web");
    assert_eq!(states(&world), "cache running, db running, web running");
    let started = |name: &str| {
        let text = world.sbx(["inspect", "-f", "{{.State.StartedAt}}", name]).succeed();
        assert!(text.starts_with("20"), "{text}");
        text
    };
    assert!(started("db") < started("cache") && started("cache") < started("web"));
    world.sbx(["stop", "--all"]).succeed();
    // `run`, too, in the foreground and in the background.
    world
        .run(["--rm", "--net=none", "--requires=cache", "--rootfs"])
        .arg(rootfs())
        .args(["echo", "here"])
        .expect_code(0)
        .stdout_is("here\n");
    assert_eq!(states(&world), "cache running, db running, web exited");
    world.sbx(["stop", "--all"]).succeed();
    sleeper(&world, &["run", "-d"], &["--name=late", "--requires", "db"]);
    assert_eq!(states(&world), "cache exited, db running, late running, web exited");
    world.sbx(["rm", "-f", "db"]).succeed();
    world.sbx(["start", "cache"]).expect_code(125).stderr_has("which is required");
    let run = world.run(["--rm", "--net=none", "--requires=nothing", "--rootfs"]).arg(rootfs()).arg("true");
    run.expect_code(125).stderr_has("--requires nothing");
    world.sbx(["rm", "-f", "-a"]).succeed();
    world.assert_clean();
}
