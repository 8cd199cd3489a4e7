//! The file of events, torn or written by somebody else: what is an event can be printed in every way, on one line,
//! without commanding the terminal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::events::filter::Filters;
use sbx::events::{Event, document};

fuzz_target!(|bytes: &[u8]| {
    let filters = ["container=a", "image=a", "label=a=b", "volume=a", "pod=a"].map(|filter| {
        Filters::parse(&[filter.to_owned()]).expect("a sound filter")
    });
    for event in bytes.split(|byte| *byte == b'\n').filter_map(Event::parse) {
        let line = document::line(&event, true);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!document::json(&event).to_string().contains('\n'));
        let _ = document::for_template(&event);
        for filter in &filters {
            let _ = filter.fit(&event);
        }
    }
});
