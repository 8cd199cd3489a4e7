//! `sbx commit`

use std::fs;

use super::{remove, running, stopped, world};
use crate::harness::{Sbx, require, rootfs};

const SCRIPT: &str = "mkdir -p /srv/d; echo hi > /srv/d/f; chown -R 5:6 /srv/d; chmod 2750 /srv/d; ln -s f /srv/d/l; rm /bin/vi; \
                      rm -rf /home; mkdir /home; touch /home/new";
const LOOK: &str = "cat /srv/d/f; ls -ldn /srv/d | cut -c1-10; stat -c %u:%g /srv/d/f; test -e /bin/vi || echo gone; ls /home";
const SEEN: &str = "hi\ndrwxr-s---\n5:6\ngone\nnew\n";

fn seen(world: &Sbx, image: &str, options: &[&str]) -> String {
    world.run(["--rm", "--net", "none"]).args(options).args([image, "sh", "-c", LOOK]).expect_code(0).stdout()
}

#[test]
fn what_was_changed_is_in_the_new_image_whatever_stacked_it() {
    for options in [
        &["--storage-driver", "overlay"][..],
        &["--storage-driver", "fuse-overlayfs"],
        &["--id-tier", "single"],
        &["--userns", "keep-id", "-u", "0"],
    ] {
        let world = world();
        world.file("volume/f", "x");
        let volume = format!("{}:/mnt/vol", world.work().join("volume").display());
        running(&world, &[options, &["-v", &volume]].concat(), SCRIPT);
        let tier: &[&str] = if options[0] == "--id-tier" { options } else { &[] };
        let id = world.sbx(["commit", "-q", "box", "new:1"]).succeed();
        assert!(id.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64), "{id}");
        assert_eq!(world.sbx(["images", "-q", "--no-trunc", "new:1"]).succeed(), id);
        assert_eq!(seen(&world, "new:1", tier), SEEN, "{options:?}");
        // All in one layer.
        world.sbx(["commit", "-q", "--squash", "box", "flat:1"]).expect_code(0);
        assert_eq!(seen(&world, "flat:1", tier), SEEN, "{options:?}");
        let layers = |name: &str| world.sbx(["history", "-q", name]).expect_code(0).stdout().lines().count();
        assert_eq!((layers("flat:1"), layers("new:1") > 1), (1, true));
        // The layer has what was changed, and nothing that is there for the container alone.
        let told = world.sbx(["image", "diff", "new:1"]).expect_code(0).stdout();
        assert!(told.contains("A /srv/d/f\n") && told.contains("D /bin/vi\n"), "{options:?}: {told}");
        for none in ["vol", "hosts", "resolv.conf", "/dev", "/proc", "/etc"] {
            assert!(!told.contains(none), "{options:?}: `{none}` in\n{told}");
        }
        remove(&world);
    }
}

#[test]
fn the_new_image_runs_what_the_container_ran_and_what_is_changed() {
    let world = world();
    let options = ["-e", "A=one", "-w", "/srv", "-l", "k=v", "-u", "5"];
    stopped(&world, &options, "pwd; id -u; echo $A");
    world.sbx(["commit", "-q", "-i", "id", "box"]).expect_code(0);
    let id = fs::read_to_string(world.work().join("id")).unwrap();
    world.run(["--rm", "--net", "none", &id]).expect_code(0).stdout_is("/srv\n5\none\n");
    let changes = ["-c", "CMD [\"env\"]", "-c", "ENV A=two B=3", "--change", "USER 0", "-c", "EXPOSE 80"];
    world
        .sbx(["commit", "-q", "-a", "Ada <a@b>", "-m", "why not"])
        .args(changes)
        .args(["box", "changed:2"])
        .expect_code(0);
    let env = world.run(["--rm", "--net", "none", "changed:2"]).expect_code(0).stdout();
    assert!(env.contains("A=two\n") && env.contains("B=3\n"), "{env}");
    let of = |template: &str| world.sbx(["image", "inspect", "-f", template, "changed:2"]).succeed();
    assert_eq!(of("{{.Author}}|{{.Comment}}|{{.Config.User}}|{{.Config.Labels.k}}"), "Ada <a@b>|why not|0|v");
    assert!(world.sbx(["history", "changed:2"]).expect_code(0).stdout().contains("why not"));
    world.sbx(["commit", "-c", "FROM x", "box"]).expect_code(125).stderr_has("there is no such instruction");
    world.sbx(["commit", "-p", "box", "paused"]).expect_code(0);
    world.sbx(["rm", "box"]).expect_code(0);
    world.assert_clean();
}

