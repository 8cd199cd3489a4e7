//! `sbx bundle`

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::Bundle;
use super::table::view::View;
use crate::harness::{Sbx, images, require, sbx};

const IMAGE: &str = "localhost/box:latest";

fn change(bundle: &Path, script: &str) {
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).expect("a file")).expect("JSON");
    config["process"]["args"] = json!(["sh", "-c", script]);
    fs::write(file, config.to_string()).expect("a file");
}

fn run<'w>(world: &'w Sbx, bundle: &Path) -> crate::harness::Run<'w> {
    world.sbx(["oci", "run", "--bundle"]).arg(bundle).arg("test")
}

#[test]
fn an_image_becomes_a_directory_that_runtimes_run() {
    let world = sbx();
    world.put_image(&images().busybox(), IMAGE);
    let bundle = world.work().join("new/bundle");
    world.sbx(["bundle", IMAGE]).arg(&bundle).expect_code(0).stdout_is("");
    run(&world, &bundle)
        .stdin("echo from the command of the image")
        .expect_code(0)
        .stdout_has("from the command");
    change(&bundle, "id -u; echo kept > /file");
    run(&world, &bundle).expect_code(0).stdout_is("0\n");
    assert_eq!(fs::read_to_string(bundle.join("rootfs/file")).expect("a file"), "kept\n");
    world.sbx(["bundle", IMAGE]).arg(&bundle).expect_code(125).stderr_has("not empty");
    world.sbx(["bundle", "host"]).arg(world.work().join("x")).expect_code(125).stderr_has("image `host`");
    assert!(!world.work().join("x").exists());
}

#[test]
fn what_it_changes_is_refused_or_goes_elsewhere() {
    let world = sbx();
    world.put_image(&images().busybox(), IMAGE);
    let fixed = world.work().join("fixed");
    world.sbx(["bundle", "--read-only", IMAGE]).arg(&fixed).succeed();
    change(&fixed, "touch /etc/new 2>/dev/null || echo refused");
    run(&world, &fixed).expect_code(0).stdout_is("refused\n");
    let over = world.work().join("over");
    world.sbx(["bundle", "--overlay", IMAGE]).arg(&over).succeed();
    change(&over, "echo kept > /etc/new; touch /x 2>/dev/null || echo refused");
    run(&world, &over).expect_code(0).stdout_is("refused\n");
    assert_eq!(fs::read_to_string(over.join("upper/etc/new")).expect("a file"), "kept\n");
    assert!(!over.join("image/etc/new").exists());
    change(&over, "cat /etc/new");
    run(&world, &over).expect_code(0).stdout_is("kept\n");
    let odd = world.work().join("a:b");
    world.sbx(["bundle", "--overlay", IMAGE]).arg(&odd).expect_code(125).stderr_has("characters");
}

/// What is on standard output when it is run by each runtime.
fn run_by_all(world: &Sbx, view: &mut View<'_>, bundle: &Path) -> [(&'static str, String); 3] {
    require("runc");
    require("crun");
    let state = world.work().join("state");
    let runc = world.program("runc").arg("--root").arg(&state).args(["run", "--bundle"]).arg(bundle).arg("a");
    let (out, err) = (world.work().join("crun.out"), world.work().join("crun.err"));
    let line = format!(
        "crun --cgroup-manager=disabled --root {} run --bundle {} a >{} 2>{}",
        state.display(),
        bundle.display(),
        out.display(),
        err.display()
    );
    let code = view.run(&line);
    assert_eq!(code, 0, "crun: {}", fs::read_to_string(&err).expect("a file"));
    let crun = fs::read_to_string(&out).expect("a file").trim_end().to_owned();
    [("sbx", run(world, bundle).succeed()), ("runc", runc.succeed()), ("crun", crun)]
}

#[test]
fn every_runtime_runs_it_alike() {
    let world = sbx();
    let mut view = View::new(&world);
    world.put_image(&images().busybox(), IMAGE);
    let kinds: [(&[&str], &str); 3] =
        [(&[], "written"), (&["--read-only"], "refused"), (&["--overlay"], "written")];
    for (number, (options, expected)) in kinds.into_iter().enumerate() {
        let bundle = world.work().join(format!("image{number}"));
        world.sbx(["bundle"]).args(options).arg(IMAGE).arg(&bundle).succeed();
        let script = "id -u; hostname; pwd; stat -c %a /dev/null; (echo x > /etc/new) 2>/dev/null && echo written || echo refused";
        change(&bundle, script);
        for (name, said) in run_by_all(&world, &mut view, &bundle) {
            assert_eq!(said, format!("0\nsbx\n/\n666\n{expected}"), "{name} {options:?}");
        }
    }
    let example = Bundle::new(&world, "id -u; hostname");
    for (name, said) in run_by_all(&world, &mut view, &example.directory) {
        assert_eq!(said, "0\nsbx", "{name}");
    }
}

#[test]
fn the_version_is_the_lowest_that_has_all_of_it() {
    let world = sbx();
    for options in [&[][..], &["--rootless"]] {
        let example = Bundle::of_spec(&world, "true", options);
        assert_eq!(example.config["ociVersion"], "1.0.2");
    }
}
