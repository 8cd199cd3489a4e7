//! `RUN --mount`: seen by one command, and in no layer.

use super::canaries::places;
use super::{Kitchen, kitchen};
use crate::bridge::wait_until;
use crate::harness::{images, require};

#[test]
fn secrets_are_read_by_root_alone_and_leave_no_trace() {
    let kitchen = kitchen();
    let secret = kitchen.world.directory().join("secret");
    std::fs::write(&secret, "swordfish-4711").expect("cannot write");
    let option = format!("id=s,src={}", secret.display());
    kitchen
        .build(
            "FROM base\nRUN --mount=type=secret,id=s md5sum /run/secrets/s | grep -q 1c30b329d7a20c6eebe5fc17f9de714e && stat -c %a /run/secrets/s >/mode\n\
             RUN --mount=type=secret,id=s,env=WORD printf %s $WORD | md5sum | grep -q 1c30b329d7a20c6eebe5fc17f9de714e\n\
             RUN --mount=type=secret,id=s,target=/x,uid=5,mode=0440 stat -c '%u %a' /x >>/mode\n\
             RUN --mount=type=secret,id=other true\nRUN test ! -e /run/secrets && test ! -e /x\n",
            &["-q", "-t", "made", "--secret", &option],
        )
        .succeed();
    assert_eq!(kitchen.shell("cat /mode"), "400\n5 440");
    let found = std::process::Command::new("grep")
        .args(["-rl", "swordfish"])
        .args([kitchen.world.store(), kitchen.world.runtime()])
        .output()
        .expect("cannot start grep");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    kitchen
        .build("FROM base\nRUN --mount=type=secret,id=no,required true\n", &[])
        .expect_code(125)
        .stderr_has("--secret id=no");
}

#[test]
fn a_cache_outlives_builds_and_is_in_no_layer() {
    let kitchen = kitchen();
    for count in ["1", "2"] {
        kitchen
            .build(
                "FROM base\nRUN --mount=type=cache,target=/c echo x >>/c/f && wc -l </c/f >/count\n",
                &["-q", "-t", "made", "--no-cache"],
            )
            .succeed();
        assert_eq!(kitchen.shell("cat /count; ls -d /c 2>/dev/null").trim(), count);
    }
    kitchen.world.sbx(["builder", "prune", "-f"]).expect_code(0);
    kitchen.build("FROM base\nRUN --mount=type=cache,target=/c test ! -e /c/f\n", &["-q"]).succeed();
}

#[test]
fn the_context_and_stages_are_mounted_without_what_is_ignored() {
    let kitchen = kitchen();
    kitchen.file("a/f", "hello").file("hidden", "x").file(".dockerignore", "hidden\n");
    kitchen.made(
        "FROM base AS one\nRUN echo y >/y\nFROM base\n\
         RUN --mount=target=/ctx cat /ctx/a/f >/f && test ! -e /ctx/hidden && ! touch /ctx/new\n\
         RUN --mount=target=/ctx,rw echo z >/ctx/a/f && cat /ctx/a/f >>/f\n\
         RUN --mount=from=one,source=/y,target=/why cat /why >>/f\n\
         RUN --mount=type=tmpfs,target=/t echo x >/t/x\n",
    );
    assert_eq!(kitchen.shell("cat /f; ls -A /ctx /t 2>/dev/null"), "helloz\ny");
    assert_eq!(std::fs::read_to_string(kitchen.context().join("a/f")).expect("a file"), "hello");
}

#[test]
fn what_is_written_to_a_mounted_file_is_thrown_away() {
    let kitchen = kitchen();
    kitchen.file("f", "hello");
    kitchen.made(
        "FROM base AS one\nRUN echo theirs >/y && chmod 640 /y && chown 5:6 /y\nFROM base\n\
         RUN --mount=source=f,target=/ctx/f,rw echo more >>/ctx/f && cat /ctx/f >/seen\n\
         RUN --mount=from=one,source=/y,target=/y,rw stat -c '%a %u:%g' /y >>/seen && echo x >/y && cat /y >>/seen\n\
         RUN --mount=from=one,source=/y,target=/y cat /y >>/seen\n",
    );
    assert_eq!(kitchen.shell("cat /seen"), "hellomore\n640 5:6\nx\ntheirs");
    assert_eq!(std::fs::read_to_string(kitchen.context().join("f")).expect("a file"), "hello");
    kitchen.world.assert_clean();
}

#[test]
fn a_cache_with_another_owner_is_another_cache() {
    let kitchen = kitchen();
    kitchen.made(
        "FROM base\nRUN --mount=type=cache,id=c,target=/c touch /c/roots\nUSER 7:8\n\
         RUN --mount=type=cache,id=c,target=/c,uid=7,gid=8,mode=0700 touch /c/own && ls /c >/tmp/seen\n\
         RUN --mount=type=cache,id=c,target=/c,uid=7,gid=8,mode=0750 ls /c | wc -l >>/tmp/seen\n\
         RUN --mount=type=cache,id=c,target=/c ls /c >>/tmp/seen\n",
    );
    assert_eq!(kitchen.shell("cat /tmp/seen"), "own\n0\nroots");
}

