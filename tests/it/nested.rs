//! sbx in containers of other programs, as CI systems run it. In its own: `lesser_hosts`, `emulated_root`; in docker's: `in_vm`.

use crate::harness::{Podman, Run, sbx_binary};

/// A script in a container of podman's with sbx.
fn sh<'p>(podman: &'p Podman, options: &[&str], script: &str) -> Run<'p> {
    let program = format!("{}:/usr/local/bin/sbx:ro", sbx_binary().display());
    podman.sh(&[&["--rm", "-v", &program], options].concat(), script)
}

#[test]
fn rootless_podman_gives_what_it_takes_where_it_is_asked_to() {
    let podman = Podman::new();
    let run = "sbx run --rm --quiet --net none host sh -c 'id -u; echo $$'";
    sh(&podman, &["--privileged"], run).expect_code(0).stdout_is("0\n1\n");
    // Its /proc is masked, and the kernel gives no other one then: the processes of the outer container are seen.
    let said = "sbx run --rm --net none host id -u";
    for options in [["--security-opt", "seccomp=unconfined"], ["--cap-add", "SYS_ADMIN"]] {
        sh(&podman, &options, said)
            .expect_code(0)
            .stdout_is("0\n")
            .stderr_has("processes of the host are shared");
    }
    // With layers, on a file system that takes them.
    let layers = "mkdir /t/r; cp -a /bin /etc /t/r
        sbx --root /t/store run --rm --quiet --net none --rootfs /t/r sh -c 'mkdir /etc/made && ls -d /etc/made'
        ls -d /t/r/etc/made 2>/dev/null || echo untouched";
    sh(&podman, &["--privileged", "--tmpfs", "/t"], layers)
        .expect_code(0)
        .stdout_is("/etc/made\nuntouched\n");
}

#[test]
fn the_default_profile_of_rootless_podman_is_named() {
    let podman = Podman::new();
    sh(&podman, &[], "sbx run --rm --net none host id -u")
        .expect_code(125)
        .stderr_has("the seccomp profile of an outer container forbids it")
        .stderr_has("`--security-opt seccomp=unconfined` or `--privileged`");
    let doctor = sh(&podman, &[], "sbx doctor").expect_code(1);
    doctor.stdout_has("cannot set a hostname in a user namespace").stdout_has("seccomp=unconfined");
    // What needs no namespace works there, too.
    sh(&podman, &[], "sbx ps -aq; sbx volume create v; sbx images -q").expect_code(0).stdout_is("v\n");
}
