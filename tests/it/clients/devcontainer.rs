//! The CLI of development containers (`devcontainer up`, `build`, `exec`, a rebuild), with a configuration that names an image
//! or a Dockerfile.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Run, Sbx, images, sbx_by_all_names};

fn workspace(world: &Sbx, configuration: &str) {
    world.put_image(&images().busybox(), "docker.io/library/busybox:latest");
    world.file("code/.devcontainer/devcontainer.json", configuration);
    world.file("code/hello.txt", "from the workspace\n");
}

fn devcontainer<'w>(world: &'w Sbx, name: &str, verb: &str, words: &[&str]) -> Run<'w> {
    let path = world.directory().join("names").join(name);
    let run = world.client("devcontainer").arg(verb).arg("--docker-path").arg(path).arg("--workspace-folder");
    run.arg(world.work().join("code")).args(words).timeout(Duration::from_secs(120))
}

/// The ID of the container that came up.
fn up(world: &Sbx, name: &str, words: &[&str]) -> String {
    let said = devcontainer(world, name, "up", words).expect_code(0).stdout();
    let last = said.lines().last().unwrap_or_default();
    let outcome: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(outcome["outcome"], "success", "{said}");
    outcome["containerId"].as_str().expect("an ID").to_owned()
}

fn remove(world: &Sbx, id: &str) {
    world.sbx(["rm", "-f", "-t", "0", id]).expect_code(0);
    world.assert_clean();
}

#[test]
fn a_workspace_comes_up_runs_commands_and_is_rebuilt() {
    let world = sbx_by_all_names();
    workspace(
        &world,
        r#"{
    "image": "docker.io/library/busybox:latest",
    "remoteUser": "root",
    "containerEnv": { "PURPOSE": "test" },
    "mounts": ["source=cache,target=/cache,type=volume"],
    "postCreateCommand": "echo made >>/root/made; echo made >>/cache/made"
}"#,
    );
    let first = up(&world, "podman", &[]);
    let exec = |words: &[&str]| devcontainer(&world, "podman", "exec", words);
    let script = "id -u; echo $PURPOSE; cat hello.txt /root/made; echo back >reply.txt; touch /root/kept";
    exec(&["sh", "-c", script]).expect_code(0).stdout_is("0\ntest\nfrom the workspace\nmade\n");
    assert_eq!(std::fs::read(world.work().join("code/reply.txt")).expect("written inside"), b"back\n");
    exec(&["sh", "-c", "exit 7"]).expect_code(7);

    // What is up stays; stopped, it is started again; rebuilt, it is another, with the same volume.
    assert_eq!(up(&world, "podman", &[]), first);
    world.sbx(["stop", "-t", "0", &first]).expect_code(0);
    assert_eq!(up(&world, "podman", &[]), first);
    exec(&["test", "-e", "/root/kept"]).expect_code(0);
    let second = up(&world, "podman", &["--remove-existing-container"]);
    assert_ne!(second, first);
    assert_eq!(world.sbx(["ps", "-aq", "--no-trunc"]).succeed(), second);
    exec(&["test", "-e", "/root/kept"]).expect_code(1);
    exec(&["cat", "/root/made", "/cache/made"]).expect_code(0).stdout_is("made\nmade\nmade\n");
    world.sbx(["rm", "-f", "-t", "0", &second]).expect_code(0);
    world.sbx(["volume", "rm", "cache"]).expect_code(0);
    world.assert_clean();
}

