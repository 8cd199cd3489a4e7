//! The `manifest.json` of a docker archive: what is read has names that stay names.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::image::transfer::archive::docker;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(items) = docker::items(bytes) {
        for item in items {
            for name in item.names().unwrap_or_default() {
                let again = sbx::image::reference::Reference::parse(&name.to_string()).expect("a name is a name");
                assert_eq!(again, name);
            }
        }
    }
});
