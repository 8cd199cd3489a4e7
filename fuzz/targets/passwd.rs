//! /etc/passwd and /etc/group out of an image, read to find `--user`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::container::user;

fuzz_target!(|text: &[u8]| {
    user::passwd_entries(text).for_each(drop);
    user::group_entries(text).for_each(drop);
    let _ = user::resolve(Some("user:staff"), &["wheel".to_owned()], text, text, None);
});
