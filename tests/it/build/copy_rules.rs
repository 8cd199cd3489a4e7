//! What COPY does beyond what other builders can be asked for: `--parents`, `--exclude`, `--link`, and files of every kind.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{Kitchen, kitchen};
use crate::harness::require;

/// A context with files two and three directories deep.
fn with_tree() -> Kitchen {
    let kitchen = kitchen();
    for path in ["a/b/one.txt", "a/b/c/two.txt", "a/b/c/three.md", "a/x.txt", "z/one.txt", "top.txt"] {
        kitchen.file(path, path);
    }
    mode(&kitchen, "a/b", 0o750);
    kitchen
}

fn mode(kitchen: &Kitchen, path: &str, mode: u32) {
    fs::set_permissions(kitchen.context().join(path), Permissions::from_mode(mode))
        .expect("cannot change a mode");
}

impl Kitchen {
    /// The names of the last layer of what is built of an empty stage, or on `base`.
    fn last_layer(&self, dockerfile: &str) -> Vec<String> {
        self.made(dockerfile);
        self.archives_of("made").pop().map(|archive| super::blobs::listing(&archive)).unwrap_or_default()
    }

    /// The last layer, names alone.
    fn last_names(&self, dockerfile: &str) -> String {
        let lines = self.last_layer(dockerfile);
        let names: Vec<&str> = lines.iter().map(|line| line.splitn(4, ' ').nth(3).expect("a name")).collect();
        names.join(" ")
    }
}

#[test]
fn parents_are_kept_from_the_root_or_the_pivot_on() {
    let kitchen = with_tree();
    for (sources, names) in [
        ("a/b/one.txt", "a a/b a/b/one.txt"),
        ("./a/b/one.txt /z/one.txt", "a a/b a/b/one.txt z z/one.txt"),
        ("a/./b/one.txt", "b b/one.txt"),
        ("a/b/./one.txt", "one.txt"),
        ("a/./b/./c", "b b/c b/c/three.md b/c/two.txt"),
        ("a/b/c/.", "a a/b a/b/c a/b/c/three.md a/b/c/two.txt"),
        ("a/*/one.txt", "a a/b a/b/one.txt"),
        ("a/./*/one.txt", "b b/one.txt"),
        ("*/./*/one.txt", "b b/one.txt"),
        ("**/*.txt", "a a/b a/b/c a/b/c/two.txt a/b/one.txt a/x.txt top.txt z z/one.txt"),
        ("a/./**/two.txt", "b b/c b/c/two.txt"),
        ("a/b*/./**/*.md", "c c/three.md"),
        ("a/**/one.txt", "a a/b a/b/one.txt"),
    ] {
        let found = kitchen.last_names(&format!("FROM scratch\nCOPY --parents {sources} /out/\n"));
        let wanted: Vec<String> = std::iter::once("out".to_owned())
            .chain(names.split(' ').map(|name| format!("out/{name}")))
            .collect();
        assert_eq!(found, wanted.join(" "), "{sources}");
    }
    kitchen
        .build("FROM scratch\nCOPY --parents a/nothing /out/\n", &[])
        .expect_code(125)
        .stderr_has("is not there");
}

/// As cp --parents has it: what is made is as at the source, what is there stays.
#[test]
fn directories_between_are_as_at_the_source_and_those_that_are_there_stay() {
    let kitchen = with_tree();
    let found = kitchen.last_layer(
        "FROM base\nRUN mkdir -p /w/a && chown 7:7 /w/a && chmod 711 /w/a\nWORKDIR /w\nCOPY --parents --chown=5:6 a/b/one.txt .\n",
    );
    assert_eq!(found, ["d 755 0:0 w", "d 711 7:7 w/a", "d 750 5:6 w/a/b", "- 644 5:6 w/a/b/one.txt"]);
}

