//! `--net-allow`, and what the kernel tells of packets of containers: what is read of a list is read again the same, and
//! no packet or message breaks its reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::network::bridge::allow::attributes::messages;
use sbx::network::bridge::allow::list::Item;
use sbx::network::bridge::allow::{flows, refused};

fuzz_target!(|bytes: &[u8]| {
    let _ = refused::target(bytes);
    for message in messages(bytes) {
        let _ = (refused::read(&message), flows::read(&message));
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(item) = Item::parse(text) {
        assert_eq!(Item::parse(&item.to_string()).expect("what is shown is read"), item);
    }
});
