//! The index of a store, as a stranger or a broken disk may have written it: read, searched and changed.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use sbx::image::reference::Reference;
use sbx::image::store::ImageStore;

/// A store that is made once; in memory, where there is such a place.
fn store() -> &'static ImageStore {
    static STORE: OnceLock<ImageStore> = OnceLock::new();
    STORE.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let root = parent.join(format!("sbx-fuzz-{}", std::process::id()));
        let store = ImageStore::new(&root);
        let lease = store.lease().expect("a lease");
        store.put_bytes(br#"{"schemaVersion":2}"#, &lease).expect("a blob");
        store
    })
}

fuzz_target!(|json: &[u8]| {
    let store = store();
    std::fs::write(store.index_path(), json).expect("the index can be written");
    if serde_json::from_slice::<serde_json::Value>(json).is_err() {
        // Half of a file is waited for: too slow for here.
        return;
    }
    let Ok(entries) = store.list() else { return };
    for word in ["a", "a:1", "quay.io/a/b@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "e", "x y"] {
        let _ = store.find(word);
    }
    let Ok(mut change) = store.change() else { return };
    let name = Reference::parse("fuzz:1").expect("a name");
    for entry in &entries {
        change.tag(&name, &entry.manifest);
        change.remove(&entry.id);
    }
    if change.commit().is_ok() {
        let left = store.list().expect("what was written can be read");
        assert!(left.len() <= entries.len());
    }
});