#[test]
fn symlinks_on_the_way_become_directories_and_the_last_stays() {
    let kitchen = with_tree();
    symlink("a/b", kitchen.context().join("way")).expect("cannot make a symlink");
    symlink("one.txt", kitchen.context().join("a/b/last")).expect("cannot make a symlink");
    let found = kitchen.last_layer("FROM scratch\nCOPY --parents way/one.txt way/last way/c/two.txt /\n");
    assert_eq!(
        found,
        [
            "d 750 0:0 way",
            "d 755 0:0 way/c",
            "- 644 0:0 way/c/two.txt",
            "l 777 0:0 way/last -> one.txt",
            "- 644 0:0 way/one.txt"
        ]
    );
}

#[test]
fn what_is_excluded_is_not_copied() {
    let kitchen = with_tree();
    for (words, names) in [
        (
            "--exclude=*.txt . /o",
            "o o/.dockerignore o/a o/a/b o/a/b/c o/a/b/c/three.md o/a/b/c/two.txt o/a/b/one.txt o/a/x.txt o/z o/z/one.txt",
        ),
        ("--exclude=**/*.txt --exclude=.d* . /o", "o o/a o/a/b o/a/b/c o/a/b/c/three.md o/z"),
        ("--exclude=b a /o", "o o/x.txt"),
        ("--exclude=b/c a /o", "o o/b o/b/one.txt o/x.txt"),
        ("--exclude=b/* --exclude=!b/one.txt a /o", "o o/b o/b/one.txt o/x.txt"),
        // The example of the reference.
        ("--exclude=*.txt t* z* /o/", "o"),
        ("--exclude=top.txt top.txt a/x.txt /o/", "o o/x.txt"),
        ("--exclude=a/x.txt top.txt a/*.txt /o/", "o o/top.txt"),
        ("--exclude=* * /o/", "o"),
        ("--parents --exclude=a/b/c a /o/", "o o/a o/a/b o/a/b/one.txt o/a/x.txt"),
        ("--parents --exclude=c a/b/./c a/b/./one.txt /o/", "o o/one.txt"),
        (
            "--parents --exclude=**/one.txt **/*.txt /o/",
            "o o/a o/a/b o/a/b/c o/a/b/c/two.txt o/a/x.txt o/top.txt",
        ),
    ] {
        kitchen.file(".dockerignore", "Dockerfile\n");
        let found = kitchen.last_names(&format!("FROM scratch\nCOPY {words}\n"));
        assert_eq!(found, names, "{words}");
    }
    let found = kitchen
        .last_names("FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=one --exclude=**/c / /o\n");
    assert_eq!(found, "o o/a o/a/b o/a/b/one.txt o/a/x.txt");
    let found = kitchen.last_names("FROM scratch\nADD --exclude=*.txt a /o\n");
    assert_eq!(found, "o o/b o/b/c o/b/c/three.md o/b/c/two.txt o/b/one.txt");
}

#[test]
fn a_linked_layer_looks_at_nothing_below_it() {
    let kitchen = kitchen();
    kitchen.file("f", "x");
    let dockerfile = |change: &str| {
        format!(
            "FROM base\nRUN mkdir -m 1777 /real && ln -s real /l && echo {change} >/change\nCOPY --link f /l/\nCOPY --link --chown=5:6 --chmod=1770 f /real/\n"
        )
    };
    kitchen.made(&dockerfile("one"));
    let listings = kitchen.listings("made");
    assert_eq!(
        listings[1..],
        [vec!["d 755 0:0 l", "- 644 0:0 l/f"], vec!["d 755 5:6 real", "- 1770 5:6 real/f"]]
    );
    assert_eq!(kitchen.shell("cat /l/f; test -L /l || echo directory"), "xdirectory");
    // What changes below does not matter.
    let finished = kitchen.build(&dockerfile("other"), &["-t", "made"]).expect_code(0);
    assert_eq!(finished.stderr().matches("Using cache").count(), 2, "{}", finished.stderr());
    kitchen
        .build("FROM base\nCOPY --link --chown=user f /x\n", &[])
        .expect_code(125)
        .stderr_has("user")
        .stderr_has("--link");
}

