//! Any bytes as an archive: nothing outside of the layer changes, and no more is read than is there.
#![no_main]

use std::fs;
use std::os::unix::fs::MetadataExt;

use libfuzzer_sys::fuzz_target;
use sbx::image::digest::Digest;
use sbx::layers::unpack::{Keep, Limits, unpack};

fuzz_target!(|archive: &[u8]| {
    let place = std::env::temp_dir().join(format!("sbx-fuzz-unpack-{}", std::process::id()));
    let (root, outside) = (place.join("fs"), place.join("outside"));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&root).expect("a directory for the layer");
    fs::create_dir(&outside).expect("a directory beside it");
    fs::write(outside.join("file"), "untouched").expect("a file beside it");
    let before = outside.join("file").metadata().expect("the file").ctime_nsec();
    let limits = Limits { bytes: 1 << 24, entries: 1000, names: 1 << 20 };
    let layer = fs::File::open(&root).expect("the layer").into();
    if let Ok(unpacked) = unpack(layer, &mut { archive }, Keep::Attributes, &limits) {
        assert_eq!(unpacked.digest, Digest::of(archive));
        let index = unpacked.owners.to_bytes();
        assert_eq!(sbx::layers::owners::Owners::parse(&index), Some(unpacked.owners));
    }
    let names = |path| fs::read_dir(path).expect("a directory").count();
    assert_eq!((names(&place), names(&outside)), (2, 1));
    let after = outside.join("file").metadata().expect("the file");
    assert_eq!((after.nlink(), after.ctime_nsec()), (1, before), "the file beside was touched");
    assert_eq!(fs::read(outside.join("file")).expect("the file"), b"untouched");
});
