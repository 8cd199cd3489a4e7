//! Small images that a test makes of nothing: layers as it writes them, any configuration, an OCI layout.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::require;
use super::world::Sbx;

/// An image in the making.
#[derive(Debug, Clone)]
pub struct MadeImage {
    layers: Vec<Vec<u8>>,
    config: Value,
    architecture: &'static str,
    created: String,
}

/// The entries of one layer.
pub struct LayerTar(tar::Builder<Vec<u8>>);

/// An image without layers: `image().layer(|tar| tar.file("etc/x", "y")).write(&layout, "name:tag")`.
pub fn image() -> MadeImage {
    MadeImage {
        layers: Vec::new(),
        config: json!({}),
        architecture: if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        created: "2024-02-03T04:05:06Z".to_owned(),
    }
}

impl MadeImage {
    #[must_use]
    pub fn layer(mut self, fill: impl FnOnce(&mut LayerTar)) -> Self {
        let mut tar = LayerTar(tar::Builder::new(Vec::new()));
        fill(&mut tar);
        self.layers.push(tar.0.into_inner().expect("a Vec takes all"));
        self
    }

    /// A layer of another image: a tar archive.
    #[must_use]
    pub fn whole_layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// A layer with a static busybox as /bin/sh, so that the image runs.
    #[must_use]
    pub fn runnable(self) -> Self {
        let busybox = fs::read(require("busybox")).expect("busybox was just found");
        self.layer(|tar| {
            tar.directory("bin");
            tar.entry("bin/busybox", EntryType::Regular, 0o755, "", &busybox);
            for applet in ["cat", "echo", "sh", "sleep", "true", "wc"] {
                tar.entry(&format!("bin/{applet}"), EntryType::Symlink, 0o777, "busybox", b"");
            }
            ["dev", "etc", "proc", "sys", "tmp"].into_iter().for_each(|name| tar.directory(name));
        })
        .with("Cmd", json!(["sh"]))
    }

    /// A field of the configuration, such as `Cmd` or `Labels`.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.config[field] = value;
        self
    }

    /// RFC 3339.
    #[must_use]
    pub fn created(mut self, time: &str) -> Self {
        time.clone_into(&mut self.created);
        self
    }

    /// Adds it to the OCI layout, which is made where it is missing, under `name`, in the way other tools do it:
    /// without a lock and without annotations of sbx. Gives the image's ID.
    pub fn write(&self, layout: &Path, name: &str) -> String {
        fs::create_dir_all(layout.join("blobs/sha256")).expect("cannot make a layout");
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("cannot write");
        let put = |media_type: &str, bytes: &[u8]| {
            let digest = sha256(bytes);
            fs::write(layout.join("blobs/sha256").join(&digest), bytes).expect("cannot write a blob");
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
        };
        let layers: Vec<Value> =
            self.layers.iter().map(|tar| put("application/vnd.oci.image.layer.v1.tar", tar)).collect();
        let step = |at: usize| json!({"created": self.created, "created_by": format!("step {at}")});
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": self.created,
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| &layer["digest"]).collect::<Vec<_>>()},
            "history": (0..layers.len()).map(step).collect::<Vec<_>>(),
        });
        let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let id = config["digest"].as_str().expect("a digest").replace("sha256:", "");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        let mut manifest = put("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        manifest["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        let path = layout.join("index.json");
        let mut index = fs::read(&path).map_or_else(
            |_| json!({"schemaVersion": 2, "manifests": []}),
            |text| serde_json::from_slice(&text).expect("JSON"),
        );
        index["manifests"].as_array_mut().expect("manifests").push(manifest);
        fs::write(path, index.to_string()).expect("cannot write the index");
        id
    }

    /// Loads it into the world's store under `name`; gives the image's ID.
    pub fn load(&self, world: &Sbx, name: &str) -> String {
        let layout = fresh_directory(world);
        let id = self.write(&layout, name);
        world.sbx(["load", "-q", "-i"]).arg(&layout).expect_code(0);
        id
    }
}

impl LayerTar {
    pub fn file(&mut self, name: &str, content: impl AsRef<[u8]>) {
        self.entry(name, EntryType::Regular, 0o644, "", content.as_ref());
    }

    pub fn directory(&mut self, name: &str) {
        self.entry(&format!("{name}/"), EntryType::Directory, 0o755, "", b"");
    }

    /// Hides what lower layers have under `name`.
    pub fn whiteout(&mut self, name: &str) {
        let (parent, last) = name.rsplit_once('/').map_or(("", name), |(parent, last)| (parent, last));
        self.file(format!("{parent}/.wh.{last}").trim_start_matches('/'), "");
    }

    pub fn entry(&mut self, name: &str, kind: EntryType, mode: u32, link: &str, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        if link.is_empty() {
            self.0.append_data(&mut header, name, content).expect("a Vec takes all");
        } else {
            self.0.append_link(&mut header, name, link).expect("a Vec takes all");
        }
    }
}

fn fresh_directory(world: &Sbx) -> PathBuf {
    tempfile::Builder::new()
        .prefix("layout.")
        .tempdir_in(world.work())
        .expect("cannot make a directory")
        .keep()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
