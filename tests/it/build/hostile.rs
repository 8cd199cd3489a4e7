//! Dockerfiles and contexts that are wrong, or mean harm: an error with its place, in bounded time and memory.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::interruptions::Ends;
use super::kitchen;
use crate::harness::require;

const BASE: &str = "FROM base\n";

#[test]
fn what_is_wrong_is_shown_with_its_place() {
    let kitchen = kitchen();
    for (lines, place, said) in [
        ("RNU x\n", "2:1", "did you mean `RUN`"),
        ("RUN --mont=type=cache true\n", "2:5", "RUN has no flag `--mont`"),
        ("COPY --chwon=0 a /b\n", "2:6", "did you mean"),
        ("RUN --mount=type=cahce,target=/x true\n", "2:", "cahce"),
        ("COPY\n", "2:1", "COPY"),
        ("ENV A\n", "2:", "ENV"),
        ("FROM base AS 1x\n", "2:", "1x"),
        ("EXPOSE 70000\n", "2:8", "70000"),
        ("USER $\n{X\n", "3:1", "{X"),
        ("LABEL a=\"b\n", "2:", "quot"),
        ("RUN <<E\nnever ended\n", "2:", "E"),
        ("COPY --from=b /x /x\nFROM base AS b\nCOPY --from=0 /y /y\n", "1:1", "wait for one another"),
        ("COPY --from=0 /x /x\n", "1:1", "from itself"),
    ] {
        let refused = kitchen.build(&format!("{BASE}{lines}"), &["-q"]).expect_code(125).stdout_is("");
        let (place, text) = (format!("Dockerfile:{place}"), refused.stderr());
        assert!(text.contains(&place) && text.contains(said), "wanted {place} and {said}:\n{text}");
        // The line stands below, and what is wrong in it is marked.
        assert!(text.contains(" | ") && text.contains('^'), "{text}");
    }
    kitchen.world.assert_clean();
}

#[test]
fn no_dockerfile_is_too_large_or_too_deep() {
    let kitchen = kitchen();
    let chain = |count: usize, line: &dyn Fn(usize) -> String| (1..=count).map(line).collect::<String>();
    let bomb = |word: &str| {
        let doubled = chain(64, &|at| format!("{word} A{at}=$A{0}$A{0}\n", at - 1));
        format!("{word} A0=aaaaaaaaaaaaaaaa\n{doubled}")
    };
    let nested = format!("ENV X={}{}\n", "${A:-".repeat(10_000), "}".repeat(10_000));
    for (name, dockerfile, said) in [
        ("100 MB in a line", format!("{BASE}RUN {}\n", "x".repeat(100 << 20)), "longer than 16 MiB"),
        ("100 MB of lines", format!("{BASE}{}", "RUN true\n".repeat(11 << 20)), "longer than 16 MiB"),
        (
            "100,000 instructions",
            format!("{BASE}{}", "LABEL a=b\n".repeat(100_000)),
            "more than 65536 instructions",
        ),
        ("100,000 lines", format!("{BASE}{}RUNX\n", "# nothing\n".repeat(100_000)), "Dockerfile:100002:1: "),
        ("a long continuation", format!("{BASE}RUNX a{}\n", " \\\n  b".repeat(100_000)), "Dockerfile:2:1: "),
        ("doubled arguments", format!("{}FROM $A64\n", bomb("ARG")), "hold more than 1 MiB"),
        ("doubled variables", format!("{BASE}{}", bomb("ENV")), "hold more than 1 MiB"),
        (
            "a long chain",
            format!("{BASE}ENV A0=x\n{}", chain(20_000, &|at| format!("ENV A{at}=${{A{}:-x}}y\n", at - 1))),
            "hold more than 1 MiB",
        ),
        ("deep substitutions", format!("{BASE}{nested}"), "nested more than 64 deep"),
        ("stages", "FROM base\n".repeat(2000), "more than 1000 stages"),
        (
            "a slow pattern",
            format!("{BASE}ENV A={0}\nENV B=${{A##{1}b}}\n", "a".repeat(60_000), "*a".repeat(10_000)),
            "pattern",
        ),
    ] {
        kitchen.file("Dockerfile", &dockerfile);
        // 512 MiB of address space, of which the file may take a hundred.
        let words = ["--as=536870912", "--cpu=20"];
        let run = kitchen.world.program(require("prlimit")).args(words).arg(crate::harness::sbx_binary());
        let refused = run.args(["build", "-q", "--network", "none", "."]).timeout(Duration::from_secs(50));
        let refused = refused.finish();
        assert_eq!(refused.code(), 125, "{name}: {}", &refused.stderr()[..refused.stderr().len().min(2000)]);
        let text = refused.stderr();
        assert!(text.contains(said), "{name}: {}", &text[..text.len().min(2000)]);
    }
}