#[test]
fn modes_are_not_for_what_is_made_on_the_way() {
    let kitchen = kitchen();
    kitchen.file("f", "x").file("d/g", "x");
    let found = kitchen.last_layer("FROM scratch\nCOPY --chmod=750 f /a/b/f\nCOPY --chmod=u=rwX,go=rX d /new\nCOPY --chmod=640 --chown=1:2 <<E /h/t\nx\nE\n");
    assert_eq!(found, ["d 755 1:2 h", "- 640 1:2 h/t"]);
    let listings = kitchen.archives_of("made");
    assert_eq!(super::blobs::listing(&listings[0]), ["d 755 0:0 a", "d 755 0:0 a/b", "- 750 0:0 a/b/f"]);
    assert_eq!(super::blobs::listing(&listings[1]), ["d 755 0:0 new", "- 644 0:0 new/g"]);
}

#[test]
fn owners_are_words_of_every_form() {
    let kitchen = kitchen();
    kitchen.file("f", "x");
    for (chown, owner) in [
        ("user", "1000:1000"),
        ("12", "12:12"),
        ("12:34", "12:34"),
        ("user:34", "1000:34"),
        ("12:user", "12:1000"),
        ("0", "0:0"),
    ] {
        kitchen.build(&format!("FROM base\nCOPY --chown={chown} f /x\n"), &["-q", "-t", "made"]).succeed();
        assert_eq!(kitchen.listings("made"), [[format!("- 644 {owner} x")]], "{chown}");
    }
    kitchen.build("FROM base\nCOPY --chown=4294967294 f /x\n", &[]).expect_code(125).stderr_has("no such ID");
    for chown in ["nobodyknows", "0:nobodyknows", "4294967296", "-1", "user:user:user"] {
        let finished =
            kitchen.build(&format!("FROM base\nCOPY --chown={chown} f /x\n"), &[]).expect_code(125);
        assert!(finished.stderr().contains(chown.trim_start_matches("0:")), "{chown}: {}", finished.stderr());
    }
}

#[test]
fn files_of_every_kind() {
    for program in ["mkfifo", "setfattr", "getfattr"] {
        require(program);
    }
    let kitchen = kitchen();
    let context = kitchen.context();
    kitchen.file("d/file", "x").file("d/sparse", "");
    kitchen.world.program("mkfifo").args(["-m", "620"]).arg(context.join("d/fifo")).succeed();
    drop(std::os::unix::net::UnixListener::bind(context.join("d/socket")).expect("a socket"));
    mode(&kitchen, "d/socket", 0o600);
    let sparse = fs::File::options().write(true).open(context.join("d/sparse")).expect("a file");
    sparse.set_len(1 << 30).expect("a hole");
    let odd = context.join("d").join(OsStr::from_bytes(b"n\xffot\nutf8"));
    fs::write(odd, "y").expect("a file");
    for (name, value) in [("user.x", "1"), ("user.overlay.opaque", "y")] {
        kitchen
            .world
            .program("setfattr")
            .args(["-n", name, "-v", value])
            .arg(context.join("d/file"))
            .succeed();
    }
    let found = kitchen.last_layer("FROM scratch\nCOPY d /\n");
    assert_eq!(
        found,
        [
            "p 620 0:0 fifo",
            "- 644 0:0 file user.x=1",
            "- 644 0:0 n\\xffot\\nutf8",
            "- 600 0:0 socket",
            "- 644 0:0 GNUSparseFile.0/sparse",
        ]
    );
    let archive = kitchen.archives_of("made").pop().expect("a layer");
    assert!(archive.len() < 1 << 20, "{} bytes", archive.len());
    // Attributes decide about the cache, too.
    kitchen.world.program("setfattr").args(["-n", "user.x", "-v", "2"]).arg(context.join("d/file")).succeed();
    assert!(kitchen.last_layer("FROM scratch\nCOPY d /\n")[1].ends_with("user.x=2"));
    let found = kitchen.last_names("FROM scratch\nCOPY --parents d/n* /\n");
    assert_eq!(found, "d d/n\\xffot\\nutf8");
}

