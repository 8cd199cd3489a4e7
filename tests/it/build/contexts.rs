//! Contexts that are no directories: archives, URLs, repositories.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tar::EntryType;

use super::archives::{Entry, file, tar};
use super::{Kitchen, kitchen};
use crate::harness::{Message, Repository, Run, Server, SshServer, git_daemon, git_over_http, require};

const DOCKERFILE: &str = "FROM base\nCOPY . /c\n";

impl Kitchen {
    /// `sbx build --network none OPTIONS CONTEXT`
    fn build_from(&self, context: &str, options: &[&str]) -> Run<'_> {
        self.world.sbx(["build", "--network", "none"]).args(options).arg(context)
    }

    /// What a build left where contexts are put.
    fn work_is_empty(&self) -> bool {
        fs::read_dir(self.world.store().join("build/work")).is_ok_and(|mut entries| entries.next().is_none())
    }
}

#[test]
fn an_archive_on_standard_input_is_the_context_however_it_is_packed() {
    let kitchen = kitchen();
    let archive = tar(&[
        file("Dockerfile", "FROM base\nCOPY . /c\n"),
        file("d/Other", "FROM base\nCOPY d /c\n"),
        file("d/kept", "k"),
        file("d/dropped", "d"),
        file(".dockerignore", "**/dropped\nDockerfile\n"),
        Entry("closed", EntryType::Directory, 0o000, (0, 0), "", ""),
        Entry("closed/secret", EntryType::Regular, 0o000, (0, 0), "", "s"),
    ]);
    let plain = kitchen.world.file("context.tar", &archive);
    let mut seen = std::collections::BTreeSet::new();
    for packer in ["cat", "gzip", "bzip2", "xz", "zstd"] {
        let packed = kitchen.world.work().join(packer);
        let out = fs::File::create(&packed).expect("a file");
        kitchen
            .world
            .program(require(packer))
            .arg(&plain)
            .args(["-c"].iter().filter(|_| packer != "cat"))
            .stdout_to(out)
            .expect_code(0);
        let bytes = fs::read(&packed).expect("a file");
        seen.insert(
            kitchen.build_from("-", &["-q", "-t", "made", "--timestamp", "1"]).stdin(bytes).succeed(),
        );
        let found = kitchen
            .shell("cd /c; find . -type f | sort | tr '\\n' ' '; cat closed/secret; stat -c %u:%g d/kept");
        assert_eq!(found, "./.dockerignore ./closed/secret ./d/Other ./d/kept s0:0", "{packer}");
    }
    assert_eq!(seen.len(), 1, "one image, however the context is packed");
    kitchen.build_from("-", &["-q", "-t", "made", "-f", "d/Other"]).stdin(&archive).succeed();
    assert_eq!(kitchen.shell("ls /c"), "Other\nkept");
    kitchen
        .build_from("-", &["-f", "none"])
        .stdin(&archive)
        .expect_code(125)
        .stderr_has("it has no file `none`");
    kitchen.build_from("-", &["-f", "-"]).stdin(&archive).expect_code(125).stderr_has("`-f -` names it");
    let without = tar(&[file("f", "x")]);
    kitchen.build_from("-", &[]).stdin(without).expect_code(125).stderr_has("neither `Containerfile` nor");
    assert!(kitchen.work_is_empty());
}

#[test]
fn a_dockerfile_comes_from_standard_input_for_a_directory() {
    let kitchen = kitchen();
    kitchen.file("f", "x");
    let context = kitchen.context().display().to_string();
    kitchen.build_from(&context, &["-q", "-t", "made", "-f", "-"]).stdin("FROM base\nCOPY f /g\n").succeed();
    assert_eq!(kitchen.shell("cat /g"), "x");
}

#[test]
fn the_cache_goes_by_what_is_taken_of_an_archive() {
    let kitchen = kitchen();
    let build = |noise: &str| {
        let archive =
            tar(&[file("Dockerfile", "FROM base\nCOPY f /f\n"), file("f", "x"), file("noise", noise)]);
        kitchen.build_from("-", &[]).stdin(archive).expect_code(0).stderr().contains("Using cache")
    };
    assert!(!build("1") && build("2"));
}

