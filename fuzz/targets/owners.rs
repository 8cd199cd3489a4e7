//! The index of recorded owners: what is read is written as it was understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::layers::owners::{Owners, Recorded};

fuzz_target!(|bytes: &[u8]| {
    if let Some(owners) = Owners::parse(bytes) {
        assert_eq!(Owners::parse(&owners.to_bytes()), Some(owners));
    }
    if let Some(recorded) = std::str::from_utf8(bytes).ok().and_then(Recorded::parse) {
        let again = Recorded::parse(&recorded.text()).expect("our own text");
        assert_eq!((again.uid, again.gid, again.mode & 0o7777), (recorded.uid, recorded.gid, recorded.mode & 0o7777));
    }
});
