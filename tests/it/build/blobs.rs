//! What is in the layers of an image, read from the blobs of the store.

use std::fs;
use std::path::PathBuf;

use sbx::layers::compression;
use serde_json::Value;
use tar::EntryType;

use super::Kitchen;

impl Kitchen {
    fn blob(&self, digest: &Value) -> PathBuf {
        let digest = digest.as_str().expect("a digest");
        self.world.store().join("oci/blobs").join(digest.replace(':', "/"))
    }

    /// The archives of the image's layers above the one of `base`, the lowest first.
    pub fn archives(&self, image: &str) -> Vec<Vec<u8>> {
        self.archives_of(image).split_off(1)
    }

    /// The archives of all layers of the image, the lowest first.
    pub fn archives_of(&self, image: &str) -> Vec<Vec<u8>> {
        let read = |path: PathBuf| fs::read(path).expect("a file of the store");
        let index: Value =
            serde_json::from_slice(&read(self.world.store().join("oci/index.json"))).expect("JSON");
        let name = format!("docker.io/library/{image}:latest");
        let found = index["manifests"].as_array().expect("manifests").iter().find(|manifest| {
            manifest["annotations"].as_object().is_some_and(|all| all.values().any(|value| *value == *name))
        });
        let digest = &found.expect("the image")["digest"];
        let manifest: Value = serde_json::from_slice(&read(self.blob(digest))).expect("JSON");
        let layers = manifest["layers"].as_array().expect("layers").iter();
        layers.map(|layer| plain(&read(self.blob(&layer["digest"])))).collect()
    }

    /// [`listing`] of each of [`Self::archives`].
    pub fn listings(&self, image: &str) -> Vec<Vec<String>> {
        self.archives(image).iter().map(|archive| listing(archive)).collect()
    }
}

/// What a blob holds, unpacked.
pub fn plain(blob: &[u8]) -> Vec<u8> {
    let kind = compression::detect(blob);
    let mut text = Vec::new();
    let mut reader = compression::decompress(kind, Box::new(std::io::Cursor::new(blob.to_vec())))
        .expect("a kind of compression that is known");
    reader.read_to_end(&mut text).expect("a blob");
    text
}

/// `KIND MODE UID:GID NAME[ -> LINK][ ATTRIBUTE=VALUE]` for each entry, KIND as of `ls -l`, `h` a hard link.
pub fn listing(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let mut lines = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let attributes: Vec<String> = entry
            .pax_extensions()
            .expect("records")
            .into_iter()
            .flatten()
            .map(|record| record.expect("a record"))
            .filter_map(|record| {
                let name = record.key().ok()?.strip_prefix("SCHILY.xattr.")?.to_owned();
                Some(format!(" {name}={}", record.value_bytes().escape_ascii()))
            })
            .collect();
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Regular => '-',
            EntryType::Directory => 'd',
            EntryType::Symlink => 'l',
            EntryType::Link => 'h',
            EntryType::Fifo => 'p',
            EntryType::Char => 'c',
            EntryType::Block => 'b',
            _ => '?',
        };
        let number = |found: std::io::Result<u64>| found.expect("a number");
        let mode = header.mode().expect("a mode");
        let (uid, gid) = (number(header.uid()), number(header.gid()));
        let name = entry.path_bytes().escape_ascii().to_string();
        let link = entry.link_name_bytes().filter(|link| !link.is_empty());
        let link = link.map(|link| format!(" -> {}", link.escape_ascii())).unwrap_or_default();
        let name = name.trim_end_matches('/');
        lines.push(format!("{kind} {mode:o} {uid}:{gid} {name}{link}{}", attributes.concat()));
    }
    lines
}