/// What it takes sbx for decides how it calls it.
#[test]
fn a_workspace_comes_up_whatever_sbx_is_called() {
    let world = sbx_by_all_names();
    workspace(&world, r#"{ "image": "docker.io/library/busybox:latest", "remoteUser": "root" }"#);
    for name in ["docker", "sbx"] {
        let id = up(&world, name, &[]);
        let script = "cat hello.txt; exit 7";
        devcontainer(&world, name, "exec", &["sh", "-c", script])
            .expect_code(7)
            .stdout_is("from the workspace\n");
        world.sbx(["rm", "-f", "-t", "0", &id]).expect_code(0);
        world.assert_clean();
    }
}

/// Without the step that builds an image with the caller's IDs, which a range of IDs makes needless.
#[test]
fn a_user_of_the_image_works_in_the_workspace() {
    let world = sbx_by_all_names();
    world.put_image(&images().debian(), "docker.io/library/debian:latest");
    workspace(
        &world,
        r#"{
    "image": "docker.io/library/debian:latest",
    "remoteUser": "www-data",
    "updateRemoteUserUID": false,
    "runArgs": ["--userns=keep-id:uid=33,gid=33"]
}"#,
    );
    let id = up(&world, "podman", &[]);
    let script = "id -un; cat hello.txt; touch mine";
    let exec = devcontainer(&world, "podman", "exec", &["sh", "-c", script]);
    exec.expect_code(0).stdout_is("www-data\nfrom the workspace\n");
    let made = std::fs::metadata(world.work().join("code/mine")).expect("written inside");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), nix::unistd::geteuid().as_raw());
    remove(&world, &id);
}

/// The client builds the Dockerfile, features on top of it, and on top of that an image in which the user has the
/// caller's IDs.
#[test]
fn a_workspace_is_built_for_a_user_with_the_callers_ids() {
    let world = sbx_by_all_names();
    world.put_image(&images().debian(), "docker.io/library/debian:latest");
    world.file(
        "code/.devcontainer/Dockerfile",
        "# syntax=docker/dockerfile:1\nARG BASE=none\nFROM debian:${BASE} AS tools\nARG TOOL=none\n\
         RUN echo \"$TOOL\" >/etc/tool\nFROM tools AS final\nRUN useradd --create-home --uid 4321 dev\nUSER dev\n",
    );
    world.file(
        "code/.devcontainer/devcontainer.json",
        r#"{
    "build": { "dockerfile": "Dockerfile", "context": "..", "target": "final", "args": { "TOOL": "hammer", "BASE": "latest" } },
    "features": { "./greet": { "name": "feature" } },
    "remoteUser": "dev",
    "postCreateCommand": "id -u >~/made"
}"#,
    );
    world.file(
        "code/.devcontainer/greet/devcontainer-feature.json",
        r#"{ "id": "greet", "version": "1.0.0", "name": "Greet", "options": { "name": { "type": "string", "default": "nobody" } } }"#,
    );
    world.script(
        "code/.devcontainer/greet/install.sh",
        "#!/bin/sh\nset -e\necho \"hello, $NAME\" >/etc/greeting\n",
    );
    let caller = nix::unistd::geteuid().as_raw();
    for name in ["podman", "docker"] {
        let id = up(&world, name, &[]);
        let exec = |script| devcontainer(&world, name, "exec", &["sh", "-c", script]).expect_code(0);
        let said = format!("dev\n{caller}\nhammer\nhello, feature\n");
        exec("id -un; id -u; cat /etc/tool /etc/greeting").stdout_is(&said);
        exec("cat ~/made; stat -c %u ~").stdout_is(&format!("{caller}\n{caller}\n"));
        // For docker the client leaves the map as it is, where the caller is root inside.
        if name == "podman" {
            exec("touch mine");
            let made = std::fs::metadata(world.work().join("code/mine")).expect("written inside");
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), caller);
        }
        remove(&world, &id);
    }
    let built = devcontainer(&world, "podman", "build", &["--image-name", "workspace:1"]).expect_code(0);
    assert!(built.stdout().contains("workspace:1"), "{}", built.stdout());
    let run = world.run(["--rm", "--net", "none", "workspace:1", "cat", "/etc/tool", "/etc/greeting"]);
    assert_eq!(run.succeed(), "hammer\nhello, feature");
}
