//! Variables in a word: the first line is the value of `V`, the rest is expanded. Without `$`, quotes and escapes
//! nothing changes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::build::dockerfile::expand::{Syntax, expand};

fuzz_target!(|text: &str| {
    let (value, text) = text.split_once('\n').unwrap_or(("value", text));
    let variable = |name: &str| (name == "V").then_some(value);
    for escape in ['\\', '`'] {
        if let Ok(expanded) = expand(text, Syntax::words(escape), variable) {
            assert!(expanded.words.iter().all(|word| !word.is_empty()));
            if !text.contains(['$', '\'', '"', escape]) {
                assert_eq!(expanded.text, text);
                assert!(expanded.words.iter().map(String::as_str).eq(text.split_whitespace()));
            }
        }
    }
    if let Ok(expanded) = expand(text, Syntax::content(), variable)
        && !text.contains(['$', '\\'])
    {
        assert_eq!(expanded.text, text);
    }
});
