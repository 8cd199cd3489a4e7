//! Reads an image off the disk: its layers over each other, and its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::read::GzDecoder;
use serde_json::Value;

use tar::{Archive, EntryType};

use super::outcome::Facts;
use crate::harness::sha256;

/// Times of the last hours are those of the build.
const TODAY: u64 = 24 * 3600;
/// A longer content is shown by its digest.
const SHOWN: usize = 300;

/// An image of an OCI layout, which sbx's store is, too; its name has to end so.
pub fn of_layout(layout: &Path, name: &str) -> Facts {
    let blobs = layout.join("blobs/sha256");
    let index = document(&layout.join("index.json"));
    let named = |found: &&Value| {
        let whole = found["annotations"]["org.opencontainers.image.ref.name"].as_str();
        whole.unwrap_or_default().ends_with(name)
    };
    let found = index["manifests"].as_array().expect("images").iter().find(named);
    let found = found.unwrap_or_else(|| panic!("no image `{name}` in {}", layout.display()));
    facts(&blobs, &blobs.join(hex(&found["digest"])))
}

/// An image that was pushed to `dir:PATH`.
pub fn of_directory(directory: &Path) -> Facts {
    facts(directory, &directory.join("manifest.json"))
}

fn facts(blobs: &Path, manifest: &Path) -> Facts {
    let manifest = document(manifest);
    let image = document(&blobs.join(hex(&manifest["config"]["digest"])));
    let layers = manifest["layers"].as_array().expect("layers");
    let with_files = image["history"].as_array().into_iter().flatten();
    let with_files = with_files.filter(|entry| entry["empty_layer"] != Value::Bool(true)).count();
    assert_eq!(with_files, layers.len(), "history and layers of {image}");
    let mut tree = Tree::default();
    layers.iter().for_each(|layer| tree.apply(&blobs.join(hex(&layer["digest"]))));
    let mut facts = tree.facts();
    facts.extend(configuration(&image));
    facts
}

fn document(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

fn hex(digest: &Value) -> &str {
    digest.as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest")
}

/// The fields that say something; what one builder leaves out and the other writes as empty is the same.
fn configuration(image: &Value) -> Facts {
    const FIELDS: [&str; 13] = [
        "Cmd",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Labels",
        "OnBuild",
        "Shell",
        "StopSignal",
        "StopTimeout",
        "User",
        "Volumes",
        "WorkingDir",
    ];
    let mut facts = Facts::new();
    let says_something = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
        _ => true,
    };
    let config = image["config"].as_object().cloned().unwrap_or_default();
    for field in FIELDS {
        let mut value = config.get(field).cloned().unwrap_or(Value::Null);
        if let Some(labels) = value.as_object_mut() {
            labels.remove("io.buildah.version");
        }
        // The order of variables says nothing.
        if let (Some(values), "Env") = (value.as_array_mut(), field) {
            values.sort_by_key(ToString::to_string);
        }
        if says_something(&value) {
            facts.insert(field.to_owned(), value.to_string());
        }
    }
    for field in ["architecture", "author", "os", "variant"] {
        if says_something(&image[field]) {
            facts.insert(field.to_owned(), image[field].to_string());
        }
    }
    facts
}

#[derive(Debug, Clone)]
struct Node {
    /// Two names with one number are one file.
    inode: usize,
    directory: bool,
    shown: String,
}

/// Files by their absolute names.
#[derive(Debug, Default)]
struct Tree {
    nodes: BTreeMap<String, Node>,
    inodes: usize,
}