#[test]
fn what_is_no_dockerfile_is_no_riddle() {
    let kitchen = kitchen();
    let path = kitchen.context().join("Dockerfile");
    let build = || kitchen.world.sbx(["build", "-q", "."]);
    build().expect_code(125).stderr_has("neither `Containerfile` nor `Dockerfile`");
    for (content, said) in [
        (&b""[..], "there is no FROM"),
        (b"# nothing\n", "there is no FROM"),
        (b"\xff\xfe\0\x01", "there is no instruction"),
        (b"\x1f\x8b\x08\0\0\0", "Dockerfile:1:1"),
    ] {
        fs::write(&path, content).expect("a file");
        build().expect_code(125).stderr_has(said);
    }
    fs::remove_file(&path).expect("a file");
    symlink("/dev/zero", &path).expect("a symlink");
    build().expect_code(125).stderr_has("longer than 16 MiB");
    fs::remove_file(&path).expect("a symlink");
    symlink("Dockerfile", &path).expect("a symlink");
    build().expect_code(125);
    fs::remove_file(&path).expect("a symlink");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    build().expect_code(125).stderr_has("a pipe, and no file");
    fs::remove_file(&path).expect("a pipe");
    fs::create_dir(&path).expect("a directory");
    build().expect_code(125).stderr_has("it is a directory");
    fs::remove_dir(&path).expect("a directory");
    fs::write(&path, "FROM scratch\nCOPY . /\n").expect("a file");
    for name in [".dockerignore", ".containerignore", "Dockerfile.dockerignore"] {
        let ignore = kitchen.context().join(name);
        nix::unistd::mkfifo(&ignore, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        build().expect_code(125).stderr_has("a pipe, and no file").stderr_has(name);
        fs::remove_file(&ignore).expect("a pipe");
    }
    kitchen.world.sbx(["build", "-f", "nothing", "."]).expect_code(125).stderr_has("cannot read `nothing`");
    kitchen.world.sbx(["build", "nowhere"]).expect_code(125).stderr_has("cannot build from `nowhere`");
}

/// What a symlink of the context leads to outside is not seen, by whichever way it is asked for.
#[test]
fn nothing_outside_of_the_context_gets_in() {
    let kitchen = kitchen();
    fs::write(kitchen.world.directory().join("outside"), "private").expect("a file");
    let context = kitchen.context();
    symlink("/etc", context.join("etc")).expect("a symlink");
    symlink("../outside", context.join("link")).expect("a symlink");
    symlink("../..", context.join("up")).expect("a symlink");
    for from in [
        "../outside",
        "/../outside",
        "a/../../outside",
        "link",
        "up/outside",
        "etc/passwd",
        "./up/../outside",
    ] {
        for instruction in [
            format!("COPY {from} /taken"),
            format!("ADD {from} /taken"),
            format!("COPY [\"{from}\", \"/taken\"]"),
            format!("RUN --mount=type=bind,source={from},target=/taken cat /taken"),
        ] {
            let built = kitchen.build(&format!("{BASE}{instruction}\n"), &[]).expect_code(125);
            let text = built.stderr();
            assert!(text.contains("Dockerfile:2:1: ") && text.contains(&instruction), "{text}");
            assert!(!text.contains("private") && !text.contains("root:x"), "{text}");
        }
    }
    // A symlink that is copied with its directory is a symlink.
    fs::create_dir(context.join("sub")).expect("a directory");
    symlink("../../outside", context.join("sub/link")).expect("a symlink");
    kitchen.made(&format!("{BASE}COPY sub /sub\n"));
    assert_eq!(kitchen.shell("readlink /sub/link"), "../../outside");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let kitchen = kitchen();
    kitchen.file("tree/good", "x").file("tree/deep/bad", "x");
    let bad = kitchen.context().join("tree/deep/bad");
    let set = |mode| fs::set_permissions(&bad, fs::Permissions::from_mode(mode)).expect("a mode");
    set(0);
    let dockerfile = format!("{BASE}COPY tree /tree\n");
    kitchen.build(&dockerfile, &[]).expect_code(125).stderr_has("cannot read `tree/deep/bad`");
    let deep = bad.parent().expect("a directory");
    fs::set_permissions(deep, fs::Permissions::from_mode(0o000)).expect("a mode");
    kitchen.build(&dockerfile, &[]).expect_code(125).stderr_has("cannot read the directory `deep`");
    // What is ignored is not asked for.
    kitchen.file(".dockerignore", "tree/deep\n");
    kitchen.build(&dockerfile, &["-q", "-t", "made"]).succeed();
    assert_eq!(kitchen.shell("ls /tree"), "good");
    fs::set_permissions(deep, fs::Permissions::from_mode(0o755)).expect("a mode");
    kitchen.world.assert_clean();
}

#[test]
fn a_command_that_fails_ends_the_build_with_its_code() {
    let kitchen = kitchen();
    for (command, code, said) in [
        ("exit 3", 3, "exit code 3"),
        ("exit 125", 125, "exit code 125"),
        ("sh -c 'kill -9 $$'; exit $?", 137, "signal 9"),
        ("sh -c 'kill -SEGV $$'; exit $?", 139, "signal 11"),
        ("exit 200", 200, "exit code 200"),
        ("/etc", 126, "exit code 126"),
        ("nothing-there", 127, "exit code 127"),
    ] {
        let failed = kitchen.build(&format!("{BASE}RUN {command}\n"), &["-t", "made"]).expect_code(code);
        let text = failed.stderr_has("Dockerfile:2:1: ").stderr_has(said).stderr();
        assert!(code != 200 || !text.contains("signal"), "{text}");
    }
    kitchen.world.sbx(["image", "exists", "made"]).expect_code(1);
    kitchen.world.assert_clean();
}

/// A store that can only be read is enough for nothing, and that is said before anything is done.
#[test]
fn a_store_that_cannot_be_written_is_named() {
    let kitchen = kitchen();
    let dockerfile = format!("{BASE}COPY Dockerfile /x\n");
    kitchen.made(&dockerfile);
    let store = kitchen.world.store();
    let directories =
        ["", "leases", "build/steps", "oci", "oci/blobs/sha256", "oci/partial", "containers", "layers"];
    let set = |mode| {
        for directory in directories.map(|name| store.join(name)).iter().filter(|path| path.exists()) {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).expect("a mode");
        }
    };
    set(0o500);
    let refused = kitchen.build(&format!("{BASE}COPY Dockerfile /y\n"), &[]).finish();
    set(0o700);
    let text = refused.code_is(125).stderr_has("ermission denied").stderr();
    assert!(text.contains(&store.display().to_string()), "{text}");
    kitchen.made(&dockerfile);
}