#[test]
fn a_hostile_archive_is_no_context() {
    let kitchen = kitchen();
    let outside = kitchen.world.directory().join("outside");
    fs::write(&outside, "FROM base\nRUN echo outside\n").expect("a file");
    let there = outside.display().to_string();
    let link = |name, target| Entry(name, EntryType::Symlink, 0o777, (0, 0), target, "");
    let dockerfile = || file("Dockerfile", DOCKERFILE);
    for (entries, said) in [
        (vec![dockerfile(), file("../../out", "x")], "out of"),
        (vec![link("Dockerfile", &there)], "neither `Containerfile` nor"),
        (vec![dockerfile(), link("d", "/etc"), file("d/f", "x")], ""),
        (
            vec![file("Dockerfile", "FROM base\nCOPY link /x\n"), link("link", "/etc/hostname")],
            "is not there",
        ),
    ] {
        let built = kitchen.build_from("-", &["-q"]).stdin(tar(&entries)).finish();
        assert_eq!(built.code(), if said.is_empty() { 0 } else { 125 }, "{said}: {}", built.stderr());
        assert!(built.stderr().contains(said), "{said}: {}", built.stderr());
    }
    assert!(!std::path::Path::new("/etc/f").exists());
    let whole = tar(&[dockerfile(), file("f", &"x".repeat(5000))]);
    kitchen.build_from("-", &[]).stdin(&whole[..4000]).expect_code(125).stderr_has("ends early");
    // A file of a terabyte in a few blocks.
    let holes = fs::File::create(kitchen.context().join("holes")).expect("a file");
    holes.set_len(1 << 40).expect("a file with a hole");
    kitchen.file("Dockerfile", DOCKERFILE);
    let archive = kitchen.world.directory().join("holes.tar");
    let program = kitchen.world.program("tar").arg("-cSf").arg(&archive).args(["Dockerfile", "holes"]);
    program.directory(kitchen.context()).expect_code(0);
    let stdin = fs::File::open(&archive).expect("a file");
    kitchen.build_from("-", &[]).stdin_from(stdin).expect_code(125).stderr_has("without tricks");
    assert!(kitchen.work_is_empty());
}

#[test]
fn a_url_is_an_archive_or_a_dockerfile() {
    let kitchen = kitchen();
    let archive = tar(&[file("sub/Dockerfile", "FROM base\nCOPY f /f\n"), file("f", "from a server")]);
    let server = Server::answering(move |request| match request.target() {
        "/context" => Message::answer(200, archive.clone()),
        "/Dockerfile" => Message::answer(200, "FROM base\nCOPY <<E /f\nalone\nE\n"),
        "/copies" => Message::answer(200, "FROM base\nCOPY f /f\n"),
        _ => Message::answer(404, ""),
    });
    let url = |path: &str| format!("http://{}/{path}", server.address());
    kitchen.build_from(&url("context"), &["-q", "-t", "made", "-f", "sub/Dockerfile"]).succeed();
    assert_eq!(kitchen.shell("cat /f"), "from a server");
    kitchen.build_from(&url("Dockerfile"), &["-q", "-t", "made"]).succeed();
    assert_eq!(kitchen.shell("cat /f"), "alone");
    kitchen.build_from(&url("copies"), &[]).expect_code(125).stderr_has("there is no context");
    kitchen.build_from(&url("Dockerfile"), &["-f", "x"]).expect_code(125).stderr_has("a Dockerfile itself");
    kitchen.build_from(&url("none"), &[]).expect_code(125).stderr_has("404");
    kitchen.file("f", "of the directory");
    let context = kitchen.context().display().to_string();
    kitchen.build_from(&context, &["-q", "-t", "made", "-f", &url("copies")]).succeed();
    assert_eq!(kitchen.shell("cat /f"), "of the directory");
    kitchen.build_from("http://127.0.0.1:1/x", &[]).expect_code(125).stderr_has("refused");
    assert!(kitchen.work_is_empty());
}

#[test]
fn a_repository_is_a_context_at_a_branch_and_a_directory() {
    let kitchen = kitchen();
    let repository = Repository::new(&kitchen.world, "one");
    repository
        .file("Dockerfile", DOCKERFILE)
        .file("f", "main")
        .file(".dockerignore", "noise\n")
        .file("noise", "n");
    repository.commit();
    repository.git(&["checkout", "-q", "-b", "other"]);
    repository.file("sub/Containerfile", DOCKERFILE).file("sub/g", "other").commit();
    std::os::unix::fs::symlink("../../..", repository.directory.join("out")).expect("a symlink");
    repository.commit();
    repository.git(&["checkout", "-q", "main"]);
    let root = kitchen.world.directory().join("git");
    let (server, daemon) = (git_over_http(&root), git_daemon(&root));
    let http = format!("http://{}/one/.git", server.address());
    let local = format!("file://{}", repository.directory.display());
    for address in [http.clone(), format!("git://{}/one/.git", daemon.address()), local] {
        kitchen.build_from(&address, &["-q", "-t", "made"]).succeed();
        assert_eq!(kitchen.shell("cat /c/f; ls -A /c"), "main.dockerignore\nDockerfile\nf", "{address}");
        kitchen.build_from(&format!("{address}#other:sub"), &["-q", "-t", "made"]).succeed();
        assert_eq!(kitchen.shell("cat /c/g; ls -A /c"), "otherContainerfile\ng", "{address}");
    }
    kitchen
        .build_from(&http, &["-q", "-t", "made", "--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"])
        .succeed();
    assert_eq!(kitchen.shell("test -s /c/.git/HEAD && echo kept"), "kept");
    for (rest, said) in [("#none", "no branch"), ("#other:none", "none such")] {
        let finished = kitchen.build_from(&format!("{http}{rest}"), &[]).expect_code(125);
        assert!(finished.stderr().contains(said), "{rest}: {}", finished.stderr());
    }
    // A symlink leads as far as the root of the repository.
    kitchen.build_from(&format!("{http}#other:out"), &["-q", "-t", "made"]).succeed();
    assert_eq!(kitchen.shell("ls /c"), "Dockerfile\nf\nout\nsub");
    kitchen.build_from(&format!("{http}#main:../x"), &[]).expect_code(125).stderr_has("does not lead out");
    assert!(kitchen.work_is_empty());
}

