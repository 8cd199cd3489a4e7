//! What separates a container from the host and from its neighbours, and what it can do to them: nothing.

mod as_root;
mod breakouts;
mod descriptors;
mod escapes;
mod first_process;
mod hidden_paths;
mod joined;
mod limits;
mod namespaces;
mod privileges;
mod seccomp;

use super::harness::{Run, Sbx, rootfs};

/// A shell script in a container on the small root file system, without a network helper unless one is asked for.
fn run<'w>(world: &'w Sbx, flags: &[&str], script: &str) -> Run<'w> {
    let root = rootfs().to_str().expect("a plain name");
    let run = world.run(["--rm"]).args(flags.iter().copied());
    let run =
        if flags.iter().any(|flag| flag.starts_with("--net")) { run } else { run.args(["--net", "none"]) };
    run.args(["--rootfs", root, "sh", "-c", script])
}

/// A command in the image `host`, for tools that busybox lacks.
fn run_on_host_image<'w>(world: &'w Sbx, flags: &[&str], command: &[&str]) -> Run<'w> {
    world.run(["--rm", "--net", "none"]).args(flags.iter().copied()).arg("host").args(command.iter().copied())
}

/// The name of a namespace of the calling process, such as `net:[4026531833]`.
fn own_namespace(kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
    link.to_str().expect("a plain name").to_owned()
}
