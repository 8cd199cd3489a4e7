//! Any bytes as a packed stream: what is unpacked of it is bounded by who reads.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use sbx::layers::compression::{Compression, decompress_detected};

fuzz_target!(|packed: &[u8]| {
    let Ok((kind, reader)) = decompress_detected(packed) else { return };
    let mut plain = Vec::new();
    let read = reader.take(1 << 20).read_to_end(&mut plain);
    if kind == Compression::None {
        assert!(read.is_ok() && plain == packed[..packed.len().min(1 << 20)]);
    }
});
