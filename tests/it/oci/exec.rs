//! Other processes in a container that runs.

use serde_json::json;

use super::{Bundle, behind, content_of, status, wait_for};
use crate::harness::{Sbx, sbx};

fn running(world: &Sbx) -> Bundle<'_> {
    let bundle = Bundle::new(world, "exec sleep 999").set("/process/env", json!(["PATH=/bin", "A=1"]));
    bundle.behind("create", "web").expect_code(0);
    world.sbx(["oci", "start", "web"]).succeed();
    bundle
}

fn end(world: &Sbx) {
    world.sbx(["oci", "delete", "--force", "web"]).succeed();
}

#[test]
fn it_has_the_containers_world_and_its_own_words() {
    let world = sbx();
    running(&world);
    let script = "pwd; echo $A $B $HOME; hostname; ps | grep -c 'sleep 99[9]'; grep CapEff /proc/self/status; cat; exit 4";
    let exec = world.sbx([
        "oci",
        "exec",
        "--cwd",
        "/etc",
        "--env",
        "B=2",
        "--cap",
        "CAP_CHOWN",
        "web",
        "sh",
        "-c",
        script,
    ]);
    exec.stdin("in").expect_code(4).stdout_is("/etc\n1 2 /root\nsbx\n1\nCapEff:\t0000000020000421\nin");
    let plain =
        world.sbx(["oci", "exec", "web", "sh", "-c", "pwd; echo $A; grep NoNewPrivs /proc/self/status"]);
    plain.expect_code(0).stdout_is("/\n1\nNoNewPrivs:\t1\n");
    world
        .sbx(["oci", "exec", "web", "no-such"])
        .expect_code(255)
        .stderr_has("executable file not found in $PATH");
    world.sbx(["oci", "exec", "--user", "5", "web", "id"]).expect_code(255).stderr_has("not among");
    world.sbx(["oci", "exec", "--user", "bob", "web", "id"]).expect_code(255).stderr_has("in numbers");
    world.sbx(["oci", "exec", "web"]).expect_code(255).stderr_has("without a command");
    end(&world);
    world.sbx(["oci", "exec", "web", "id"]).expect_code(255).stderr_has("does not exist");
}

#[test]
fn a_file_describes_it() {
    let world = sbx();
    running(&world);
    let file = world.file(
        "process.json",
        json!({
            "args": ["sh", "-c", "id -u; pwd; echo $C; ulimit -n; grep CapBnd /proc/self/status"],
            "env": ["PATH=/bin", "C=3"],
            "cwd": "/tmp",
            "user": { "uid": 0, "gid": 0 },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 50, "hard": 60 }],
            "capabilities": { "bounding": ["CAP_KILL"] },
        })
        .to_string(),
    );
    let exec = world.sbx(["oci", "exec", "--process"]).arg(&file).arg("web");
    exec.expect_code(0).stdout_is("0\n/tmp\n3\n50\nCapBnd:\t0000000000000020\n");
    end(&world);
}

#[test]
fn a_detached_one_goes_on_and_tells_its_number() {
    let world = sbx();
    running(&world);
    let pid = world.work().join("pid");
    let exec = behind(&world).args(["oci", "exec", "--detach", "--pid-file"]).arg(&pid);
    exec.args(["web", "sleep", "998"]).expect_code(0);
    let pids: Vec<i32> =
        serde_json::from_str(&world.sbx(["oci", "ps", "--format", "json", "web"]).succeed()).expect("JSON");
    let number: i32 = content_of(&pid).parse().expect("a number");
    assert!(pids.len() == 2 && pids.contains(&number), "{pids:?}");
    world.sbx(["oci", "kill", "--all", "web", "KILL"]).succeed();
    wait_for(&world, "web", "stopped");
    world.sbx(["oci", "delete", "web"]).succeed();
}

#[test]
fn what_has_stopped_cannot_be_entered() {
    let world = sbx();
    let bundle = Bundle::new(&world, "true");
    bundle.behind("create", "web").expect_code(0);
    world.sbx(["oci", "start", "web"]).succeed();
    wait_for(&world, "web", "stopped");
    world.sbx(["oci", "exec", "web", "id"]).expect_code(255).stderr_has("stopped container");
    end(&world);
}

#[test]
fn before_the_start_it_is_alone_with_a_process_that_it_cannot_look_into() {
    let world = sbx();
    let capabilities = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_KILL"]);
    let bundle =
        Bundle::new(&world, "echo started; exec sleep 999").set("/root", json!({ "path": "rootfs" })).set(
            "/process/capabilities",
            json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities }),
        );
    bundle.behind("create", "web").expect_code(0);
    let script = "id -u; hostname; cat /proc/1/comm; readlink /proc/1/exe; ls /proc/1/fd 2>&1; exit 3";
    let exec = world.sbx(["oci", "exec", "web", "sh", "-c", script]);
    exec.expect_code(3).stdout_is("0\nsbx\nsbx-child\nls: can't open '/proc/1/fd': Permission denied\n");
    assert_eq!(status(&world, "web"), "created");
    // It is closed from now on, also to whoever would bring in the next one.
    world.sbx(["oci", "exec", "web", "id"]).expect_code(255).stderr_has("has not been started");
    world.sbx(["oci", "start", "web"]).succeed();
    world.sbx(["oci", "exec", "web", "cat", "/proc/1/comm"]).expect_code(0).stdout_is("sleep\n");
    end(&world);
}

#[test]
fn on_a_terminal() {
    let world = sbx();
    running(&world);
    let mut pty = world.pty(["oci", "exec", "--tty", "web", "sh"]);
    pty.send_line("tty; stty size; echo $((40+2))");
    pty.expect("/dev/pts/0");
    pty.expect("24 80");
    pty.expect("42");
    pty.send_line("exit 6");
    assert_eq!(pty.finish(), 6);
    end(&world);
}
