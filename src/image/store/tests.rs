use std::io::Write;
use std::os::unix::fs::symlink;

use super::*;
use crate::image::documents::{History, RootFs};

/// A store with one image of one layer in it, under each of the names.
pub(super) fn with_image(store: &ImageStore, seed: &str, names: &[&str]) -> NewImage {
    let lease = store.lease().unwrap();
    let layer = store.put_bytes(format!("layer of {seed}").as_bytes(), &lease).unwrap();
    let config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        created: Some("2024-02-03T04:05:06Z".to_owned()),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![Digest::of(seed.as_bytes())] },
        history: vec![History { created_by: seed.to_owned(), ..History::default() }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config).unwrap();
    let id = store.put_bytes(&config, &lease).unwrap();
    let layer_size = store.blob_size(&layer).unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        config: Descriptor::new(media_type::OCI_CONFIG, id.clone(), config.len() as u64),
        layers: vec![Descriptor::new(media_type::OCI_LAYER, layer, layer_size)],
        annotations: Default::default(),
        other: Default::default(),
    };
    let text = serde_json::to_vec(&manifest).unwrap();
    let digest = store.put_bytes(&text, &lease).unwrap();
    let image = NewImage {
        manifest: Descriptor::new(media_type::OCI_MANIFEST, digest, text.len() as u64),
        id,
        created: Some("2024-02-03T04:05:06Z".to_owned()),
        size: 1234,
        repo_digests: Vec::new(),
        index: None,
    };
    let mut change = store.change().unwrap();
    change.put(None, &image);
    for name in names {
        change.put(Some(&reference(name)), &image);
    }
    change.commit().unwrap();
    image
}

pub(super) fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap().or_latest()
}

pub(super) fn store() -> (tempfile::TempDir, ImageStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::new(&directory.path().join("store"));
    (directory, store)
}

fn names(store: &ImageStore) -> Vec<String> {
    let shown = |entry: Entry| entry.reference.map_or("<none>".to_owned(), |name| name.familiar());
    store.list().unwrap().into_iter().map(shown).collect()
}

#[test]
fn an_image_is_found_by_its_names_and_the_beginnings_of_its_id() {
    let (_directory, store) = store();
    let image = with_image(&store, "a", &["a:1", "localhost/tool", "localhost:5000/a/b:tag"]);
    for word in ["a:1", "docker.io/library/a:1", "tool", "localhost/tool:latest", "localhost:5000/a/b:tag"] {
        assert_eq!(store.find(word).unwrap().expect(word).id, image.id, "{word}");
    }
    for word in [image.id.short(), image.id.hex(), image.id.as_str(), &image.id.hex()[..3]] {
        assert_eq!(store.find(word).unwrap().expect(word).id, image.id, "{word}");
    }
    assert!(store.find("a").unwrap().is_none(), "a means a:latest");
    assert!(store.find("library/tool:2").unwrap().is_none());
    assert!(store.find("NO").is_err());
    let found = store.find("a:1").unwrap().unwrap();
    assert_eq!(found.names.len(), 3);
    assert_eq!(found.config.history[0].created_by, "a");
}

#[test]
fn a_name_goes_before_the_beginning_of_an_id() {
    let (_directory, store) = store();
    let one = with_image(&store, "a", &[]);
    let two = with_image(&store, "b", &[one.id.short()]);
    assert_eq!(store.find(one.id.short()).unwrap().unwrap().id, two.id);
    assert_eq!(store.find(&one.id.hex()[..11]).unwrap().unwrap().id, one.id);
    let error = store.find("").unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
}

#[test]
fn an_ambiguous_beginning_is_refused() {
    let (_directory, store) = store();
    for seed in 0..17 {
        with_image(&store, &seed.to_string(), &[]);
    }
    let errors = (0..16).filter(|digit| store.find(&format!("{digit:x}")).is_err()).count();
    assert!(errors > 0, "two of seventeen IDs begin alike");
}

