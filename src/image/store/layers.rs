//! The unpacked layers, under whichever key they are.

use std::path::PathBuf;

use super::{Image, ImageStore};
use crate::image::digest::Digest;
use crate::layers::store::{LayerStore, MapKey};

impl ImageStore {
    /// One for each way of keeping owners that the store has layers of.
    pub fn layer_stores(&self) -> Vec<LayerStore> {
        let keys = std::fs::read_dir(self.layers()).into_iter().flatten().flatten();
        let keys = keys.filter_map(|entry| MapKey::from_record(entry.file_name().to_str()?));
        keys.map(|key| LayerStore::new(self.root(), &key)).collect()
    }

    /// Bytes of each layer of the image, the lowest first: unpacked where it is unpacked, else its blob's.
    pub fn layer_sizes(&self, image: &Image) -> Vec<u64> {
        let stores = self.layer_stores();
        let each = image.config.rootfs.diff_ids.iter().zip(&image.document.layers);
        each.map(|(diff_id, blob)| {
            let facts = stores.iter().find_map(|layers| layers.facts(diff_id).ok());
            facts.map_or(blob.size, |facts| facts.size)
        })
        .collect()
    }

    /// The files of each layer that is unpacked, the lowest first.
    pub fn layer_paths(&self, diff_ids: &[Digest]) -> Vec<PathBuf> {
        let stores = self.layer_stores();
        let of = |diff_id: &Digest| Some(stores.iter().find(|layers| layers.has(diff_id))?.path(diff_id));
        diff_ids.iter().filter_map(of).collect()
    }
}