/// What is copied is what was packed, whatever the file becomes meanwhile.
#[test]
fn a_context_that_changes_gives_a_whole_image_or_an_error() {
    let kitchen = kitchen();
    let path = kitchen.context().join("changing");
    fs::write(&path, "x").expect("a file");
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut length = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                length = (length + 70_001) % 1_000_000;
                let _ = fs::write(&path, vec![b'a' + (length % 26) as u8; length]);
                let _ = fs::remove_file(kitchen.context().join(format!("other{}", length % 7)));
                let _ = fs::write(kitchen.context().join(format!("other{}", length % 5)), "y");
            }
        });
        let ends = Ends(&over);
        for _ in 0..8 {
            let built = kitchen
                .build(&format!("{BASE}COPY changing /x\nCOPY . /all\n"), &["-q", "-t", "made"])
                .finish();
            match built.code() {
                // As it was at some moment, or of several moments; nothing that was never in it.
                0 => assert_eq!(kitchen.shell("tr -d a-z </x | wc -c").trim(), "0"),
                125 => assert!(built.stderr().contains("Dockerfile:"), "{}", built.stderr()),
                code => panic!("{code}: {}", built.stderr()),
            }
        }
        drop(ends);
    });
    kitchen.made(&format!("{BASE}COPY changing /x\n"));
    kitchen.world.sbx(["system", "prune", "-af"]).expect_code(0);
}
