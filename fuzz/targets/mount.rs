//! `--mount`: whatever is taken has an absolute target.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sbx::container::volume::{Context, parse_mount};

fuzz_target!(|text: &str| {
    let context = Context { cwd: Path::new("/work"), root: Path::new("/nonexistent") };
    if let Ok(mount) = parse_mount(text, context) {
        assert!(mount.target.is_absolute(), "{mount:?}");
    }
});
