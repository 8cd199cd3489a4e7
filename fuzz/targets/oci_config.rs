//! A bundle's config.json, as a stranger may have written it.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sbx::oci::{config, resources};

fuzz_target!(|text: &[u8]| {
    if let Ok(described) = config::from_text(text, "id", Path::new("/bundle")) {
        let record = serde_json::to_vec(&described.spec).expect("a record");
        let read: sbx::container::spec::Spec = serde_json::from_slice(&record).expect("the same record");
        assert_eq!(read.listed.is_some(), described.spec.listed.is_some());
        let _ = resources::settings(&described.control_group.resources.unwrap_or_default());
    }
});
