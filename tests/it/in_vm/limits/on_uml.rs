//! A host that delegates less than is asked for, and whose kernel has less.

use super::world;
use crate::harness::{Background, rootfs};

#[test]
fn a_controller_that_is_not_delegated_is_named_with_its_mend() {
    let world = world();
    let (drop_in, none) = ("user@.service.d/delegate.conf", "the kernel of this machine has no controller");
    for (option, controller, words) in [
        ("--blkio-weight=500", "io", ["not delegated to you: io; ", drop_in]),
        ("--cpuset-cpus=0", "cpuset", [none, "but cpu io memory pids"]),
        ("--hugetlb=2M=4m", "hugetlb", [none, "but cpu io memory pids"]),
        ("--cgroup-conf=nothing.max=1", "nothing", [none, "but cpu io memory pids"]),
    ] {
        let run = world.run(["--name=never", "--net=none", option, "--rootfs"]).arg(rootfs()).arg("true");
        let refused = run.expect_code(125).stderr_has(&format!("cannot limit the container ({controller})"));
        refused.stderr_has(words[0]).stderr_has(words[1]);
    }
    world.sbx(["container", "exists", "never"]).expect_code(1);
    // Of one that runs; one that is down says so when it starts.
    let web = Background::start(&world, &["-m64m"], "sleep 999");
    let update = || world.sbx(["update", "--blkio-weight=500", "-m32m"]).arg(&web.id);
    update().expect_code(125).stderr_has("not delegated to you: io; ").stderr_has(drop_in);
    assert_eq!(web.inspect("{{.HostConfig.Memory}} {{.HostConfig.BlkioWeight}}").trim(), "67108864 0");
    world.sbx(["stop", "-t", "0"]).arg(&web.id).succeed();
    update().expect_code(0);
    world.sbx(["start"]).arg(&web.id).expect_code(125).stderr_has("not delegated to you: io; ");
}