#[test]
fn a_digest_decides_over_a_tag() {
    let (_directory, store) = store();
    let mut image = with_image(&store, "a", &["quay.io/a:1"]);
    let other = Digest::of(b"index");
    image.index = Some(other.clone());
    let mut change = store.change().unwrap();
    change.put(Some(&reference("quay.io/a:1")), &image);
    change.add_repo_digest(&image.manifest.digest, &format!("quay.io/b@{}", image.manifest.digest));
    change.commit().unwrap();
    let digest = &image.manifest.digest;
    for word in [format!("quay.io/a:9@{digest}"), format!("quay.io/b@{digest}"), format!("quay.io/a@{other}")]
    {
        assert_eq!(store.find(&word).unwrap().expect(&word).id, image.id);
    }
    for word in [format!("quay.io/c@{digest}"), format!("quay.io/b@{other}")] {
        assert!(store.find(&word).unwrap().is_none(), "{word}");
    }
}

#[test]
fn a_name_that_moves_leaves_the_former_image_without() {
    let (_directory, store) = store();
    let one = with_image(&store, "a", &["x"]);
    let two = with_image(&store, "b", &["x"]);
    assert_eq!(names(&store).len(), 2);
    assert_eq!(store.find("x").unwrap().unwrap().id, two.id);
    assert!(store.find(one.id.hex()).unwrap().unwrap().names.is_empty());
    let mut change = store.change().unwrap();
    assert!(change.untag(&reference("x")));
    assert!(!change.untag(&reference("x")));
    change.commit().unwrap();
    assert_eq!(names(&store), ["<none>", "<none>"]);
    let mut change = store.change().unwrap();
    change.remove(&one.id);
    change.tag(&reference("y"), &two.manifest);
    change.commit().unwrap();
    assert_eq!(names(&store), ["y:latest"]);
}

#[test]
fn entries_of_other_tools_are_completed_from_the_blobs_and_survive() {
    let (_directory, store) = store();
    let image = with_image(&store, "a", &[]);
    let mut descriptor = image.manifest.clone();
    descriptor.annotations.insert(annotation::NAME.to_owned(), "quay.io/x/y:z".to_owned());
    let mut index = index::empty();
    index.manifests.push(descriptor);
    index.other.insert("unknown".to_owned(), 1.into());
    std::fs::write(store.index_path(), serde_json::to_vec(&index).unwrap()).unwrap();
    let entry = store.list().unwrap().remove(0);
    assert_eq!((entry.id, entry.size), (image.id.clone(), "layer of a".len() as u64));
    assert_eq!(entry.created, Some("2024-02-03T04:05:06Z".parse().unwrap()));
    let mut change = store.change().unwrap();
    change.tag(&reference("second"), &image.manifest);
    change.commit().unwrap();
    let text = std::fs::read_to_string(store.index_path()).unwrap();
    assert!(text.contains("quay.io/x/y:z") && text.contains("unknown"), "{text}");
    assert_eq!(store.find("second").unwrap().unwrap().names.len(), 2);
}

#[test]
fn what_another_tool_wrote_meanwhile_is_kept() {
    let (_directory, store) = store();
    let image = with_image(&store, "a", &["a", "b"]);
    let mut change = store.change().unwrap();
    let mut index = store.read_index().unwrap();
    let mut theirs = image.manifest.clone();
    theirs.annotations.insert(annotation::NAME.to_owned(), "theirs:1".to_owned());
    index.manifests.push(theirs);
    std::fs::write(store.index_path(), serde_json::to_vec(&index).unwrap()).unwrap();
    change.untag(&reference("a"));
    change.tag(&reference("ours"), &image.manifest);
    change.commit().unwrap();
    let mut found = names(&store);
    found.sort();
    assert_eq!(found, ["b:latest", "ours:latest", "theirs:1"]);
}

