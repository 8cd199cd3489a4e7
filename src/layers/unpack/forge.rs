//! Archives for tests, sound and hostile.

use tar::{EntryType, Header};

/// An archive being written.
#[derive(Default)]
pub struct Forge(Vec<u8>);

/// One entry; what is not said is root's, mode 0644 or 0755, of time 1.
pub struct Forged {
    header: Header,
    name: Vec<u8>,
    link: Vec<u8>,
    data: Vec<u8>,
    records: Vec<u8>,
}

pub fn entry(kind: EntryType, name: impl AsRef<[u8]>) -> Forged {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(0);
    Forged { header, name: name.as_ref().to_vec(), link: Vec::new(), data: Vec::new(), records: Vec::new() }
}

pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Forged {
    let mut file = entry(EntryType::Regular, name);
    file.data = data.as_ref().to_vec();
    file
}

pub fn directory(name: impl AsRef<[u8]>) -> Forged {
    entry(EntryType::Directory, name)
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Forged {
    entry(EntryType::Symlink, name).link(target)
}

pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Forged {
    entry(EntryType::Link, name).link(target)
}

impl Forged {
    pub fn link(mut self, target: impl AsRef<[u8]>) -> Self {
        self.link = target.as_ref().to_vec();
        self
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.header.set_mode(mode);
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.header.set_uid(uid);
        self.header.set_gid(gid);
        self
    }

    pub fn device(mut self, major: u32, minor: u32) -> Self {
        let _ = self.header.set_device_major(major);
        let _ = self.header.set_device_minor(minor);
        self
    }

    pub fn time(mut self, time: u64) -> Self {
        self.header.set_mtime(time);
        self
    }

    /// A PAX record.
    pub fn record(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.records.extend(crate::layers::pack::header::record(key.as_bytes(), value.as_ref()));
        self
    }
}

impl Forge {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(mut self, mut entry: Forged) -> Self {
        if entry.name.len() > 100 {
            let name = std::mem::take(&mut entry.name);
            entry = entry.record("path", &name);
        }
        if entry.link.len() > 100 {
            let link = std::mem::take(&mut entry.link);
            entry = entry.record("linkpath", &link);
        }
        if !entry.records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.set_size(entry.records.len() as u64);
            self = self.raw(header, &entry.records);
        }
        let old = entry.header.as_old_mut();
        old.name[..entry.name.len()].copy_from_slice(&entry.name);
        old.linkname[..entry.link.len()].copy_from_slice(&entry.link);
        entry.header.set_size(entry.data.len() as u64);
        self.raw(entry.header, &entry.data)
    }

    /// A header as it is, but for its checksum, and its data.
    pub fn raw(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// The entries of an archive, as they are read here.
pub fn entries(mut archive: &[u8]) -> Vec<super::archive::Entry> {
    let read = super::stream::read_ahead(&mut archive, &super::Limits::default(), |stream| {
        let mut entries = Vec::new();
        while let Some(entry) = super::archive::next(stream).unwrap() {
            super::archive::finish(stream, &entry, entry.stored).unwrap();
            entries.push(entry);
        }
        Ok(entries)
    });
    read.unwrap().0
}
