//! The JSON documents of images, as any registry or archive may have them: what is understood is written again and
//! understood the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::image::documents::{ImageConfig, Index, Manifest, chain_ids, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn round_trip<T: DeserializeOwned + Serialize>(json: &[u8]) -> Option<T> {
    let document: T = parse("a document", json).ok()?;
    let text = serde_json::to_vec(&document).expect("what was read can be written");
    let again: T = parse("a document", &text).expect("what was written can be read");
    let same = serde_json::to_vec(&again).expect("what was read can be written");
    assert_eq!(text, same);
    Some(document)
}

fuzz_target!(|json: &[u8]| {
    round_trip::<Index>(json);
    round_trip::<Manifest>(json);
    if let Some(config) = round_trip::<ImageConfig>(json) {
        chain_ids(&config.rootfs.diff_ids);
    }
});
