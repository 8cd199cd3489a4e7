//! `RUN --mount`: seen by one command, and in no layer.

use super::kitchen;

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
