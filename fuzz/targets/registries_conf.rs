//! registries.conf: a configuration that is read gives names and places that are sound, or says why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::image::reference::Reference;
use sbx::image::registries::{Registries, file};

fuzz_target!(|text: &str| {
    let Ok(parsed) = file::parse(text, "registries.conf") else { return };
    let mut registries = Registries::default();
    registries.override_with(parsed);
    for name in ["ubuntu", "a.io/b:1", "x.a.io/b/c", "localhost:5000/a"] {
        let Ok(found) = registries.resolve_short(name) else { continue };
        for reference in found {
            assert!(reference.tag.is_some() || reference.digest.is_some());
            assert!(Reference::parse(&reference.to_string()).is_ok(), "{reference}");
            for place in registries.places(&reference).unwrap_or_default() {
                let whole = format!("{}/{}", place.domain, place.path);
                assert!(Reference::parse(&whole).is_ok(), "{whole}");
            }
        }
    }
});
