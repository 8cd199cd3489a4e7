//! Debian's containerd, run by rootlesskit as its rootless set-up does, with its shim calling sbx by runc's words.

use std::time::Duration;

use crate::harness::{images, require, sbx, sbx_binary};

/// `ctr run` has containers in control groups named from the root, which nobody has here; without limits that is no error.
const SCRIPT: &str = r#"
    containerd --config "$work/config.toml" >"$work/log" 2>&1 &
    containerd=$!
    until [ -S "$work/socket" ]; do kill -0 $containerd; sleep 0.05; done
    ctr() { command ctr --address "$work/socket" "$@"; }
    run() { ctr run --snapshotter native --runc-binary "$sbx" "$@"; }
    ctr image import --snapshotter native "$work/image.tar" >/dev/null
    run --rm "$image" one sh -c 'read line; echo $line $$; exit 3' <"$work/input" || echo "run: $?"
    script --quiet --return --command "$(which ctr) --address $work/socket run --rm -t --snapshotter native --runc-binary $sbx $image term tty" /dev/null | grep -o /dev/pts/0
    run --rm "$image" none no-such 2>&1 | grep -o 'cannot execute `no-such`: executable file not found'
    run --detach "$image" web sleep 999
    ctr task ls | grep -c 'web.*RUNNING'
    ctr task exec --exec-id first web sh -c 'ps | grep -c "sleep 99[9]"; exit 4' || echo "exec: $?"
    ctr task ps web | tail -n +2 | wc -l
    ctr task kill --signal KILL web
    until ctr task ls | grep -q 'web.*STOPPED'; do sleep 0.05; done
    ctr task rm web 2>&1 | grep -o 'exit code 137'
    ctr container rm web
    ls -A /run/containerd/runc/default
    kill $containerd
    wait
"#;

#[test]
fn containers_of_containerd() {
    for program in ["containerd", "ctr", "rootlesskit", "script", "skopeo"] {
        require(program);
    }
    let world = sbx();
    let work = world.work();
    world.file("input", "hello\n");
    let copied = format!("oci-archive:{}:docker.io/library/busybox:test", work.join("image.tar").display());
    world.program("skopeo").args(["copy", "--quiet", &images().busybox().skopeo(), &copied]).expect_code(0);
    let disabled = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper"];
    world.file(
        "config.toml",
        format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = {disabled:?}\n[grpc]\naddress = \"{0}/socket\"\n",
            work.display()
        ),
    );
    let script = world.script("script.sh", SCRIPT);
    let run = world.program("rootlesskit").args(["--net=host", "--copy-up=/run", "--state-dir"]);
    let run = run.arg(work.join("rootlesskit")).args(["sh", "-e"]).arg(script);
    let run = run.env("work", &work).env("sbx", sbx_binary()).env("image", "docker.io/library/busybox:test");
    let seen = run.timeout(Duration::from_secs(120)).finish();
    let log = std::fs::read_to_string(work.join("log")).unwrap_or_default();
    let expected = [
        "hello 1",
        "run: 3",
        "/dev/pts/0",
        "cannot execute `no-such`: executable file not found",
        "1",
        "1",
        "exec: 4",
        "1",
        "exit code 137",
    ];
    assert_eq!(
        seen.stdout().split('\n').collect::<Vec<_>>()[..],
        [&expected[..], &[""]].concat(),
        "{}\n{log}",
        seen.stderr()
    );
    seen.code_is(0);
}
