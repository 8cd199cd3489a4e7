//! /etc/subuid and the answer of getsubids: no range that is taken overlaps another or wraps around.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::identity::subid;

fuzz_target!(|text: &str| {
    if let Ok(ranges) = subid::parse(text, |owner| owner == "user" || owner == "1000") {
        for (index, range) in ranges.iter().enumerate() {
            assert!(range.count > 0 && range.start.checked_add(range.count - 1).is_some());
            for other in &ranges[..index] {
                let apart = other.start > range.start + (range.count - 1)
                    || range.start > other.start + (other.count - 1);
                assert!(apart, "{range:?} overlaps {other:?}");
            }
        }
    }
    let _ = subid::parse_getsubids(text);
});
