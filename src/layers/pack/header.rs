//! Headers of tar entries: ustar, with PAX records for what does not fit (pax(1p), ustar Interchange Format).

use tar::{EntryType, Header};

use crate::layers::unpack::archive::Time;

pub const BLOCK: usize = 512;
/// The field for names, without the prefix that only some programs read right.
const LONGEST_NAME: usize = 100;
/// Seven octal digits.
const HIGHEST_ID: u32 = 0o7_777_777;
/// Eleven octal digits.
const LARGEST_SIZE: u64 = 0o77_777_777_777;

/// What an entry says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub kind: EntryType,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Time,
    pub device: (u32, u32),
    /// Bytes of data in the archive.
    pub size: u64,
    /// PAX records beyond those for what does not fit.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Description {
    /// The header with what precedes it, in whole blocks. The same description gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let records = self.all_records();
        let mut bytes = Vec::with_capacity(BLOCK);
        if !records.is_empty() {
            let mut header = self.plain(EntryType::XHeader, b"././@PaxHeader", b"");
            header.set_mode(0o644);
            header.set_size(records.len() as u64);
            seal(&mut header);
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        let mut header = self.plain(self.kind, &self.name, &self.link);
        header.set_mode(self.mode & 0o7777);
        header.set_uid(self.uid.min(HIGHEST_ID).into());
        header.set_gid(self.gid.min(HIGHEST_ID).into());
        header.set_size(self.size.min(LARGEST_SIZE));
        header.set_mtime(u64::try_from(self.modified.seconds).unwrap_or(0).min(LARGEST_SIZE));
        if matches!(self.kind, EntryType::Char | EntryType::Block)
            && let Some(ustar) = header.as_ustar_mut()
        {
            ustar.set_device_major(self.device.0);
            ustar.set_device_minor(self.device.1);
        }
        seal(&mut header);
        bytes.extend_from_slice(header.as_bytes());
        bytes
    }

    fn plain(&self, kind: EntryType, name: &[u8], link: &[u8]) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let old = header.as_old_mut();
        let short = &name[..name.len().min(LONGEST_NAME)];
        old.name[..short.len()].copy_from_slice(short);
        let short = &link[..link.len().min(LONGEST_NAME)];
        old.linkname[..short.len()].copy_from_slice(short);
        header
    }

    fn all_records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| records.extend(record(key, value));
        if self.name.len() > LONGEST_NAME {
            add(b"path", &self.name);
        }
        if self.link.len() > LONGEST_NAME {
            add(b"linkpath", &self.link);
        }
        if self.size > LARGEST_SIZE {
            add(b"size", self.size.to_string().as_bytes());
        }
        if self.uid > HIGHEST_ID {
            add(b"uid", self.uid.to_string().as_bytes());
        }
        if self.gid > HIGHEST_ID {
            add(b"gid", self.gid.to_string().as_bytes());
        }
        if self.modified.nanoseconds != 0
            || !(0..=LARGEST_SIZE.cast_signed()).contains(&self.modified.seconds)
        {
            add(b"mtime", decimal(self.modified).as_bytes());
        }
        for (key, value) in &self.records {
            add(key, value);
        }
        records
    }
}

fn seal(header: &mut Header) {
    header.set_cksum();
}

/// Seconds with as many digits behind the point as they need.
fn decimal(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds, time.nanoseconds) {
        (seconds @ 0.., nanoseconds) => ("", seconds.unsigned_abs(), nanoseconds),
        (seconds, 0) => ("-", seconds.unsigned_abs(), 0),
        // -2 s and 0.5 s are -1.5 s.
        (seconds, nanoseconds) => ("-", seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        assert_eq!(record(b"k", b"v"), b"6 k=v\n");
        assert_eq!(record(b"k", b"12345"), b"11 k=12345\n");
        for length in 80..130 {
            let record = record(b"key", &vec![b'x'; length]);
            let said: usize = String::from_utf8_lossy(&record).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }

    #[test]
    fn times_are_decimal_and_as_short_as_can_be() {
        let time = |seconds, nanoseconds| decimal(Time { seconds, nanoseconds });
        assert_eq!(time(5, 0), "5");
        assert_eq!(time(10, 250_000_000), "10.25");
        assert_eq!(time(-2, 500_000_000), "-1.5");
        assert_eq!(time(-1, 999_999_999), "-0.000000001");
        assert_eq!(time(-10, 0), "-10");
    }
}
