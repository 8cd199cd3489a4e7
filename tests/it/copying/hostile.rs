//! A container that changes paths while they are copied, and archives that lie: nothing outside is touched.

use std::fs;
use std::time::{Duration, Instant};

use super::{remove, started, stopped, world};
use crate::harness::Sbx;

/// How long each attack goes on.
const LONG: Duration = Duration::from_secs(3);

/// Swaps `$1`, a directory, for a symlink to `$2` and back, for ever.
const SWAP: &str = "swap() { while :; do mv $1 $1.real; ln -s $2 $1; rm $1; mv $1.real $1; done; }";

/// Copies for as long as an attack takes, and several times on the slowest machine.
fn while_attacked(world: &Sbx, arguments: &[&str], mut check: impl FnMut()) {
    let until = Instant::now() + LONG;
    let (mut copied, mut refused) = (0, 0);
    while Instant::now() < until || copied + refused < 6 {
        match world.sbx(["cp", "-q"]).args(arguments).finish().code() {
            0 => copied += 1,
            125 => refused += 1,
            code => panic!("`cp {arguments:?}` ended with {code}"),
        }
        check();
    }
}

fn everything(directory: &std::path::Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            all.push_str(&everything(&path));
        } else if kind.is_file() {
            all.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
    all
}

#[test]
fn a_path_that_becomes_a_symlink_shows_nothing_of_the_host() {
    let world = world();
    world.file("secrets/f", "SECRET");
    let outside = world.work().join("secrets");
    let script = format!(
        "{SWAP}; mkdir -p /srv/t/a; echo harmless > /srv/t/a/f; swap /srv/t/a {} & echo ready; wait",
        outside.display()
    );
    started(&world, &[], &script);
    for source in ["box:/srv/t", "box:/srv/t/a/f", "box:/srv/t/a/."] {
        while_attacked(&world, &["-L", source, "out"], || {
            assert!(!everything(&world.work().join("out")).contains("SECRET"));
            let _ = fs::remove_dir_all(world.work().join("out"));
            let _ = fs::remove_file(world.work().join("out"));
        });
    }
    remove(&world);
}

/// At the start, too, when the root of the host has just gone.
#[test]
fn dots_never_lead_to_the_host_however_early_they_are_followed() {
    let world = world();
    let secret = world.file("secret", "SECRET");
    let script = format!(
        "mkdir -p /srv{}; ln -s ../../../../../../../..{} /srv/up; ln -s ../../../../../../.. /srv/root",
        world.work().display(),
        secret.display()
    );
    stopped(&world, &[], &script);
    let (file, directory) = ("box:/srv/up".to_owned(), format!("box:/srv/root{}", secret.display()));
    let finds_nothing = |source: &str| {
        // Where others rename and mount without a pause, the kernel gives up rather than err.
        let said = world.sbx(["cp", "-L", source, "out"]).expect_code(125).stderr();
        let why = ["No such file or directory", "Resource temporarily unavailable"];
        assert!(why.iter().any(|why| said.contains(why)), "{said}");
        assert!(!world.work().join("out").exists());
    };
    for round in 0..30 {
        finds_nothing(&file);
        finds_nothing(&directory);
        if round % 3 == 0 {
            let start = world.sbx(["start", "box"]).spawn();
            finds_nothing(&file);
            finds_nothing(&directory);
            let _ = start.finish().code_is(0);
        }
    }
    remove(&world);
}

#[test]
fn a_target_that_becomes_a_symlink_leads_nowhere_outside() {
    let world = world();
    world.file("tree/a/new", "x");
    world.file("tree/new", "x");
    let victim = world.work().join("victim");
    fs::create_dir(&victim).unwrap();
    let script = format!(
        "{SWAP}; mkdir -p /srv/t/a; swap /srv/t/a {} & swap /srv/t ../../../../../../../../..{} & echo ready; wait",
        victim.display(),
        victim.display()
    );
    started(&world, &[], &script);
    for arguments in [["tree", "box:/srv/t/"], ["tree/.", "box:/srv/t"], ["tree/new", "box:/srv/t/a/new"]] {
        while_attacked(&world, &arguments, || {
            assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{arguments:?}");
        });
    }
    remove(&world);
}

/// The worst place for a copy: a directory that the container has as a volume.
#[test]
fn a_directory_shared_with_the_container_does_not_lead_out_of_itself() {
    let world = world();
    let (shared, victim) = (world.work().join("shared"), world.work().join("victim"));
    for directory in [&shared.join("tree/a"), &victim] {
        fs::create_dir_all(directory).unwrap();
    }
    let volume = format!("{}:/vol", shared.display());
    let script = format!(
        "{SWAP}; mkdir -p /srv/tree/a; for i in 1 2 3 4 5 6 7 8; do mkdir /srv/tree/a/$i; echo x > /srv/tree/a/$i/f; done; \
         swap /vol/tree/a ../../victim & swap /vol/tree {} & echo ready; wait",
        victim.display()
    );
    started(&world, &["-v", &volume], &script);
    while_attacked(&world, &["box:/srv/tree", "shared"], || {
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    });
    remove(&world);
}

#[test]
fn an_archive_does_not_leave_its_directory() {
    let world = world();
    stopped(&world, &[], "mkdir -p /srv/in");
    world.file("f", "x");
    let archive = |options: &[&str]| {
        world.program("tar").args(["-cPf", "a.tar"]).args(options).expect_code(0);
        world.sbx(["cp", "-", "box:/srv/in"]).stdin(fs::read(world.work().join("a.tar")).unwrap())
    };
    archive(&["--transform", "s,^,../../,", "f"]).expect_code(125).stderr_has("leads out of");
    // An absolute name is one in the directory.
    archive(&["--transform", "s,^,/abs/,", "f"]).expect_code(0);
    // A link to elsewhere in the same container, and a file behind it.
    std::os::unix::fs::symlink("/etc", world.work().join("link")).unwrap();
    archive(&["link"]).expect_code(0);
    archive(&["--transform", "s,^f,link/f,", "f"])
        .expect_code(125)
        .stderr_has("a file or symlink is in the way");
    let tar = world.sbx(["cp", "box:/", "-"]).expect_code(0);
    let names = world.program("tar").arg("-t").stdin(tar.stdout_bytes()).expect_code(0).stdout();
    assert!(
        names.contains("./srv/in/abs/f\n") && !names.contains("./etc/f\n") && !names.contains("./f\n"),
        "{names}"
    );
    world.sbx(["rm", "box"]).expect_code(0);
}

#[test]
fn a_running_container_is_exported_and_copied_while_its_files_come_and_go() {
    let world = world();
    let script = "mkdir -p /srv/t; churn() { while :; do mkdir /srv/t/$1; echo x > /srv/t/$1/f; ln -s f /srv/t/$1/l; \
                  mkfifo /srv/t/$1/p; rm -rf /srv/t/$1; echo y > /srv/t/$1; rm /srv/t/$1; done; }; \
                  churn a & churn b & churn c & echo ready; wait";
    for driver in ["overlay", "fuse-overlayfs"] {
        started(&world, &["--storage-driver", driver], script);
        let until = Instant::now() + LONG;
        let mut rounds = 0;
        while Instant::now() < until || rounds < 3 {
            world.sbx(["cp", "box:/srv", "-"]).expect_code(0);
            world.sbx(["export", "-o", "root.tar", "box"]).expect_code(0);
            world.sbx(["diff", "box"]).expect_code(0).stdout_has("A /srv/t\n");
            rounds += 1;
        }
        remove(&world);
    }
}