#[test]
fn a_partial_blob_is_gone_on_with_and_a_wrong_one_leaves_nothing() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let (digest, size) = (Digest::of(b"hello world"), 11);
    let BlobBegin::Write(mut blob) = store.begin_blob(&digest, size, &lease).unwrap() else { panic!() };
    blob.write_all(b"hello").unwrap();
    let error = blob.finish(&lease).unwrap_err();
    assert!(error.to_string().contains("5 of 11"), "{error}");
    let BlobBegin::Write(mut blob) = store.begin_blob(&digest, size, &lease).unwrap() else { panic!() };
    assert_eq!(blob.existing(), 5);
    blob.write_all(b" world").unwrap();
    assert!(blob.write_all(b"!").is_err(), "more than was said");
    assert!(!store.has_blob(&digest));
    assert_eq!(blob.finish(&lease).unwrap(), digest);
    assert!(matches!(store.begin_blob(&digest, size, &lease).unwrap(), BlobBegin::Present));
    assert_eq!(store.read_document(&digest, 11).unwrap(), b"hello world");
    assert!(store.read_document(&digest, 10).unwrap_err().to_string().contains("larger than 10"));

    let wanted = Digest::of(b"12345");
    let BlobBegin::Write(mut blob) = store.begin_blob(&wanted, 5, &lease).unwrap() else { panic!() };
    blob.write_all(b"54321").unwrap();
    assert!(blob.finish(&lease).unwrap_err().to_string().contains("has the digest"));
    assert!(!store.has_blob(&wanted));
    assert_eq!(std::fs::read_dir(store.partial()).unwrap().count(), 0);
}

#[test]
fn a_blob_of_another_size_is_made_anew_but_a_sound_one_stays() {
    let (_directory, store) = store();
    let lease = store.lease().unwrap();
    let digest = store.put_bytes(b"hello", &lease).unwrap();
    let error = store.begin_blob(&digest, 7, &lease).unwrap_err();
    assert!(error.to_string().contains("the manifest says 7"), "{error}");
    std::fs::remove_file(store.blob_path(&digest)).unwrap();
    std::fs::write(store.blob_path(&digest), "hell").unwrap();
    assert!(store.open_blob(&Descriptor::new("x", digest.clone(), 5)).is_err());
    store.put_bytes(b"hello", &lease).unwrap();
    assert_eq!(store.read_document(&digest, 5).unwrap(), b"hello");
}

#[test]
fn damage_is_told_with_the_file_and_the_mend() {
    let (directory, store) = store();
    let image = with_image(&store, "a", &["a"]);
    let config = store.blob_path(&image.id);
    std::fs::remove_file(&config).unwrap();
    assert!(store.find("a").unwrap_err().report().contains("pull or load"));
    for damage in ["garbage", "link"] {
        match damage {
            "garbage" => std::fs::write(&config, "x").unwrap(),
            _ => {
                std::fs::remove_file(&config).unwrap();
                symlink("/etc/passwd", &config).unwrap();
            }
        }
        let report = store.find("a").unwrap_err().report();
        assert!(report.contains(&config.display().to_string()) && report.contains("Hint"), "{report}");
    }
    for (text, cause) in [("{", "EOF"), ("{\"schemaVersion\":1}", "schemaVersion"), ("[]", "invalid")] {
        std::fs::write(store.index_path(), text).unwrap();
        let report = store.list().unwrap_err().report();
        assert!(report.contains(cause) && report.contains("index.json.damaged"), "{report}");
        assert!(store.change().is_err());
    }
    std::fs::write(store.index_path(), vec![b' '; LARGEST_INDEX as usize + 1]).unwrap();
    assert!(store.list().unwrap_err().to_string().contains("larger than"));
    std::fs::remove_file(store.index_path()).unwrap();
    let elsewhere = directory.path().join("x");
    std::fs::write(&elsewhere, "{}").unwrap();
    symlink(&elsewhere, store.index_path()).unwrap();
    assert!(store.list().unwrap_err().to_string().contains("it is a symlink"));
}

#[test]
fn a_store_that_is_not_there_is_empty_and_nothing_is_made_by_looking() {
    let (directory, store) = store();
    assert!(store.list().unwrap().is_empty());
    assert!(store.find("a").unwrap().is_none());
    assert!(!store.has_blob(&Digest::of(b"")));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_store_that_was_moved_works() {
    let (directory, store) = store();
    with_image(&store, "a", &["a"]);
    let moved = directory.path().join("moved");
    std::fs::rename(store.root(), &moved).unwrap();
    assert!(ImageStore::new(&moved).find("a").unwrap().is_some());
}
