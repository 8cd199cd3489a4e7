use std::io::Write;

use super::tests::{reference, store, with_image};
use super::*;

/// As the unpacker leaves a layer.
fn unpacked(store: &ImageStore, diff_id: &Digest) -> PathBuf {
    let layer = store.root().join("layers/root").join(diff_id.hex());
    std::fs::create_dir_all(layer.join("fs")).unwrap();
    std::fs::write(layer.join("facts.json"), r#"{"size":1000,"entries":1}"#).unwrap();
    layer
}

fn blobs(store: &ImageStore) -> usize {
    std::fs::read_dir(store.blobs()).unwrap().count()
}

#[test]
fn what_an_image_names_stays_and_the_rest_goes() {
    let (_directory, store) = store();
    let one = with_image(&store, "a", &["a"]);
    with_image(&store, "b", &["b"]);
    let layers = ["a", "b", "c"].map(|seed| unpacked(&store, &Digest::of(seed.as_bytes())));
    let other_owners = store.root().join("layers/single").join(Digest::of(b"a").hex());
    std::fs::create_dir_all(&other_owners).unwrap();
    let mut change = store.change().unwrap();
    change.remove(&one.id);
    change.commit().unwrap();
    assert_eq!(store.orphans().unwrap().count(), 6);
    let collected = store.collect(Extent::Unnamed).unwrap();
    assert_eq!(collected.layers.len(), 2, "one of them unpacked twice");
    assert!(!other_owners.exists());
    assert!(collected.reclaimed > 2000);
    assert_eq!(layers.map(|layer| layer.exists()), [false, true, false]);
    assert_eq!(blobs(&store), 3);
    assert!(store.find("b").unwrap().is_some());
    assert_eq!(store.orphans().unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
}

#[test]
fn what_is_leased_stays_while_the_lease_lives() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let blob = store.put_bytes(b"x", &lease).unwrap();
    let diff_id = Digest::of(b"layer");
    lease.add(&diff_id).unwrap();
    let layer = unpacked(&store, &diff_id);
    store.collect(Extent::Everything).unwrap();
    assert!(store.has_blob(&blob) && layer.exists());
    drop(lease);
    store.collect(Extent::Everything).unwrap();
    assert!(!store.has_blob(&blob) && !layer.exists());
    assert_eq!(std::fs::read_dir(store.leases()).unwrap().count(), 0);
}

#[test]
fn the_lease_of_a_dead_process_keeps_nothing() {
    let (_directory, store) = store();
    let blob = store.put_bytes(b"x", &store.lease().unwrap()).unwrap();
    std::fs::write(store.leases().join("dead"), format!("{blob}\n")).unwrap();
    store.collect(Extent::Unnamed).unwrap();
    assert!(!store.has_blob(&blob));
}

#[test]
fn broken_downloads_go_only_with_everything_and_those_under_way_never() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let broken = |text: &[u8]| {
        let BlobBegin::Write(mut blob) = store.begin_blob(&Digest::of(text), 9, &lease).unwrap() else {
            panic!()
        };
        blob.write_all(&text[..4]).unwrap();
        blob
    };
    let under_way = broken(b"under way");
    drop(broken(b"given up "));
    // What nobody can go on with goes with its maker, or with the first collector after that was killed.
    drop(store.begin_unknown_blob().unwrap());
    for (name, mode) in [(".new-killed", 0o600), (".new-read-only", 0o444)] {
        let path = store.partial().join(name);
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let layers = store.root().join("layers/root");
    let (half_a_layer, old) = (layers.join(".new-x"), layers.join(".old-y"));
    for half in [&half_a_layer, &old] {
        std::fs::create_dir_all(half).unwrap();
        std::fs::write(half.join("f"), "x").unwrap();
    }
    let maker = std::fs::File::create(layers.join(".lock-y")).unwrap();
    maker.lock().unwrap();
    std::fs::File::create(layers.join(".lock-z")).unwrap();
    let partial = || std::fs::read_dir(store.partial()).unwrap().count();
    assert_eq!(partial(), 4);
    store.collect(Extent::Unnamed).unwrap();
    assert_eq!(partial(), 2);
    assert!(!half_a_layer.exists() && old.exists());
    let locks: Vec<_> = std::fs::read_dir(&layers).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(locks.len(), 2, "{locks:?}");
    let collected = store.collect(Extent::Everything).unwrap();
    assert_eq!((partial(), collected.reclaimed), (1, 4));
    let mut under_way = under_way;
    under_way.write_all(b"r way").unwrap();
    under_way.finish(&lease).unwrap();
}

#[test]
fn a_blob_that_another_tool_has_just_written_stays() {
    let (_directory, store) = store();
    with_image(&store, "a", &["a"]);
    let fresh = store.blob_path(&Digest::of(b"fresh"));
    std::fs::write(&fresh, "fresh").unwrap();
    store.collect(Extent::Everything).unwrap();
    assert!(fresh.exists());
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    std::fs::File::options().write(true).open(&fresh).unwrap().set_modified(before).unwrap();
    store.collect(Extent::Everything).unwrap();
    assert!(!fresh.exists());
}

#[test]
fn all_that_an_index_of_another_tool_names_stays() {
    let (_directory, store) = store();
    let image = with_image(&store, "a", &[]);
    let layer = unpacked(&store, &Digest::of(b"a"));
    let mut inner = index::empty();
    inner.manifests.push(image.manifest.clone());
    let text = serde_json::to_vec(&inner).unwrap();
    let digest = store.put_bytes(&text, &store.lease().unwrap()).unwrap();
    let mut outer = index::empty();
    outer.manifests.push(Descriptor::new(media_type::OCI_INDEX, digest, text.len() as u64));
    store.write_index(&outer).unwrap();
    assert_eq!(store.collect(Extent::Everything).unwrap().reclaimed, 0);
    assert!(layer.exists() && blobs(&store) == 4);
    let entry = store.list().unwrap().remove(0);
    assert_eq!(entry.id, image.id, "the only image of an index is that of this machine");
}

/// A document is followed as what an entry says that it is, though another image calls it a blob of its own.
#[test]
fn an_image_keeps_its_blobs_though_another_names_its_manifest() {
    let (_directory, store) = store();
    let image = with_image(&store, "a", &["a"]);
    let layer = unpacked(&store, &Digest::of(b"a"));
    let hostile = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: Descriptor::new(media_type::OCI_CONFIG, image.manifest.digest.clone(), image.manifest.size),
        layers: Vec::new(),
        annotations: Default::default(),
        other: Default::default(),
    };
    let text = serde_json::to_vec(&hostile).unwrap();
    let digest = store.put_bytes(&text, &store.lease().unwrap()).unwrap();
    let mut index = store.read_index().unwrap();
    index.manifests.insert(0, Descriptor::new(media_type::OCI_MANIFEST, digest, text.len() as u64));
    store.write_index(&index).unwrap();
    store.collect(Extent::Everything).unwrap();
    assert!(layer.exists());
    assert_eq!(blobs(&store), 4);
}

