//! A seccomp profile in docker's JSON format, as a stranger may have written it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let _ = sbx::seccomp::profile::parse(json);
});
