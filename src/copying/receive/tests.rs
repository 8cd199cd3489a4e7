use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use tar::EntryType;

use super::*;
use crate::layers::unpack::forge::{Forge, Forged, directory, entry, file, hard_link};

fn outside() -> Manner {
    Manner {
        owner: Owner::Maker,
        special_bits: false,
        all_attributes: false,
        overwrite: false,
        record: false,
    }
}

fn given(entries: impl IntoIterator<Item = Forged>) -> Vec<u8> {
    entries.into_iter().fold(Forge::new(), Forge::add).end()
}

fn target(path: &Path, name: Option<&str>) -> Target {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty()).unwrap();
    Target { directory, name: name.map(|name| name.as_bytes().to_vec()) }
}

/// Receives into `to` of a fresh directory, beside which `victim` lies.
fn received(archive: &[u8], prepare: impl FnOnce(&Path)) -> (tempfile::TempDir, Result<()>) {
    let world = tempfile::tempdir().unwrap();
    fs::create_dir(world.path().join("to")).unwrap();
    fs::create_dir(world.path().join("victim")).unwrap();
    fs::write(world.path().join("victim/f"), "untouched").unwrap();
    prepare(world.path());
    let result = receive(&mut { archive }, target(&world.path().join("to"), Some("x")), false, &outside());
    (world, result)
}

#[test]
fn no_archive_leaves_the_directory_or_changes_what_is_beside_it() {
    let link = |name: &str, to: &str| crate::layers::unpack::forge::symlink(name, to);
    let hostile: [Vec<Forged>; 9] = [
        vec![directory("t/"), link("t/a", "../../victim"), file("t/a/f", "hit")],
        vec![directory("t/"), link("t/a", "../../victim"), directory("t/a/"), file("t/a/f", "hit")],
        vec![link("t", "../victim"), file("t/f", "hit")],
        vec![link("t", "../victim"), directory("t/"), file("t/f", "hit")],
        vec![directory("t/"), file("t/../../victim/f", "hit")],
        vec![directory("t/"), file("../../../victim/f", "hit")],
        vec![directory("t/"), link("t/a", "../../victim/f"), file("t/a", "no hit")],
        vec![directory("t/"), link("t/a", "../../victim"), hard_link("t/b", "t/a/f"), file("t/b", "hit")],
        vec![directory("t/"), link("t/a", "../../victim/f"), hard_link("t/b", "t/a"), file("t/b", "no hit")],
    ];
    for entries in hostile {
        let archive = given(entries);
        let (world, _) = received(&archive, |_| {});
        let victim = world.path().join("victim");
        assert_eq!(fs::read_to_string(victim.join("f")).unwrap(), "untouched");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        let beside: Vec<_> =
            fs::read_dir(world.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(beside.len(), 2, "{beside:?}");
    }
}

#[test]
fn a_symlink_that_was_there_is_not_followed_either() {
    let archive = given([directory("t/"), directory("t/a/"), file("t/a/f", "hit")]);
    for replaces in [false, true] {
        let world = tempfile::tempdir().unwrap();
        fs::create_dir_all(world.path().join("to/x")).unwrap();
        fs::create_dir(world.path().join("victim")).unwrap();
        symlink("../../victim", world.path().join("to/x/a")).unwrap();
        let manner = Manner { overwrite: replaces, ..outside() };
        let done =
            receive(&mut archive.as_slice(), target(&world.path().join("to"), Some("x")), false, &manner);
        assert_eq!(done.is_ok(), replaces);
        assert_eq!(fs::read_dir(world.path().join("victim")).unwrap().count(), 0);
        assert_eq!(world.path().join("to/x/a").is_symlink(), !replaces);
    }
}

#[test]
fn files_are_replaced_as_a_whole_and_links_to_the_old_ones_stay() {
    let archive = given([directory("t/").mode(0o700), file("t/f", "new").mode(0o640)]);
    let (world, done) = received(&archive, |world| {
        fs::create_dir(world.join("to/x")).unwrap();
        fs::set_permissions(world.join("to/x"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(world.join("to/x/f"), "old, and longer").unwrap();
        fs::hard_link(world.join("to/x/f"), world.join("victim/same")).unwrap();
    });
    done.unwrap();
    let at = |name: &str| world.path().join(name);
    assert_eq!(fs::read_to_string(at("to/x/f")).unwrap(), "new");
    assert_eq!(fs::read_to_string(at("victim/same")).unwrap(), "old, and longer");
    assert_eq!(fs::metadata(at("to/x/f")).unwrap().mode() & 0o7777, 0o640);
    // A directory that was there keeps its mode.
    assert_eq!(fs::metadata(at("to/x")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::read_dir(at("to/x")).unwrap().count(), 1);
}

#[test]
fn outside_there_are_no_devices_and_no_setuid_programs() {
    let archive = given([
        directory("t/").mode(0o3777),
        file("t/program", "x").mode(0o6755).record("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
        entry(EntryType::Char, "t/null").device(1, 3),
        entry(EntryType::Block, "t/disk").device(8, 0),
        entry(EntryType::Fifo, "t/pipe"),
    ]);
    let (world, done) = received(&archive, |_| {});
    done.unwrap();
    let at = |name: &str| world.path().join("to/x").join(name);
    assert_eq!(fs::metadata(at("program")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(at("")).unwrap().mode() & 0o7777, 0o1777);
    assert!(rustix::fs::getxattr(at("program"), "security.capability", &mut [0_u8; 64][..]).is_err());
    assert!(!at("null").exists() && !at("disk").exists() && at("pipe").exists());
}

#[test]
fn the_first_component_becomes_the_target_or_is_left_out() {
    let tree = || given([directory("./"), file("./f", "1"), directory("./d/"), hard_link("./d/g", "./f")]);
    for (name, at) in [(Some("x"), "x"), (None, "")] {
        let world = tempfile::tempdir().unwrap();
        receive(&mut tree().as_slice(), target(world.path(), name), false, &outside()).unwrap();
        let at = world.path().join(at);
        assert_eq!(fs::metadata(at.join("f")).unwrap().ino(), fs::metadata(at.join("d/g")).unwrap().ino());
    }
    // Taken as they are, the directories on the way are made.
    let world = tempfile::tempdir().unwrap();
    let archive = given([file("a/b/c", "1")]);
    receive(&mut archive.as_slice(), target(world.path(), None), true, &outside()).unwrap();
    assert!(world.path().join("a/b/c").is_file());
}

#[test]
fn a_file_cannot_take_the_place_of_the_directory_itself() {
    let world = tempfile::tempdir().unwrap();
    let archive = given([file("t", "x")]);
    let error = receive(&mut archive.as_slice(), target(world.path(), None), false, &outside()).unwrap_err();
    assert!(error.to_string().contains("cannot replace the directory"), "{error}");
}

#[test]
fn an_archive_that_ends_early_leaves_no_half_of_a_file() {
    let whole = given([directory("t/"), file("t/f", vec![7; 5000])]);
    let (world, done) = received(&whole[..2048], |_| {});
    assert!(done.unwrap_err().to_string().contains("ends early"));
    assert_eq!(fs::read_dir(world.path().join("to/x")).unwrap().count(), 0);
}
