//! Builds of podman and buildah whose commands run in containers of sbx. In their usual isolation for people without root
//! they have one way to start a container of their own; `oci` is the one with all namespaces.

use crate::harness::{Podman, require, sbx_binary};

const ISOLATION: &[&str] = &["--isolation=oci", "--network=none"];

fn dockerfile(podman: &Podman) -> String {
    let text = format!("FROM {}\nRUN echo built >/made && id -u >>/made\nCMD cat /made\n", podman.image);
    podman.world.file("context/Dockerfile", text).parent().expect("a directory").display().to_string()
}

#[test]
fn podman_builds() {
    let podman = Podman::above_sbx();
    let context = dockerfile(&podman);
    podman.podman(["build", "--quiet", "--tag=made"]).args(ISOLATION).arg(&context).expect_code(0);
    podman.podman(["run", "--rm", "--network=none", "made"]).expect_code(0).stdout_is("built\n0\n");
    podman.world.file("context/Dockerfile", format!("FROM {}\nRUN exit 9\n", podman.image));
    let build = podman.podman(["build", "--quiet"]).args(ISOLATION).arg(&context);
    build.expect_code(9).stderr_has("exit status 9");
    podman.assert_clean();
}

#[test]
fn buildah_builds_and_runs() {
    let podman = Podman::above_sbx();
    let context = dockerfile(&podman);
    let buildah = |words: &[&str]| podman.world.program(require("buildah")).args(words);
    let sbx = sbx_binary().display().to_string();
    let bud = buildah(&["bud", "--quiet", "--tag=made", "--runtime", &sbx]).args(ISOLATION);
    bud.arg(&context).expect_code(0);
    let container = buildah(&["from", "made"]).expect_code(0).stdout();
    let container = container.trim();
    let run = buildah(&["run", "--runtime", &sbx]).args(ISOLATION);
    let script = "cat /made; echo $$; exit 4";
    run.args(["--", container, "sh", "-c", script]).expect_code(4).stdout_is("built\n0\n1\n");
    let run = buildah(&["run", "--runtime", &sbx, "--isolation=rootless"]);
    run.args(["--", container, "cat", "/made"]).expect_code(0).stdout_is("built\n0\n");
    buildah(&["rm", container]).expect_code(0);
    podman.assert_clean();
}
