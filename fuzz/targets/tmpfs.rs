//! `--tmpfs`: whatever is taken has an absolute target.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(mount) = sbx::container::volume::parse_tmpfs(text) {
        assert!(mount.target.is_absolute(), "{mount:?}");
    }
});
