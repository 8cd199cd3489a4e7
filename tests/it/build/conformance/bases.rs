//! The images that cases build on.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::harness::{Sbx, TestImage, image, images, sha256};

/// By the names that cases use.
pub struct Bases(pub [(&'static str, TestImage); 2]);

impl Bases {
    /// `base` is busybox; `configured` is busybox with something in every field of its configuration.
    pub fn new(world: &Sbx) -> Self {
        let busybox = images().busybox();
        let layout = world.directory().join("configured");
        image()
            .whole_layer(layer(&busybox.layout))
            .layer(|tar| ["srv", "srv/work", "srv/volume"].into_iter().for_each(|name| tar.directory(name)))
            .with("Env", json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "COLOUR=blue", "EMPTY=", "TWO=a b=c"]))
            .with("Entrypoint", json!(["/bin/printf", "%s,"]))
            .with("Cmd", json!(["from", "the", "image"]))
            .with("User", json!("user:staff"))
            .with("WorkingDir", json!("/srv/work"))
            .with("StopSignal", json!("SIGINT"))
            .with("Volumes", json!({"/srv/volume": {}}))
            .with("ExposedPorts", json!({"8080/tcp": {}, "5353/udp": {}}))
            .with("Labels", json!({"org.example.kind": "configured", "org.example.version": "1"}))
            .write(&layout, "latest");
        Self([("base", busybox), ("configured", TestImage { layout, tag: "latest" })])
    }

    /// Something else where one of them is another.
    pub fn key(&self) -> String {
        let index =
            |(_, image): &(_, TestImage)| fs::read(image.layout.join("index.json")).expect("an index");
        sha256(&self.0.iter().flat_map(index).collect::<Vec<u8>>())
    }
}

/// The only layer of a layout's first image.
fn layer(layout: &Path) -> Vec<u8> {
    let document = |path: &Path| -> Value {
        serde_json::from_slice(&fs::read(path).expect("a document")).expect("JSON")
    };
    let blob = |descriptor: &Value| {
        layout.join("blobs").join(descriptor["digest"].as_str().expect("a digest").replace(':', "/"))
    };
    let manifest = document(&blob(&document(&layout.join("index.json"))["manifests"][0]));
    let mut tar = Vec::new();
    let packed = File::open(blob(&manifest["layers"][0])).expect("a layer");
    GzDecoder::new(packed).read_to_end(&mut tar).expect("a layer");
    tar
}