#[test]
fn what_may_not_be_read_is_named() {
    let kitchen = kitchen();
    kitchen.file("d/in/secret", "x").file("d/in/open", "x").file("plain", "x");
    let refused = |dockerfile: &str, name: &str| {
        kitchen
            .build(&format!("FROM base\n{dockerfile}\n"), &[])
            .expect_code(125)
            .stderr_has(name)
            .stderr_has("Permission denied")
            .stderr_has("Dockerfile:2");
    };
    mode(&kitchen, "d/in/secret", 0);
    refused("COPY d /d", "d/in/secret");
    refused("COPY d/in/secret /x", "d/in/secret");
    // Listed, but not to be looked into.
    for closed in [0o600, 0o000, 0o300] {
        mode(&kitchen, "d/in", closed);
        refused("COPY d /d", "in");
        if closed == 0o300 {
            continue;
        }
        refused("COPY d/in/open /x", "d/in");
        refused("COPY d/*/open /x", "d/in");
    }
    mode(&kitchen, "d/in", 0o755);
    kitchen.build("FROM base\nCOPY plain d/in/open /x/\n", &["-q"]).expect_code(0);
}

#[test]
fn a_wildcard_may_match_nothing_beside_something() {
    let kitchen = kitchen();
    kitchen.file("f", "x");
    kitchen.made("FROM base\nCOPY f nothing* /u/\n");
    assert_eq!(kitchen.shell("ls /u"), "f");
    kitchen
        .build("FROM base\nCOPY nothing* /t/\n", &[])
        .expect_code(125)
        .stderr_has("Dockerfile:2:1: ")
        .stderr_has("matches");
}

#[test]
fn a_workdir_is_the_users_who_is_to_work_there() {
    let kitchen = kitchen();
    let found = kitchen.last_layer("FROM base\nUSER user:daemon\nWORKDIR /w/x\n");
    assert_eq!(found, ["d 755 1000:1 w", "d 755 1000:1 w/x"]);
    kitchen
        .build("FROM base\nUSER nobodyknows\nWORKDIR /w\n", &[])
        .expect_code(125)
        .stderr_has("nobodyknows");
}

/// Ten thousand names in one directory, and one that is five hundred directories deep.
#[test]
fn huge_directories() {
    let kitchen = kitchen();
    let many = kitchen.context().join("many");
    fs::create_dir(&many).expect("a directory");
    for number in 0..10_000 {
        fs::write(many.join(number.to_string()), "").expect("a file");
    }
    kitchen.file(&format!("deep/{}f", "d/".repeat(400)), "bottom");
    kitchen.made("FROM base\nCOPY many /many\nCOPY deep /deep\n");
    let found = kitchen.shell("ls /many | wc -l; find /deep -name f | wc -c");
    assert_eq!(found, format!("10000\n{}", "/deep/".len() + 800 + 2));
    kitchen.file(&format!("deeper/{}f", "d/".repeat(600)), "bottom");
    kitchen.build("FROM base\nCOPY deeper /deep\n", &[]).expect_code(125).stderr_has("directories deep");
}

#[test]
fn a_file_that_changes_meanwhile_is_told_and_copied_again() {
    let kitchen = kitchen();
    let growing = kitchen.context().join("growing");
    fs::write(&growing, vec![b'x'; 64 << 20]).expect("a file");
    let stop = std::sync::atomic::AtomicBool::new(false);
    let finished = std::thread::scope(|scope| {
        scope.spawn(|| append(&growing, &stop));
        let finished = kitchen.build("FROM scratch\nCOPY growing /g\n", &["-t", "made"]).finish();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        finished
    });
    let finished = finished.code_is(0).stderr_has("was changed while it was copied");
    drop(finished);
    let again = kitchen.build("FROM scratch\nCOPY growing /g\n", &["-t", "made"]).expect_code(0);
    assert!(!again.stderr().contains("Using cache"), "{}", again.stderr());
}

fn append(path: &Path, stop: &std::sync::atomic::AtomicBool) {
    use std::io::Write;
    let mut file = fs::File::options().append(true).open(path).expect("the file");
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        file.write_all(b"y").expect("room");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
