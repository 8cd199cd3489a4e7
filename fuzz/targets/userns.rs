//! `--userns`, `--uidmap` and what /proc/PID/uid_map may say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::identity::map;
use sbx::identity::userns::{MapArg, Userns};

fuzz_target!(|text: &str| {
    let _ = text.parse::<Userns>();
    let _ = text.parse::<MapArg>();
    let _ = map::parse_proc(text);
});
