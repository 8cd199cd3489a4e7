//! Names of images: what is read is written so that it is read the same, in the long and in the short form, and no
//! part of it leaves a directory. The documents of registries are told apart without an end to the program.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::image::reference::Reference;
use sbx::registry::kind_of;

fuzz_target!(|text: &str| {
    let _ = kind_of(None, text.as_bytes());
    let _ = kind_of(Some(text), b"{}");
    let Ok(reference) = Reference::parse(text) else { return };
    for written in [reference.to_string(), reference.familiar()] {
        assert_eq!(Reference::parse(&written).expect("what was written can be read"), reference, "{written}");
    }
    assert!(reference.path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
    let _ = Reference::is_short(text);
});
