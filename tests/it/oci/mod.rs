//! `sbx oci`: bundles, by the command line of runc and crun.

mod as_root;
mod bundle;
mod config;
mod console;
mod exec;
mod hooks;
mod hostile;
mod joined_mounts;
mod lifecycle;
mod mounts;
mod seccomp;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::harness::{Run, Sbx, rootfs, sbx_binary};

/// A bundle with a root file system of its own: devices are made in it where nothing is mounted on /dev.
pub(super) struct Bundle<'w> {
    world: &'w Sbx,
    pub(super) directory: PathBuf,
    pub(super) config: Value,
}

impl<'w> Bundle<'w> {
    /// What `spec` writes for the one who calls, with a shell's script as its command.
    pub(super) fn new(world: &'w Sbx, script: &str) -> Self {
        Self::of_spec(world, script, &["--rootless"])
    }

    pub(super) fn of_spec(world: &'w Sbx, script: &str, options: &[&str]) -> Self {
        let number = (0..).find(|number| !world.work().join(format!("bundle{number}")).exists());
        let directory = world.work().join(format!("bundle{}", number.expect("a number")));
        fs::create_dir(&directory).expect("a directory");
        world.sbx(["oci", "spec"]).args(options).arg("--bundle").arg(&directory).succeed();
        let text = fs::read_to_string(directory.join("config.json")).expect("a config.json");
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        let copied = Command::new("cp").arg("-a").arg(rootfs()).arg(directory.join("rootfs")).status();
        assert!(copied.expect("cannot start cp").success(), "cannot copy the root file system");
        config["root"] = json!({ "path": "rootfs", "readonly": true });
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        let bundle = Self { world, directory, config };
        bundle.write();
        bundle
    }

    pub(super) fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = self.config.pointer_mut(parent).expect("what the value belongs to");
        parent[name] = value;
        self.write();
        self
    }

    pub(super) fn mount(mut self, mount: Value) -> Self {
        self.config["mounts"].as_array_mut().expect("mounts").push(mount);
        self.write();
        self
    }

    pub(super) fn write(&self) {
        fs::write(self.directory.join("config.json"), self.config.to_string()).expect("a config.json");
    }

    /// `sbx oci VERB --bundle DIR ID`
    pub(super) fn verb(&self, verb: &str, id: &str) -> Run<'w> {
        self.world.sbx(["oci", verb, "--bundle"]).arg(&self.directory).arg(id)
    }

    /// The same of a container that goes on when the command has ended, and must not have its pipes.
    pub(super) fn behind(&self, verb: &str, id: &str) -> Run<'w> {
        let run = behind(self.world).args(["oci", verb, "--bundle"]);
        run.arg(&self.directory).arg(id)
    }

    pub(super) fn run(&self) -> Run<'w> {
        self.verb("run", "test")
    }
}

/// sbx with streams of its own, which leave nobody's pipe open. What it says of a failure is shown when it has ended.
pub(super) fn behind(world: &Sbx) -> Run<'_> {
    let script = "out=$1 err=$2; shift 2; \"$@\" </dev/null >$out 2>$err; code=$?; test $code = 0 || cat $err >&2; exit $code";
    let file = |name: &str| world.work().join(name);
    let run = world.program("sh").args(["-c", script, "sh"]).arg(file("out")).arg(file("err"));
    run.arg(sbx_binary())
}

/// The status that `state` tells.
pub(super) fn status(world: &Sbx, id: &str) -> String {
    let state: Value = serde_json::from_str(&world.sbx(["oci", "state", id]).succeed()).expect("JSON");
    state["status"].as_str().expect("a status").to_owned()
}

/// Waits until `state` tells a status.
#[track_caller]
pub(super) fn wait_for(world: &Sbx, id: &str, wanted: &str) {
    for _ in 0..1000 {
        if status(world, id) == wanted {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the container does not become {wanted}");
}

/// A file that is written by somebody else, once it has something in it.
#[track_caller]
pub(super) fn content_of(path: &std::path::Path) -> String {
    for _ in 0..1000 {
        if let Ok(text) = fs::read_to_string(path)
            && !text.is_empty()
        {
            return text;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nothing is written into {}", path.display());
}