#[test]
fn a_cache_may_begin_with_files_and_belong_to_somebody() {
    let kitchen = kitchen();
    kitchen.file("begin/a", "1").file("begin/deep/b", "2");
    let build = |command: &str| {
        let dockerfile = format!(
            "FROM base AS seed\nCOPY begin /begin\nRUN chown -R 5:6 /begin/deep\nFROM base\n\
             RUN --mount=type=cache,target=/c,from=seed,source=/begin,uid=7,gid=8,mode=0750 {command}\n"
        );
        kitchen.build(&dockerfile, &["-q", "-t", "made", "--no-cache-filter", "1"]).succeed();
        kitchen.shell("cat /seen")
    };
    let look = "cd /c && stat -c '%a %u:%g' . deep >/seen && cat a deep/b >>/seen && ls >>/seen && touch new";
    assert_eq!(build(look), "750 7:8\n755 5:6\n12a\ndeep");
    assert_eq!(build(look), "750 7:8\n755 5:6\n12a\ndeep\nnew");
    // With another beginning it is another cache; that of the context, here.
    kitchen.file("begin/a", "9");
    assert_eq!(build(look), "750 7:8\n755 5:6\n92a\ndeep");
    kitchen.world.sbx(["builder", "prune", "-f"]).expect_code(0);
    assert_eq!(build(look), "750 7:8\n755 5:6\n92a\ndeep");
}

#[test]
fn caches_are_shared_private_or_locked() {
    let kitchen = kitchen();
    // Two stages at once: those that share see each other, those that do not have caches of their own, or wait.
    let both = |sharing: &str, script: &str| {
        let stage = |name: &str, other: &str| {
            let script = script.replace("OWN", name).replace("OTHER", other);
            format!("FROM base AS {name}\nRUN --mount=type=cache,id=m,target=/m,sharing={sharing} {script}\n")
        };
        let dockerfile = format!(
            "{}{}FROM base\nCOPY --from=a /seen /a\nCOPY --from=b /seen /b\n",
            stage("a", "b"),
            stage("b", "a")
        );
        kitchen.world.sbx(["builder", "prune", "-f"]).expect_code(0);
        kitchen.build(&dockerfile, &["-q", "-t", "made", "--jobs", "2"]).succeed();
        kitchen.shell("cat /a /b")
    };
    let wait = "touch /m/OWN; for i in $(seq 20); do test -e /m/OTHER && break; sleep 0.1; done; ls /m | wc -l >/seen";
    assert_eq!(both("shared", wait), "2\n2");
    assert_eq!(both("private", wait), "1\n1");
    let alone = "test ! -e /m/held && touch /m/held && sleep 0.5 && rm /m/held && echo alone >/seen";
    assert_eq!(both("locked", alone), "alone\nalone");
}

#[test]
fn secrets_come_from_variables_too() {
    let kitchen = kitchen();
    let check = "md5sum | grep -q 1c30b329d7a20c6eebe5fc17f9de714e";
    let dockerfile = format!(
        "FROM base\nRUN --mount=type=secret,id=s cat /run/secrets/s | {check}\n\
         RUN --mount=type=secret,id=s,env=WORD test ! -e /run/secrets/s && printf %s $WORD | {check}\n"
    );
    for secret in ["id=s,env=GIVEN", "id=s,type=env,src=GIVEN"] {
        kitchen
            .build(&dockerfile, &["-q", "--no-cache", "--secret", secret])
            .env("GIVEN", "swordfish-4711")
            .succeed();
    }
    kitchen
        .build(&dockerfile, &["--no-cache", "--secret", "id=s,env=GIVEN"])
        .expect_code(125)
        .stderr_has("`GIVEN` is not set");
}

const ASK: &str = r#"
import os, socket, sys
def ask(*message):
    agent = socket.socket(socket.AF_UNIX)
    agent.connect(os.environ["SSH_AUTH_SOCK"])
    agent.sendall(len(message).to_bytes(4, "big") + bytes(message))
    answer = agent.recv(100000)
    return answer[4], int.from_bytes(answer[5:9], "big")
assert ask(11) == (12, 1), ask(11)
assert ask(19)[0] == 5
assert os.environ["SSH_AUTH_SOCK"] == sys.argv[1]
assert "%o" % os.stat(sys.argv[1]).st_mode == sys.argv[2]
"#;