#[test]
fn ssh_gets_the_host_and_the_path_of_the_short_form() {
    let kitchen = kitchen();
    let repository = Repository::new(&kitchen.world, "one");
    repository.file("Dockerfile", DOCKERFILE).file("f", "over ssh").commit();
    // What ssh would do on the other side, here: the last word is the command.
    let programs = kitchen.world.directory().join("programs");
    fs::create_dir(&programs).expect("a directory");
    let script = programs.join("ssh");
    let log = kitchen.world.directory().join("log");
    let text =
        format!("#!/bin/sh\necho \"$@\" >>{}\nfor last; do :; done\nexec sh -c \"$last\"\n", log.display());
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
    let place = repository.directory.display();
    for address in [format!("git@host.example:{place}#main"), format!("ssh://git@host.example:22{place}")] {
        kitchen.build_from(&address, &["-q", "-t", "made"]).env("PATH", &path).succeed();
        assert_eq!(kitchen.shell("cat /c/f"), "over ssh");
    }
    let log = fs::read_to_string(log).expect("a log");
    assert!(log.contains("BatchMode=yes") && log.contains("git@host.example git-upload-pack"), "{log}");
}

#[test]
fn a_repository_is_fetched_from_an_ssh_server_whose_key_is_known() {
    let kitchen = kitchen();
    let repository = Repository::new(&kitchen.world, "one");
    repository.file("Dockerfile", DOCKERFILE).file("f", "over ssh").commit();
    let server = SshServer::start(&kitchen.world);
    let named = repository.directory.with_extension("git");
    fs::rename(&repository.directory, &named).expect("renamed");
    let address = format!("ssh://{}{}", server.address(), named.display());
    let path = server.path();
    kitchen.build_from(&address, &["-q", "-t", "made"]).env("PATH", &path).succeed();
    assert_eq!(kitchen.shell("cat /c/f"), "over ssh");
    let added = format!("FROM base\nADD {address}#main /added\n");
    kitchen.build(&added, &["-q", "-t", "made"]).env("PATH", &path).succeed();
    assert_eq!(kitchen.shell("cat /added/f"), "over ssh");
    server.forget();
    kitchen
        .build_from(&address, &["-q", "-t", "made"])
        .env("PATH", &path)
        .expect_code(125)
        .stderr_has("Host key verification failed");
}

#[test]
fn a_killed_build_leaves_no_files_to_the_next() {
    let kitchen = kitchen();
    let archive = tar(&[file("Dockerfile", "FROM base\nCOPY . /c\nRUN sleep 60\n"), file("f", "x")]);
    let mut build = kitchen.build_from("-", &[]).stdin(archive).spawn();
    let until = Instant::now() + Duration::from_secs(30);
    while !kitchen.world.sbx(["ps", "-a", "--format", "{{.Command}}"]).succeed().contains("sleep") {
        assert!(Instant::now() < until && build.is_running(), "the command does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!kitchen.work_is_empty());
    build.signal(Signal::SIGKILL);
    let _ = build.finish();
    while !kitchen.world.sbx(["ps", "-q"]).succeed().is_empty() {
        assert!(Instant::now() < until, "the command goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!kitchen.work_is_empty());
    kitchen.build_from("-", &["-q"]).stdin("FROM base\n").expect_code(0);
    assert!(kitchen.work_is_empty());
}

#[test]
fn without_git_that_is_said() {
    let kitchen = kitchen();
    // In a mount namespace of its own no directory has it.
    let script = "for d in /usr/local/bin /usr/bin; do test -e $d/git && mount --bind /dev/null $d/git; done; exec \"$@\"";
    let program = kitchen.world.program("unshare").args(["-rm", "sh", "-c", script, "sh"]);
    let program = program.arg(crate::harness::sbx_binary()).args(["build", "http://127.0.0.1:1/x.git"]);
    program.expect_code(125).stderr_has("`git` is not installed").stderr_has("apt install git");
}
