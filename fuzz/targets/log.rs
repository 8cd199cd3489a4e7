//! Files of a log, which belong to the user: no panic, and no more text than is in them.
#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use sbx::container::spec::LogDriver;
use sbx::logs::{Entry, Reader};

fn read(reader: &mut Reader) -> usize {
    let mut texts = 0;
    let mut sink = |entry: Entry<'_>| texts += entry.text.len();
    reader.read(&mut sink, &mut || ControlFlow::Continue(())).map(drop).expect("a file can be read");
    reader.finish(&mut sink).expect("a file can be read");
    texts
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let driver = if choice & 1 == 0 { LogDriver::K8sFile } else { LogDriver::JsonFile };
    let directory = std::env::temp_dir().join(format!("sbx-fuzz-log-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("log");
    let (older, newer) = data.split_at(data.len() / 2);
    std::fs::write(directory.join("log.1"), older).expect("a file");
    std::fs::write(&path, newer).expect("a file");
    let open = || Reader::at(path.clone(), driver, 3).expect("a driver that keeps something");
    let whole = read(&mut open());
    // JSON may write a character in more bytes than it has, never in fewer.
    assert!(whole <= data.len());
    let mut reader = open();
    reader.seek_tail(u64::from(*choice >> 1)).expect("a file can be read");
    assert!(read(&mut reader) <= whole);
});