#[test]
fn what_cannot_be_looked_at_stops_the_collector() {
    for unreadable in ["containers", "leases"] {
        let (_directory, store) = store();
        let layer = unpacked(&store, &Digest::of(b"in use?"));
        // Not a directory: nobody can read it, root neither.
        let _ = std::fs::remove_dir_all(store.root().join(unreadable));
        std::fs::write(store.root().join(unreadable), "").unwrap();
        assert!(store.collect(Extent::Everything).is_err(), "{unreadable}");
        assert!(layer.exists());
    }
}

#[test]
fn a_damaged_index_stops_the_collector() {
    let (_directory, store) = store();
    with_image(&store, "a", &["a"]);
    std::fs::write(store.index_path(), "{").unwrap();
    assert!(store.collect(Extent::Everything).is_err());
    assert_eq!(blobs(&store), 3);
}

#[test]
fn a_damaged_record_of_a_container_keeps_all_layers() {
    let (_directory, store) = store();
    let layer = unpacked(&store, &Digest::of(b"in use?"));
    let container = store.root().join("containers").join("a".repeat(64));
    std::fs::create_dir_all(&container).unwrap();
    std::fs::write(container.join("spec.json"), "{").unwrap();
    store.collect(Extent::Everything).unwrap();
    assert!(layer.exists());
    std::fs::remove_dir_all(&container).unwrap();
    store.collect(Extent::Everything).unwrap();
    assert!(!layer.exists());
}

#[test]
fn what_a_killed_collector_left_is_removed_by_the_next() {
    let (_directory, store) = store();
    let left = store.root().join("trash/x/0");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("f"), "12345").unwrap();
    assert_eq!((store.orphans().unwrap().count(), store.orphans().unwrap().size()), (1, 5));
    store.collect(Extent::Unnamed).unwrap();
    assert_eq!(store.orphans().unwrap().count(), 0);
}

#[test]
fn collectors_and_adders_at_once_lose_nothing() {
    let (_directory, store) = store();
    with_image(&store, "a", &["a"]);
    std::thread::scope(|scope| {
        for lane in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..25 {
                    let name = format!("lane{lane}:{round}");
                    with_image(store, &name, &[&name]);
                    let found = store.find(&name).unwrap().expect("it was just put there");
                    assert!(store.open_blob(&found.document.layers[0]).is_ok());
                    if round % 2 == 0 {
                        let mut change = store.change().unwrap();
                        change.remove(&found.id);
                        change.commit().unwrap();
                    }
                }
            });
        }
        scope.spawn(|| (0..50).for_each(|_| drop(store.collect(Extent::Everything).unwrap())));
    });
    store.collect(Extent::Everything).unwrap();
    assert_eq!(store.list().unwrap().len(), 1 + 4 * 12);
    assert!(store.find(&reference("lane0:1").familiar()).unwrap().is_some());
    assert_eq!(blobs(&store), 3 * (1 + 4 * 12));
}
