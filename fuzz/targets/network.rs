//! `--network` with its options, and `--mac-address`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let values: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = sbx::network::mode::parse(&values);
    let _ = sbx::network::mode::check_mac_address(text);
});
