//! The CLI of development containers (`devcontainer up`, `exec`, a rebuild), with a configuration that names an image.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Finished, Run, Sbx, images, sbx_by_all_names};

fn workspace(world: &Sbx, configuration: &str) {
    world.put_image(&images().debian(), "docker.io/library/debian:latest");
    world.file("code/.devcontainer/devcontainer.json", configuration);
    world.file("code/hello.txt", "from the workspace\n");
}

fn devcontainer<'w>(world: &'w Sbx, verb: &str, words: &[&str]) -> Run<'w> {
    let path = world.directory().join("names/podman");
    let run = world.client("devcontainer").arg(verb).arg("--docker-path").arg(path).arg("--workspace-folder");
    run.arg(world.work().join("code")).args(words).timeout(Duration::from_secs(120))
}

/// The ID of the container that came up.
fn up(finished: &Finished) -> String {
    let said = finished.stdout();
    let last = said.lines().last().unwrap_or_default();
    let outcome: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(outcome["outcome"], "success", "{said}");
    outcome["containerId"].as_str().expect("an ID").to_owned()
}

#[test]
fn a_workspace_comes_up_runs_commands_and_is_rebuilt() {
    let world = sbx_by_all_names();
    workspace(
        &world,
        r#"{
    "image": "docker.io/library/debian:latest",
    "remoteUser": "root",
    "containerEnv": { "PURPOSE": "test" },
    "mounts": ["source=cache,target=/cache,type=volume"],
    "postCreateCommand": "echo made >/cache/made"
}"#,
    );
    let first = up(&devcontainer(&world, "up", &[]).expect_code(0));
    let script = "id -u; echo $PURPOSE; cat hello.txt /cache/made; echo back >reply.txt";
    devcontainer(&world, "exec", &["sh", "-c", script])
        .expect_code(0)
        .stdout_is("0\ntest\nfrom the workspace\nmade\n");
    assert_eq!(std::fs::read(world.work().join("code/reply.txt")).expect("written inside"), b"back\n");
    devcontainer(&world, "exec", &["sh", "-c", "exit 7"]).expect_code(7);

    // What is up stays; stopped, it is started again; rebuilt, it is another.
    assert_eq!(up(&devcontainer(&world, "up", &[]).expect_code(0)), first);
    world.sbx(["stop", "-t", "0", &first]).expect_code(0);
    assert_eq!(up(&devcontainer(&world, "up", &[]).expect_code(0)), first);
    devcontainer(&world, "exec", &["cat", "/cache/made"]).expect_code(0).stdout_is("made\n");
    let second = up(&devcontainer(&world, "up", &["--remove-existing-container"]).expect_code(0));
    assert_ne!(second, first);
    assert_eq!(world.sbx(["ps", "-aq", "--no-trunc"]).succeed(), second);
    devcontainer(&world, "exec", &["cat", "/cache/made"]).expect_code(0).stdout_is("made\n");
    world.sbx(["rm", "-f", "-t", "0", &second]).expect_code(0);
    world.sbx(["volume", "rm", "cache"]).expect_code(0);
    world.assert_clean();
}
