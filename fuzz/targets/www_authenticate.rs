//! The header WWW-Authenticate: whatever it is, it ends, and no token server is without a name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::registry::challenge::{Challenge, parse};

fuzz_target!(|text: &str| {
    for challenge in parse(text) {
        if let Challenge::Bearer { realm, .. } = challenge {
            assert!(!realm.is_empty());
        }
    }
});
