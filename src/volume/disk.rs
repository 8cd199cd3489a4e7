//! What volumes take on the disk.

use std::collections::BTreeMap;

use super::VolumeStore;
use super::store::canonical_identity;
use crate::container::disk;

/// The bytes in each of the volumes of these names.
pub fn sizes(volumes: &VolumeStore, names: &[String]) -> BTreeMap<String, u64> {
    let mut identity = None;
    let mut sizes = BTreeMap::new();
    for name in names {
        let data = volumes.directory(name).data();
        let size = disk::below(&data, || {
            if identity.is_none() {
                identity = canonical_identity().ok();
            }
            identity.clone()
        });
        sizes.insert(name.clone(), size);
    }
    sizes
}
