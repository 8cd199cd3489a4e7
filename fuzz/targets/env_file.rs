//! `--env-file`: every variable that comes out has a name and no NUL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::container::env::{Defaults, merge};

fuzz_target!(|text: &[u8]| {
    let files = [("file".to_owned(), text.to_vec())];
    let caller = [("CALLER".to_owned(), "value".to_owned())];
    if let Ok(variables) = merge(&[], &files, &[], &caller, Defaults::default()) {
        for variable in variables {
            let (name, _) = variable.split_once('=').expect("NAME=VALUE");
            assert!(!name.is_empty() && !variable.contains('\0'), "{variable:?}");
        }
    }
});
