use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tar::EntryType;

use super::*;
use crate::layers::owners::Owners;
use crate::layers::unpack::forge::{self, Forge};

fn store(directory: &Path) -> LayerStore {
    LayerStore::new(directory, &MapKey::from_record("single-sidecar").unwrap())
}

fn archive(content: &str) -> Vec<u8> {
    Forge::new().add(forge::file("f", content)).end()
}

fn names(store: &LayerStore) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(&store.root)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn make(store: &LayerStore, archive: &[u8]) -> Result<LayerFacts> {
    match store.begin(&Digest::of(archive))? {
        Begin::Make(unfinished) => unfinished.unpack(&mut { archive }, &Limits::default()),
        Begin::Present => panic!("it is there already"),
    }
}

#[test]
fn a_layer_is_there_after_it_was_unpacked_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let archive = archive("1");
    let diff_id = Digest::of(&archive);
    assert!(!store.has(&diff_id) && store.ids().is_empty());
    let facts = make(&store, &archive).unwrap();
    assert!(store.has(&diff_id));
    assert_eq!(store.facts(&diff_id).unwrap(), facts);
    assert_eq!(fs::read_to_string(store.path(&diff_id).join("f")).unwrap(), "1");
    assert!(matches!(store.begin(&diff_id).unwrap(), Begin::Present));
    assert_eq!(names(&store), [diff_id.hex()]);
    assert_eq!(store.ids(), [diff_id]);
    assert!(store.in_the_making().is_empty());
}

#[test]
fn what_is_not_what_was_asked_for_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let wanted = Digest::of(b"something else");
    let unpack = |bytes: &[u8]| match store.begin(&wanted).unwrap() {
        Begin::Make(unfinished) => unfinished.unpack(&mut { bytes }, &Limits::default()).unwrap_err(),
        Begin::Present => panic!("it is there"),
    };
    let error = unpack(&archive("1")).to_string();
    assert!(error.contains(wanted.as_str()) && error.contains(Digest::of(&archive("1")).as_str()), "{error}");
    assert!(names(&store).is_empty());
    let error = unpack(&archive("1")[..512]).to_string();
    assert!(error.contains(wanted.as_str()) && error.contains("ends early"), "{error}");
    let error = unpack(&Forge::new().add(forge::file("../f", "")).end()).to_string();
    assert!(error.contains("`../f`"), "{error}");
    assert!(names(&store).is_empty());
    // Given up without a word.
    drop(store.begin(&wanted).unwrap());
    assert!(names(&store).is_empty());
}

#[test]
fn who_comes_second_waits_and_takes_what_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let archive = archive("1");
    let diff_id = Digest::of(&archive);
    let Begin::Make(first) = store.begin(&diff_id).unwrap() else { panic!("it is there") };
    let came = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let present = matches!(store.begin(&diff_id).unwrap(), Begin::Present);
            came.store(true, Ordering::SeqCst);
            present
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!came.load(Ordering::SeqCst), "it did not wait");
        let [made] = &store.in_the_making()[..] else { panic!("nothing is being made") };
        assert_eq!(made.trees.len(), 1);
        assert!(File::open(&made.lock).unwrap().try_lock().is_err(), "it is not locked");
        first.unpack(&mut archive.as_slice(), &Limits::default()).unwrap();
        assert!(second.join().unwrap(), "it was made twice");
    });
    assert_eq!(names(&store), [diff_id.hex()]);
}

#[test]
fn who_waited_takes_over_from_who_gave_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let archive = archive("1");
    let diff_id = Digest::of(&archive);
    let Begin::Make(first) = store.begin(&diff_id).unwrap() else { panic!("it is there") };
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| match store.begin(&diff_id).unwrap() {
                    Begin::Present => 0,
                    Begin::Make(unfinished) => {
                        unfinished.unpack(&mut archive.as_slice(), &Limits::default()).unwrap();
                        1
                    }
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20));
        drop(first);
        let made: u32 = waiting.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(made, 1);
    });
    assert_eq!(names(&store), [diff_id.hex()]);
}

#[test]
fn what_a_killed_maker_left_is_removed_by_the_next_one_and_locked_by_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let archive = archive("1");
    let diff_id = Digest::of(&archive);
    let leave = || {
        let new = store.root.join(format!(".new-{}", diff_id.hex()));
        fs::create_dir_all(new.join("fs/half")).unwrap();
        fs::write(new.join("fs/stale"), "").unwrap();
        fs::write(store.root.join(format!(".lock-{}", diff_id.hex())), "").unwrap();
    };
    leave();
    assert!(!store.has(&diff_id));
    make(&store, &archive).unwrap();
    assert!(!store.path(&diff_id).join("stale").exists());
    leave();
    let [left] = &store.in_the_making()[..] else { panic!("nothing is left") };
    assert!(File::open(&left.lock).unwrap().try_lock().is_ok(), "it is locked");
}