impl Tree {
    /// Puts a layer above all others.
    fn apply(&mut self, blob: &Path) {
        let mut file = BufReader::new(File::open(blob).expect("a layer"));
        let mut magic = [0; 2];
        file.read_exact(&mut magic).expect("a layer");
        let file = BufReader::new(File::open(blob).expect("a layer"));
        let plain: Box<dyn Read> =
            if magic == [0x1f, 0x8b] { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
        let mut archive = Archive::new(plain);
        let mut made = BTreeSet::new();
        for entry in archive.entries().expect("a tar archive") {
            let mut entry = entry.expect("an entry");
            let path = name(&entry.path().expect("a name"));
            let (parent, last) = path.rsplit_once('/').expect("an absolute name");
            match last.strip_prefix(".wh.") {
                Some(".wh..opq") => self.remove(parent, false, &made),
                Some(hidden) => self.remove(&format!("{parent}/{hidden}"), true, &made),
                None => {
                    self.parents(&path);
                    let node = self.node(&mut entry);
                    if !node.directory {
                        self.remove(&path, true, &made);
                    }
                    made.insert(path.clone());
                    self.nodes.insert(path, node);
                }
            }
        }
    }

    /// What a layer says of a file, with everything that stays when it is unpacked.
    fn node(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Node {
        let (kind, header) = (entry.header().entry_type(), entry.header().clone());
        let link = entry.link_name().expect("a target").map(|target| target.into_owned());
        if kind == EntryType::Link {
            let target = name(&link.expect("a hard link has a target"));
            return self.nodes.get(&target).unwrap_or_else(|| panic!("no {target}")).clone();
        }
        let mut shown = match kind {
            EntryType::Directory => "directory".to_owned(),
            EntryType::Symlink => "symlink".to_owned(),
            EntryType::Fifo => "fifo".to_owned(),
            EntryType::Regular | EntryType::Continuous => "file".to_owned(),
            other => format!("{other:?}"),
        };
        let owner = (header.uid().expect("a user"), header.gid().expect("a group"));
        if kind != EntryType::Symlink {
            let _ = write!(shown, " {:o}", header.mode().expect("a mode") & 0o7777);
        }
        let _ = write!(shown, " {}:{}", owner.0, owner.1);
        for extension in entry.pax_extensions().expect("extensions").into_iter().flatten().flatten() {
            let attribute = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr."));
            // What the kernel's overlay keeps for itself ends up in buildah's layers.
            if let Some(attribute) = attribute.filter(|name| !name.contains("overlay.")) {
                let _ = write!(shown, " {attribute}={}", extension.value_bytes().escape_ascii());
            }
        }
        if kind == EntryType::Symlink {
            let _ = write!(shown, " -> {}", link.expect("a symlink has a target").display());
        } else if kind != EntryType::Directory {
            let time = header.mtime().expect("a time");
            if time + TODAY < now() {
                let _ = write!(shown, " @{time}");
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("a content");
            match content.len() {
                0..SHOWN => drop(write!(shown, " {:?}", String::from_utf8_lossy(&content))),
                length => {
                    let digest = &sha256(&content)[..16];
                    let _ = write!(shown, " {length} bytes {digest}");
                }
            }
        }
        self.inodes += 1;
        Node { inode: self.inodes, directory: kind == EntryType::Directory, shown }
    }

    /// Directories that a layer does not mention are made when it is unpacked.
    fn parents(&mut self, path: &str) {
        for (end, _) in path.match_indices('/').skip(1) {
            if !self.nodes.contains_key(&path[..end]) {
                self.inodes += 1;
                let node =
                    Node { inode: self.inodes, directory: true, shown: "directory 755 0:0".to_owned() };
                self.nodes.insert(path[..end].to_owned(), node);
            }
        }
    }

    /// Removes what is below a name, and the name itself; what the same layer has made stays.
    fn remove(&mut self, path: &str, itself: bool, made: &BTreeSet<String>) {
        let below = format!("{path}/");
        self.nodes
            .retain(|name, _| made.contains(name) || !(name.starts_with(&below) || (itself && name == path)));
    }

    fn facts(&self) -> Facts {
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        let mut facts = Facts::new();
        for (path, node) in self.nodes.iter().filter(|(path, _)| *path != "/") {
            let shown = match first.get(&node.inode) {
                Some(first) => format!("= {first}"),
                None => node.shown.clone(),
            };
            first.entry(node.inode).or_insert(path);
            facts.insert(path.clone(), shown);
        }
        facts
    }
}

/// `/a/b` for `./a/b/`.
fn name(path: &Path) -> String {
    let parts: PathBuf =
        path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    format!("/{}", parts.display())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}
