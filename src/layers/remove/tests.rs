use std::fs::{self, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use tempfile::{TempDir, tempdir};

use super::*;

pub(crate) fn open(path: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

/// Directories, each in the one before it.
pub(crate) fn chain(top: &Path, name: &str, depth: usize) {
    fs::create_dir_all(top).unwrap();
    let mut here = open(top);
    for _ in 0..depth {
        rustix::fs::mkdirat(&here, name, Mode::RWXU).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        here = rustix::fs::openat(&here, name, flags, Mode::empty()).unwrap();
    }
}

/// A file beside the tree, which has to be there after it was removed.
fn with_bystander() -> TempDir {
    let place = tempdir().unwrap();
    fs::create_dir(place.path().join("outside")).unwrap();
    fs::write(place.path().join("outside/file"), "kept").unwrap();
    place
}

fn removed(place: &TempDir) {
    own(&place.path().join("tree")).unwrap();
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["outside"]);
    assert_eq!(fs::read_to_string(place.path().join("outside/file")).unwrap(), "kept");
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The processor's time is that of a linear way; what the disk takes is not.
#[test]
fn a_tree_of_a_hundred_thousand_levels_is_removed() {
    let place = with_bystander();
    chain(&place.path().join("tree"), "d", 100_000);
    fs::write(place.path().join("tree/d/d/file"), "").unwrap();
    let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec;
    let begun = spent();
    removed(&place);
    assert!(spent() - begun < 60, "{} s", spent() - begun);
}

#[test]
fn many_deep_trees_side_by_side_are_removed_with_few_descriptors() {
    let place = with_bystander();
    for name in 0..40 {
        let top = place.path().join("tree").join(name.to_string());
        chain(&top, "d", 300);
        chain(&top.join("d/".repeat(70)), "e", 200);
        fs::write(top.join("d/".repeat(299)).join("file"), "").unwrap();
        // Names that are thought of for what is moved to the top.
        fs::write(place.path().join(format!("tree/.removed-{name}")), "").unwrap();
    }
    let most = AtomicBool::new(true);
    let largest = std::thread::scope(|scope| {
        let counted = scope.spawn(|| {
            let mut largest = 0;
            while most.load(Ordering::Relaxed) {
                largest = largest.max(open_descriptors());
            }
            largest
        });
        removed(&place);
        most.store(false, Ordering::Relaxed);
        counted.join().unwrap()
    });
    // Other tests run beside this one.
    assert!(largest < 400, "{largest} descriptors were open");
}

#[test]
fn many_entries_of_one_directory_are_removed() {
    let place = with_bystander();
    fs::create_dir(place.path().join("tree")).unwrap();
    let tree = open(&place.path().join("tree"));
    for number in 0..20_000 {
        match number % 10 {
            0 => rustix::fs::mkdirat(&tree, number.to_string(), Mode::RWXU).unwrap(),
            _ => rustix::fs::symlinkat("..", &tree, number.to_string()).unwrap(),
        }
    }
    removed(&place);
}

#[test]
fn what_symlinks_lead_to_stays() {
    let place = with_bystander();
    fs::create_dir_all(place.path().join("tree/d")).unwrap();
    for (link, target) in [("a", "../outside"), ("d/b", "../../outside"), ("d/c", "../../outside/file")] {
        symlink(target, place.path().join("tree").join(link)).unwrap();
    }
    removed(&place);
    symlink("outside", place.path().join("tree")).unwrap();
    removed(&place);
}

#[test]
fn directories_that_are_shut_are_opened() {
    let place = with_bystander();
    let deep = place.path().join("tree").join("d/".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "").unwrap();
    fs::create_dir_all(place.path().join("tree/e/f")).unwrap();
    let mut shut: Vec<_> = deep.ancestors().take(100).map(Path::to_owned).collect();
    shut.extend(["e/f", "e", ""].map(|name| place.path().join("tree").join(name)));
    for (number, directory) in shut.iter().enumerate() {
        let mode = [0o000, 0o400, 0o500, 0o300, 0o100][number % 5];
        fs::set_permissions(directory, Permissions::from_mode(mode)).unwrap();
    }
    removed(&place);
}

#[test]
fn what_is_not_there_is_removed_already_and_a_file_is_a_tree_too() {
    let place = with_bystander();
    removed(&place);
    own(&place.path().join("no/such/tree")).unwrap();
    fs::write(place.path().join("tree"), "").unwrap();
    removed(&place);
    below(open(place.path()).as_fd(), OsStr::new("nothing")).unwrap();
    assert!(own(Path::new("/")).is_err());
}

/// Moves directories of the tree about, out of it and in again, and puts symlinks in their place.
#[test]
fn a_tree_that_is_changed_meanwhile_is_never_left() {
    for round in 0..6 {
        let place = with_bystander();
        let (tree, outside) = (place.path().join("tree"), place.path().join("outside"));
        for name in 0..8 {
            chain(&tree.join(name.to_string()), "d", 150);
            chain(&tree.join(name.to_string()).join("d/d"), "e", 80);
        }
        let done = AtomicBool::new(false);
        let failed = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    number += 1;
                    let top = tree.join((number % 8).to_string());
                    let deep = top.join("d/".repeat(number % 140 + 1));
                    let _ = fs::rename(&deep, place.path().join("moved"));
                    let _ = symlink(&outside, &deep);
                    let _ = fs::rename(place.path().join("moved"), top.join(format!("m{number}")));
                    let _ = fs::write(top.join(format!("f{number}")), "");
                }
            });
            let mut outcome = own(&tree);
            for _ in 0..5 {
                if outcome.is_err() {
                    outcome = own(&tree);
                }
            }
            done.store(true, Ordering::Relaxed);
            outcome.err()
        });
        let kind = failed.as_ref().map(io::Error::kind);
        assert!(matches!(kind, None | Some(io::ErrorKind::DirectoryNotEmpty)), "{round}: {failed:?}");
        // What was out of the tree when it was emptied is not of it.
        let _ = own(&place.path().join("moved"));
        removed(&place);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