#[test]
fn a_layer_of_another_boot_counts_once_it_was_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let archive = archive("1");
    let diff_id = Digest::of(&archive);
    make(&store, &archive).unwrap();
    let mark = store.directory(&diff_id).join(UNSYNCED);
    let other_boot = || {
        let _ = fs::remove_file(&mark);
        symlink("11111111-2222-3333-4444-555555555555", &mark).unwrap();
    };
    other_boot();
    fs::write(store.path(&diff_id).join("f"), "torn").unwrap();
    assert!(!store.has(&diff_id));
    store.settle().unwrap();
    assert!(!store.has(&diff_id), "settling vouched for another boot's layer");
    make(&store, &archive).unwrap();
    assert_eq!(fs::read_to_string(store.path(&diff_id).join("f")).unwrap(), "1");
    other_boot();
    assert_eq!(unpack_unknown(&store, &mut archive.as_slice(), &Limits::default()).unwrap().0, diff_id);
    assert!(store.has(&diff_id));
    store.settle().unwrap();
    assert!(store.has(&diff_id) && mark.symlink_metadata().is_err());
    assert_eq!(names(&store), [diff_id.hex()]);
}

#[test]
fn a_layer_of_unknown_digest_gets_its_name_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let archive = archive("1");
    for _ in 0..2 {
        let (diff_id, facts) = unpack_unknown(&store, &mut archive.as_slice(), &Limits::default()).unwrap();
        assert_eq!((diff_id, facts.size), (Digest::of(&archive), 1));
        assert_eq!(names(&store), [Digest::of(&archive).hex()]);
    }
    assert!(unpack_unknown(&store, &mut b"nonsense".as_slice(), &Limits::default()).is_err());
    assert_eq!(names(&store), [Digest::of(&archive).hex()]);
}

#[test]
fn recorded_owners_lie_beside_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let archive = Forge::new()
        .add(forge::file("f", "").owner(33, 34).mode(0o640))
        .add(forge::entry(EntryType::Char, "dev/null").device(1, 3))
        .end();
    make(&store, &archive).unwrap();
    let layer = store.directory(&Digest::of(&archive));
    let owners = Owners::load(&layer).unwrap();
    let lines: Vec<String> = owners.iter().map(|(_, line)| line.recorded.text()).collect();
    assert_eq!(lines, ["0:0:0644:char-1-3", "33:34:0640:file"]);
    fs::write(layer.join(owners::INDEX), "sbx owners 1\ntorn").unwrap();
    assert!(Owners::load(&layer).unwrap_err().to_string().contains("damaged"));
}

#[test]
fn a_stack_has_each_layer_once_and_nothing_below_an_opaque_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let [a, b, c] = ["a", "b", "c"].map(|name| {
        let mut forge = Forge::new().add(forge::file(name, ""));
        if name == "c" {
            forge = forge.add(forge::file(".wh..wh..opq", ""));
        }
        let archive = forge.end();
        make(&store, &archive).unwrap();
        Digest::of(&archive)
    });
    let stack = |ids: &[&Digest]| {
        let ids: Vec<Digest> = ids.iter().map(|id| (*id).clone()).collect();
        store.stack(&ids).unwrap().layers
    };
    assert_eq!(stack(&[&a, &b]), [a.clone(), b.clone()]);
    assert_eq!(stack(&[&a, &b, &a]), [b.clone(), a.clone()]);
    assert_eq!(stack(&[&a, &c, &b]), [c.clone(), b.clone()]);
    assert!(store.stack(&[Digest::of(b"missing")]).is_err());
}

#[test]
fn a_full_disk_is_told_with_what_mends_it() {
    let error = no_room(&io::Error::from_raw_os_error(libc::ENOSPC), "cannot write `x`".to_owned());
    assert!(error.hints()[0].contains("--root"), "{error}");
}

#[test]
fn keys_tell_ways_of_keeping_owners_apart() {
    let line = MapLine::new;
    let own = || vec![line(0, 1000, 1)];
    let with = |tier, lines: Vec<MapLine>| {
        let map = crate::identity::IdMap::new(lines).unwrap();
        let identity = Identity {
            tier,
            uid_map: map.clone(),
            gid_map: map,
            deny_setgroups: false,
            nested: None,
            exclusive: false,
            join: None,
            default_user: None,
            writer: crate::identity::MapWriter::Direct,
            notes: Vec::new(),
        };
        let directory = tempfile::tempdir().unwrap();
        MapKey::of(&identity, directory.path()).as_str().to_owned()
    };
    let range = [own(), vec![line(1, 100_000, 65536)]].concat();
    assert_eq!(with(Tier::Range, range), "range-100000-65536-100000-65536");
    let pieces = |start| [own(), vec![line(1, start, 10), line(11, 200_000, 10)]].concat();
    let (one, other) = (with(Tier::Range, pieces(100_000)), with(Tier::Range, pieces(300_000)));
    assert!(one.starts_with("range-") && one != other && MapKey::from_record(&one).is_some());
    assert_eq!(with(Tier::Root, vec![line(0, 0, 65536)]), "root");
    // Root in the tier of the range has the same inodes as in its own.
    assert_eq!(with(Tier::Root, vec![line(0, 0, 1), line(1, 1, 65535)]), "root");
    assert!(with(Tier::Single, own()).starts_with("single"));
    for bad in ["", "..", "a/b", "A", "single\n"] {
        assert_eq!(MapKey::from_record(bad), None, "{bad}");
    }
}

#[test]
fn a_store_that_has_layers_keeps_its_way_of_recording_owners() {
    let directory = tempfile::tempdir().unwrap();
    let layers = directory.path().join("layers");
    assert_eq!(MapKey::single(&layers, true).as_str(), "single");
    assert_eq!(MapKey::single(&layers, false).as_str(), "single-sidecar");
    fs::create_dir_all(layers.join("single-sidecar")).unwrap();
    assert_eq!(MapKey::single(&layers, true).as_str(), "single-sidecar");
}