#[test]
fn an_agent_signs_for_a_command_and_its_keys_stay() {
    let kitchen = kitchen();
    kitchen.world.put_image(&images().services(), "docker.io/library/services:latest");
    kitchen.file("ask.py", ASK);
    let directory = kitchen.world.directory();
    let (key, socket) = (directory.join("key"), directory.join("agent"));
    let run = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(require(program))
            .args(args)
            .env("SSH_AUTH_SOCK", &socket)
            .output()
            .expect("it starts");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key.display().to_string()]);
    let agent = kitchen.world.program(require("ssh-agent")).args(["-D", "-a"]).arg(&socket).spawn();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !socket.exists() {
        assert!(std::time::Instant::now() < until, "the agent does not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    run("ssh-add", &["-q", &key.display().to_string()]);
    let dockerfile = "FROM services\nCOPY ask.py /\n\
        RUN --mount=type=ssh python3 /ask.py /run/buildkit/ssh_agent.0 140600\n\
        RUN --mount=type=ssh,id=mine,required,target=/a,uid=1000,gid=1000,mode=0660 su -s /bin/sh user -c 'python3 /ask.py /a 140660'\n\
        USER 1000\nRUN --mount=type=ssh,id=none true && test -z \"$SSH_AUTH_SOCK\"\n";
    let mine = format!("mine={}", socket.display());
    let options = ["-q", "-t", "made", "--ssh", "default", "--ssh", &mine];
    kitchen.build(dockerfile, &options).env("SSH_AUTH_SOCK", &socket).succeed();
    assert!(run("ssh-add", &["-l"]).contains("ED25519"));
    kitchen.build(dockerfile, &["--no-cache"]).expect_code(1);
    let required = "FROM base\nRUN --mount=type=ssh,required true\n";
    kitchen.build(required, &[]).expect_code(125).stderr_has("--ssh default");
    kitchen
        .build(required, &["--ssh", "default"])
        .env_remove("SSH_AUTH_SOCK")
        .expect_code(125)
        .stderr_has("ssh-agent");
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    let _ = agent.finish();
}

#[test]
fn keys_sign_for_a_command_through_an_agent_that_ends_with_the_build() {
    let kitchen = kitchen();
    kitchen.world.put_image(&images().services(), "docker.io/library/services:latest");
    kitchen.file("ask.py", &ASK.replace("(12, 1)", "(12, int(sys.argv[3]))"));
    let key = |name: &str, passphrase: &str| {
        let path = kitchen.world.directory().join(name).display().to_string();
        let made = std::process::Command::new(require("ssh-keygen"))
            .args(["-q", "-t", "ed25519", "-N", passphrase, "-f", &path])
            .status();
        assert!(made.expect("it starts").success());
        path
    };
    let [one, other, locked] =
        [("one", ""), ("-other", ""), ("locked", "word")].map(|(name, word)| key(name, word));
    let dockerfile = "FROM services\nCOPY ask.py /\n\
        RUN --mount=type=ssh,required python3 /ask.py /run/buildkit/ssh_agent.0 140600 1\n\
        RUN --mount=type=ssh,id=both,required python3 /ask.py /run/buildkit/ssh_agent.0 140600 2\n";
    let (default, both) = (format!("default={one}"), format!("both={one},{other}"));
    kitchen.build(dockerfile, &["-q", "-t", "made", "--ssh", &default, "--ssh", &both]).succeed();
    let secret = std::fs::read_to_string(&one).expect("a key");
    let line = secret.lines().nth(2).expect("a line of it");
    assert_eq!(places(&kitchen, line), [""; 0]);
    for (keys, said) in [
        (format!("default={locked}"), "ssh-add refuses"),
        (format!("default={one},{locked}"), "/locked.\n"),
        (format!("default={one}.pub"), "one.pub"),
        (format!("default={one},"), "No such file"),
    ] {
        let finished = kitchen.build("FROM base\nRUN true\n", &["--ssh", &keys]).expect_code(125);
        assert!(finished.stderr().contains(said), "{keys}: {}", finished.stderr());
    }
    assert_eq!(left_agents(&kitchen), [""; 0]);
    let waiting = kitchen.build("FROM base\nRUN echo runs && sleep 1000\n", &["--ssh", &default]).spawn();
    wait_until("the agent runs", || !left_agents(&kitchen).is_empty());
    waiting.signal(nix::sys::signal::Signal::SIGKILL);
    let _ = waiting.finish();
    wait_until("the agent ends", || {
        left_agents(&kitchen).iter().all(|path| std::os::unix::net::UnixStream::connect(path).is_err())
    });
    kitchen.build("FROM base\nRUN true\n", &["-q"]).succeed();
    assert_eq!(left_agents(&kitchen), [""; 0]);
}

/// The sockets of agents that builds have started.
fn left_agents(kitchen: &Kitchen) -> Vec<String> {
    let entries = std::fs::read_dir(kitchen.world.runtime().join("sbx")).into_iter().flatten().flatten();
    let directories = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
    let sockets = directories.map(|path| path.join("agent")).filter(|path| path.exists());
    sockets.map(|path| path.display().to_string()).collect()
}