#[test]
fn freezing_is_done_or_refused_with_the_reason() {
    let world = world();
    running(&world, &[], "true");
    let asked = world.sbx(["commit", "-q", "-p", "box", "paused"]).finish();
    if asked.code() != 0 {
        asked.code_is(125).stderr_has("cannot freeze the container").stderr_has("control group");
    }
    world.sbx(["commit", "-q", "--pause=false", "box", "loose"]).expect_code(0);
    world.sbx(["commit", "-q", "box", "default"]).expect_code(0);
    assert!(world.sbx(["ps"]).expect_code(0).stdout().contains("Up "));
    remove(&world);
}

#[test]
fn roots_without_an_image_become_one_layer_and_the_host_none() {
    let world = crate::harness::sbx();
    let options = ["--name", "box", "--net", "none"];
    world.run(options).arg("--rootfs").arg(rootfs()).args(["sh", "-c", "echo x > /new"]).expect_code(0);
    world.sbx(["commit", "-q", "-c", "CMD cat /new", "box", "made:1"]).expect_code(0);
    world.run(["--rm", "--net", "none", "made:1"]).expect_code(0).stdout_is("x\n");
    world.sbx(["rm", "box"]).expect_code(0);
    world.run(options).args(["host", "true"]).expect_code(0);
    world
        .sbx(["commit", "box", "x"])
        .expect_code(125)
        .stderr_has("the image `host`")
        .stderr_has("sbx diff box");
    world.sbx(["rm", "box"]).expect_code(0);
}

#[test]
fn podman_and_skopeo_take_what_is_committed() {
    let mut world = world();
    // podman keeps a process that holds its user namespace.
    world.allow_leftovers();
    stopped(&world, &[], SCRIPT);
    let home = world.home().join(".config/containers");
    fs::create_dir_all(&home).unwrap();
    let storage = world.directory().join("podman");
    let config = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{0}/storage\"\nrunroot = \"{0}/run\"\n",
        storage.display()
    );
    fs::write(home.join("storage.conf"), config).unwrap();
    fs::write(home.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    for schema in ["oci", "docker"] {
        let id = world.sbx(["commit", "-q", "-f", schema, "-m", schema, "box", "new:1"]).succeed();
        for format in ["docker-archive", "oci-archive"] {
            let _ = fs::remove_file(world.work().join("saved.tar"));
            world.sbx(["save", "--format", format, "-o", "saved.tar", "new:1"]).expect_code(0);
            let podman =
                |arguments: &[&str]| world.program(require("podman")).args(arguments).expect_code(0).stdout();
            podman(&["load", "-q", "-i", "saved.tar"]);
            assert_eq!(podman(&["images", "-q", "--no-trunc", "new:1"]).trim(), id, "{schema} {format}");
            let container = podman(&["create", "new:1", "true"]);
            // podman unpacks the layers, and its own copy has what the container had.
            podman(&["export", "-o", "exported.tar", container.trim()]);
            let names = world
                .program("tar")
                .args(["--numeric-owner", "-tvf", "exported.tar"])
                .expect_code(0)
                .stdout();
            let has = |end: &str| names.lines().any(|line| line.ends_with(end));
            assert!(
                names.lines().any(|line| line.contains(" 5/6 ") && line.ends_with(" srv/d/f")),
                "{names}"
            );
            assert!(!has(" bin/vi") && has(" home/new"), "{schema} {format}");
            podman(&["rm", "-a", "-f"]);
            podman(&["rmi", "-a", "-f"]);
            let place = format!("{format}:saved.tar");
            let inspected =
                world.program(require("skopeo")).args(["--insecure-policy", "inspect", "--config", &place]);
            assert!(
                inspected.expect_code(0).stdout().contains(&format!("\"comment\": \"{schema}\"")),
                "{schema} {format}"
            );
        }
    }
    world.sbx(["rm", "box"]).expect_code(0);
}
