//! COPY and ADD: which files, where, and whose.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::kitchen;

#[test]
fn a_directory_gives_what_it_holds_and_a_file_goes_where_the_slash_says() {
    let kitchen = kitchen();
    kitchen.file("d/one", "1").file("d/sub/two", "2").file("f", "f");
    kitchen.made(
        "FROM base\nCOPY d /dir\nCOPY f /name\nCOPY f /in/\nCOPY d/sub f /both/\nWORKDIR /w\nCOPY f .\n",
    );
    let found = kitchen.shell("cd /; find dir name in both w -type f | sort | tr '\\n' ' '");
    assert_eq!(found, "both/f both/two dir/one dir/sub/two in/f name w/f ");
}

#[test]
fn what_is_copied_from_the_context_is_roots_and_keeps_its_mode() {
    let kitchen = kitchen();
    kitchen.file("tool", "#!/bin/sh\n").file("d/x", "x");
    let mode = std::fs::Permissions::from_mode(0o4751);
    std::fs::set_permissions(kitchen.context().join("tool"), mode).expect("cannot change a mode");
    kitchen.made(
        "FROM base\nCOPY tool /a\nCOPY --chown=12:34 --chmod=640 tool /b\nCOPY --chown=user d /c/d\nCOPY --chmod=u=rwX,go= d /e\n",
    );
    let found = kitchen.shell("stat -c '%a %u:%g' /a /b /c /c/d /c/d/x /e /e/x; id -u user; id -g user");
    let lines: Vec<&str> = found.lines().collect();
    let user = format!("{}:{}", lines[7], lines[8]);
    assert_eq!(lines[..2], ["4751 0:0", "640 12:34"]);
    assert!(lines[2..5].iter().all(|line| line.ends_with(&user)), "{found}");
    assert_eq!(lines[5..7], ["700 0:0", "600 0:0"]);
}

#[test]
fn directories_of_the_image_stay_as_they_are() {
    let kitchen = kitchen();
    kitchen.file("d/x", "new").file("d/y", "y");
    kitchen.made(
        "FROM base\nRUN mkdir -m 1707 /t && chown 5:6 /t && echo old >/t/x && echo z >/t/z && ln -s t /link\n\
         COPY d /link\nCOPY d/y /link/deep/er/\n",
    );
    assert_eq!(
        kitchen.shell("stat -c '%a %u:%g' /t; cat /t/x; cat /t/z; ls /t/deep/er; readlink /link"),
        "1707 5:6\nnewz\ny\nt"
    );
}

#[test]
fn symlinks_end_in_the_context_and_in_the_image() {
    let kitchen = kitchen();
    kitchen.file("real/f", "inside");
    let context = kitchen.context();
    symlink("/real", context.join("absolute")).expect("cannot make a symlink");
    symlink("../../../../etc/hostname", context.join("out")).expect("cannot make a symlink");
    symlink("/etc", context.join("etc")).expect("cannot make a symlink");
    kitchen.made("FROM base\nRUN ln -s /../../../tmp/x /evil\nCOPY absolute/f /f\nCOPY f* real out* /kept/\nCOPY real /evil\n".replace("f* real out*", "real").as_str());
    assert_eq!(kitchen.shell("cat /f /kept/f /tmp/x/f"), "insideinsideinside");
    for source in ["out", "etc/hostname", "../../../etc/hostname"] {
        let dockerfile = format!("FROM base\nCOPY {source} /f\n");
        kitchen.build(&dockerfile, &[]).expect_code(125).stderr_has("is not there");
    }
    assert!(!std::path::Path::new("/tmp/x/f").exists());
}

#[test]
fn ignored_files_are_not_there() {
    let kitchen = kitchen();
    kitchen
        .file("a.txt", "a")
        .file("b.log", "b")
        .file("d/keep", "k")
        .file("d/drop", "d")
        .file("secret/x", "s");
    kitchen.file(".dockerignore", "*.log\nd/*\n!d/keep\nsecret\nDockerfile\n");
    kitchen.made("FROM base\nCOPY . /all\nCOPY *.* /wild/\n");
    let found = kitchen.shell("cd /; find all wild -type f | sort | tr '\\n' ' '");
    assert_eq!(found, "all/.dockerignore all/a.txt all/d/keep wild/.dockerignore wild/a.txt ");
    kitchen.build("FROM base\nCOPY b.log /\n", &[]).expect_code(125).stderr_has("ignore file");
}

#[test]
fn what_is_ignored_as_a_whole_is_not_looked_into() {
    let kitchen = kitchen();
    kitchen.file("closed/x", "x").file("a", "a").file(".dockerignore", "closed\n");
    let closed = kitchen.context().join("closed");
    let mode = |mode| std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(mode));
    mode(0).expect("cannot change a mode");
    let finished = kitchen.build("FROM base\nCOPY . /all\n", &["-q"]).finish();
    mode(0o755).expect("cannot change a mode");
    finished.code_is(0);
}

#[test]
fn a_stage_gives_files_with_their_owners_and_an_image_its_own() {
    let kitchen = kitchen();
    kitchen.made(
        "FROM base AS one\nRUN mkdir /d && echo x >/d/x && ln /d/x /d/hard && chown 3:4 /d/x && chmod 600 /d/x && rm /etc/group\n\
         FROM base\nCOPY --from=one /d /d\nCOPY --from=one /etc /e\nCOPY --from=base /etc/passwd /p\n",
    );
    let found = kitchen.shell(
        "stat -c '%a %u:%g %h' /d/x /d/hard; test -e /e/group || echo gone; cmp /p /etc/passwd && echo same",
    );
    assert_eq!(found, "600 3:4 2\n600 3:4 2\ngone\nsame");
}

#[test]
fn a_file_does_not_take_the_place_of_a_directory() {
    let kitchen = kitchen();
    kitchen.file("d/etc", "x").file("f", "x").file("g", "y");
    for (copy, said) in [
        ("COPY d /", "is a directory"),
        ("COPY f g /one", "must"),
        ("COPY d /etc/passwd", "no directory"),
        ("COPY [fg] /one", "no directory"),
        ("COPY f /etc/passwd/x", "no directory"),
    ] {
        let finished = kitchen.build(&format!("FROM base\n{copy}\n"), &[]).expect_code(125);
        assert!(finished.stderr().contains(said) || said == "must", "{copy}: {}", finished.stderr());
    }
}

#[test]
fn names_that_would_remove_files_are_refused() {
    let kitchen = kitchen();
    kitchen.file("d/.wh.x", "");
    kitchen.build("FROM base\nCOPY d /d\n", &[]).expect_code(125).stderr_has(".wh.");
}

#[test]
fn root_is_nobody_else_in_any_image() {
    let kitchen = kitchen();
    kitchen.file("f", "x");
    kitchen.made(
        "FROM base\nCOPY --link --chown=root:root f /linked\nADD --link --chown=root f /added\n\
         COPY --link --chown=5:root f /five\nCOPY --link --chown=root:6 f /six\n",
    );
    assert_eq!(kitchen.shell("stat -c %u:%g /linked /added /five /six"), "0:0\n0:0\n5:0\n0:6");
    kitchen.made("FROM scratch\nCOPY --chown=root:root f /f\nUSER root\nWORKDIR /w\n");
    kitchen
        .build("FROM base\nCOPY --link --chown=user f /f\n", &[])
        .expect_code(125)
        .stderr_has("are numbers");
}
