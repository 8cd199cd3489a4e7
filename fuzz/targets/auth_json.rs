//! auth.json and config.json: what is read can be changed and is read again the same; a password that is put in comes
//! out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::image::auth::file::{AuthFile, Entry};
use sbx::image::auth::{Credentials, key};

fuzz_target!(|text: &str| {
    let _ = key(text);
    let Ok(mut file) = AuthFile::parse(text, "auth.json") else { return };
    for name in ["a.io", "docker.io", "a.io/b"] {
        let _ = (file.get(name), file.has(name), file.helper_of(name));
    }
    let _ = file.helpers();
    let credentials = Credentials::Password { user: "me".to_owned(), password: "a:b".to_owned() };
    file.put("a.io", &Entry::of(&credentials));
    let again = AuthFile::parse(&file.text(), "auth.json").expect("what was written can be read");
    assert!(again.get("a.io").expect("a sound entry") == Some(credentials));
    let mut empty = again;
    empty.remove("a.io");
    assert!(!empty.has("a.io"));
});
