//! An ignore file and, after an empty line, a path: a walk down to the path agrees with the question for it, and never
//! leaves out what an exception brings back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::build::dockerfile::ignore::{Ignore, Verdict};

fuzz_target!(|text: &str| {
    let Some((patterns, path)) = text.split_once("\n\n") else { return };
    let Ok(ignore) = Ignore::read(".dockerignore", patterns) else { return };
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    let Some((last, above)) = parts.split_last() else { return };
    let whole = parts.join("/");
    let ignored = ignore.ignores(&whole);
    if ignore.hides(&whole) {
        assert!(ignored);
        assert!(ignore.ignores(&format!("{whole}/below")), "{patterns:?} {whole:?}");
    }
    let mut directory = ignore.root();
    for part in above {
        match directory.enter(&ignore, part) {
            Verdict::Taken(next) | Verdict::Searched(next) => directory = next,
            Verdict::Ignored => return assert!(ignored, "{patterns:?} {whole:?}"),
        }
    }
    assert_eq!(directory.takes(&ignore, last), !ignored, "{patterns:?} {whole:?}");
});
