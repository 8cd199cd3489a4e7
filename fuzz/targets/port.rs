//! `-p`: every port that is taken is one, and a range never grows beyond all ports.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(requests) = sbx::network::ports::parse(text) {
        assert!(!requests.is_empty() && requests.len() <= 65535);
        assert!(requests.iter().all(|request| request.container_port > 0));
    }
});
