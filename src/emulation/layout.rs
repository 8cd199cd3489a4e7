//! The structures that the stat family writes, for each architecture.

use crate::seccomp::arch::Arch;

/// `struct stat` as the calls of the architecture write it (asm/stat.h); none for 32-bit ARM.
pub fn stat(arch: Arch, found: &libc::statx) -> Option<Vec<u8>> {
    match arch {
        Arch::X86_64 | Arch::X32 => Some(x86_64(found)),
        Arch::Aarch64 | Arch::Riscv64 => Some(generic(found)),
        Arch::X86 => Some(x86(found)),
        Arch::Arm => None,
    }
}

/// new_encode_dev of linux/kdev_t.h.
fn device(major: u32, minor: u32) -> u64 {
    u64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

struct Writer(Vec<u8>);

impl Writer {
    fn word(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }
}

fn x86_64(s: &libc::statx) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(144));
    to.long(device(s.stx_dev_major, s.stx_dev_minor)).long(s.stx_ino).long(s.stx_nlink.into());
    to.word(s.stx_mode.into()).word(s.stx_uid).word(s.stx_gid).word(0);
    to.long(device(s.stx_rdev_major, s.stx_rdev_minor));
    to.long(s.stx_size).long(s.stx_blksize.into()).long(s.stx_blocks);
    for time in [&s.stx_atime, &s.stx_mtime, &s.stx_ctime] {
        to.long(time.tv_sec.cast_unsigned()).long(time.tv_nsec.into());
    }
    to.long(0).long(0).long(0);
    to.0
}

fn generic(s: &libc::statx) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(128));
    to.long(device(s.stx_dev_major, s.stx_dev_minor)).long(s.stx_ino);
    to.word(s.stx_mode.into()).word(s.stx_nlink).word(s.stx_uid).word(s.stx_gid);
    to.long(device(s.stx_rdev_major, s.stx_rdev_minor)).long(0);
    to.long(s.stx_size).word(s.stx_blksize).word(0).long(s.stx_blocks);
    for time in [&s.stx_atime, &s.stx_mtime, &s.stx_ctime] {
        to.long(time.tv_sec.cast_unsigned()).long(time.tv_nsec.into());
    }
    to.word(0).word(0);
    to.0
}

/// stat64 of i386.
fn x86(s: &libc::statx) -> Vec<u8> {
    let mut to = Writer(Vec::with_capacity(96));
    to.long(device(s.stx_dev_major, s.stx_dev_minor)).word(0).word(s.stx_ino as u32);
    to.word(s.stx_mode.into()).word(s.stx_nlink).word(s.stx_uid).word(s.stx_gid);
    to.long(device(s.stx_rdev_major, s.stx_rdev_minor)).word(0);
    to.long(s.stx_size).word(s.stx_blksize).long(s.stx_blocks);
    for time in [&s.stx_atime, &s.stx_mtime, &s.stx_ctime] {
        to.word(time.tv_sec as u32).word(time.tv_nsec);
    }
    to.long(s.stx_ino);
    to.0
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::sys::remote;

    #[test]
    fn the_native_structure_is_what_the_kernel_writes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        let found = remote::status(file.as_file().as_fd(), 0, libc::STATX_BASIC_STATS).unwrap();
        let bytes = stat(Arch::native().unwrap(), &found).unwrap();
        assert_eq!(bytes.len(), size_of::<libc::stat>());
        let real = std::fs::metadata(file.path()).unwrap();
        let at = |offset: usize| u64::from_ne_bytes(bytes[offset..offset + 8].try_into().unwrap());
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_dev)), real.dev());
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_ino)), real.ino());
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_size)), 5);
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_blocks)), real.blocks());
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_mtime)), real.mtime().cast_unsigned());
        assert_eq!(at(std::mem::offset_of!(libc::stat, st_ctime_nsec)), real.ctime_nsec().cast_unsigned());
        let word = |offset: usize| u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap());
        assert_eq!(word(std::mem::offset_of!(libc::stat, st_mode)), real.mode());
        assert_eq!(word(std::mem::offset_of!(libc::stat, st_uid)), real.uid());
    }

    #[test]
    fn other_structures_have_their_lengths() {
        let file = tempfile::tempfile().unwrap();
        let found = remote::status(file.as_fd(), 0, libc::STATX_BASIC_STATS).unwrap();
        let length = |arch| stat(arch, &found).map(|bytes| bytes.len());
        assert_eq!(length(Arch::X86_64), Some(144));
        assert_eq!(length(Arch::X86), Some(96));
        assert_eq!(length(Arch::Aarch64), Some(128));
        assert_eq!(length(Arch::Arm), None);
    }
}
