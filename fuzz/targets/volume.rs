//! `-v`: whatever is taken has an absolute target.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sbx::container::volume::{Context, parse_volume};

fuzz_target!(|text: &str| {
    let context = Context { cwd: Path::new("/work"), root: Path::new("/nonexistent") };
    if let Ok(mount) = parse_volume(text, context) {
        assert!(mount.target.is_absolute(), "{mount:?}");
    }
});
