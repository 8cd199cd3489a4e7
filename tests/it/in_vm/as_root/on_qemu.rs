//! What takes the distribution's own kernel: AppArmor, and docker with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::{as_other, as_other_through};
use crate::harness::{Run, Sbx, rootfs};
use crate::in_vm::{vm, world};

/// The parser of Debian 12 knows neither the rule `userns` nor the version of the rules that has it, and its kernel no such
/// restriction: all else of the profile is parsed, loaded and in force.
#[test]
fn the_apparmor_profile_is_loaded_and_confines_nothing() {
    let world = world();
    assert_eq!(fs::read_to_string("/sys/module/apparmor/parameters/enabled").expect("AppArmor").trim(), "Y");
    let printed = world.sbx(["doctor", "--apparmor-profile"]).succeed();
    let profile = printed.replace("abi <abi/4.0>,", "abi <abi/3.0>,").replace("  userns,\n", "");
    assert_eq!(printed.lines().count(), profile.lines().count() + 1, "{printed}");
    let file = world.file("sbx", &profile);
    let parser = |option: &str| world.program("apparmor_parser").arg(option).arg(&file);
    parser("--replace").expect_code(0).stderr_is("");
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").expect("the profiles");
    assert!(loaded.contains("sbx (unconfined)\n"), "{loaded}");
    let run = "sbx run --rm --quiet host sh -c 'cat /proc/self/attr/current; id -u; ls /sys/class/net | tr \"\\n\" \" \"'";
    as_other(&world, run).expect_code(0).stdout_is("sbx (unconfined)\n0\nlo tap0 ");
    as_other(&world, "sbx doctor").expect_code(0);
    parser("--remove").expect_code(0);
    as_other(&world, "sbx run --rm --quiet --net none host cat /proc/self/attr/current")
        .expect_code(0)
        .stdout_is("unconfined\n");
}

/// systemd delegates no huge pages: root hands them on without it.
#[test]
fn huge_pages_are_limited_where_root_hands_them_on() {
    let world = world();
    assert_eq!(vm(), "qemu");
    let by_hand = r#"
        top=/sys/fs/cgroup/sbx-by-hand
        echo +hugetlb +memory >/sys/fs/cgroup/cgroup.subtree_control
        mkdir $top $top/shell
        trap 'echo 1 >$top/cgroup.kill; sleep 0.5; find $top -depth -type d -exec rmdir {} \;' EXIT
        for group in $top $top/shell; do
            chown sbxother $group $group/cgroup.procs $group/cgroup.subtree_control
        done
        export top
        sh -c 'echo $$ >$top/shell/cgroup.procs; exec "$@"' sh "$@""#;
    let user = as_other_through(
        &world,
        &["sh", "-ec", by_hand, "sh"],
        "sbx info --format '{{.host.cgroupManager}} {{.host.cgroupControllers}}' | grep -o 'cgroupfs\\|memory hugetlb'
        sbx run -d --quiet --name huge --net none --hugetlb 2M=4m host sleep 999 >/dev/null
        sbx exec huge cat /sys/fs/cgroup/hugetlb.2MB.max
        sbx update --hugetlb 2M=8m huge
        sbx exec huge cat /sys/fs/cgroup/hugetlb.2MB.max
        sbx update --hugetlb 8M=8m huge || echo refused
        sbx rm -f -t 0 huge",
    );
    user.timeout(PATIENCE)
        .expect_code(0)
        .stderr_has("no `hugetlb.8MB.max`")
        .stdout_is("cgroupfs\nmemory hugetlb\n4194304\nhuge\n8388608\nrefused\nhuge\n");
}

/// This machine is an emulation.
const PATIENCE: Duration = Duration::from_secs(300);

/// Debian's docker, as its service runs it, with the image `busybox`.
struct Docker {
    world: Sbx,
}

/// docker gives a containerd of its own a quarter of a minute to start; a service of its own takes its time.
const SERVICES: &str = "start() { unit=$1; shift; systemd-run --quiet --unit=$unit --property=Delegate=yes \
    --service-type=notify --property=TimeoutStartSec=250 \"$@\"; }
    start sbx-containerd containerd
    start sbx-docker dockerd --containerd=/run/containerd/containerd.sock --data-root=/var/tmp/sbx-docker \
        --bridge=none --iptables=false";

impl Docker {
    fn start() -> Self {
        assert_eq!(vm(), "qemu");
        let world = world();
        world.program("sh").args(["-ec", SERVICES]).timeout(PATIENCE).expect_code(0);
        let import = "tar --create --directory \"$0\" . | docker import - busybox";
        world.program("sh").args(["-ec", import]).arg(rootfs()).timeout(PATIENCE).expect_code(0);
        Self { world }
    }

    /// A script in a container with sbx.
    fn sh(&self, options: &[&str], script: &str) -> Run<'_> {
        let sbx = "--volume=/usr/local/bin/sbx:/usr/local/bin/sbx:ro";
        let docker = self.world.program("docker").timeout(PATIENCE);
        docker
            .args(["run", "--rm", "--network=none", sbx])
            .args(options)
            .args(["busybox", "sh", "-ec", script])
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let end = "systemctl stop sbx-docker sbx-containerd; rm -rf /var/tmp/sbx-docker";
        drop(self.world.program("sh").args(["-c", end]).timeout(PATIENCE).finish());
    }
}

#[test]
fn docker_gives_what_it_takes_where_it_is_asked_to_and_is_named_where_not() {
    let docker = Docker::start();
    let run = "sbx run --rm --net none host sh -c 'id -u; echo $$'";
    // Its profiles refuse: first seccomp's, then AppArmor's.
    docker
        .sh(&[], run)
        .expect_code(125)
        .stderr_has("the seccomp profile of an outer container")
        .stderr_has("--security-opt seccomp=unconfined");
    // One that refuses a few calls, and makes namespaces for everybody.
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kexec_load","init_module","finit_module",
        "delete_module","open_by_handle_at","bpf","perf_event_open"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let file = docker.world.file("namespaces.json", profile);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
    let seccomp = format!("--security-opt=seccomp={}", file.display());
    docker.sh(&[&seccomp], run).expect_code(125).stderr_has("AppArmor").stderr_has("apparmor=unconfined");
    // The masked /proc is shared then; as root of docker's container, and as a user of it.
    let shared = "sbx run --rm --net none host id -u";
    let both = docker
        .sh(
            &[&seccomp, "--security-opt=apparmor=unconfined"],
            &format!("{shared}; su user -c 'HOME=/tmp {shared}'"),
        )
        .expect_code(0)
        .stdout_is("0\n0\n");
    assert_eq!(both.stderr().matches("are shared").count(), 2, "{}", both.stderr());
    let all = [&seccomp, "--security-opt=apparmor=unconfined", "--security-opt=systempaths=unconfined"];
    docker.sh(&all, run).expect_code(0).stdout_is("0\n1\n");
    docker.sh(&["--privileged"], run).expect_code(0).stdout_is("0\n1\n");
}
