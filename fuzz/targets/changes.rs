//! `--change`: instructions that are taken leave a configuration that can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::image::changes;
use sbx::image::documents::RunConfig;

fuzz_target!(|text: &str| {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut config = RunConfig::default();
    if changes::apply(&lines, &mut config).is_ok() {
        let written = serde_json::to_string(&config).expect("a configuration can be written");
        let again: RunConfig = serde_json::from_str(&written).expect("and read");
        assert_eq!(again, config);
    }
});
