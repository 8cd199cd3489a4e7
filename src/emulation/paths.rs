//! Finding the file that a call names, as the calling process would find it, and never outside its root.
//!
//! Where that is not certain (links of /proc, whose meaning depends on who looks; directories without a path)
//! nothing is found, and the kernel has its way.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::target::Target;

/// The directory that a path is relative to.
fn base(at: i32) -> String {
    if at == libc::AT_FDCWD { "cwd".to_owned() } else { format!("fd/{at}") }
}

/// The file of a descriptor, or the working directory for AT_FDCWD.
pub fn descriptor(target: &Target<'_>, at: i32) -> Option<OwnedFd> {
    let found = target.open(&base(at))?;
    target.is_waiting().then_some(found)
}

/// The file at `path`, as an O_PATH descriptor.
pub fn find(target: &Target<'_>, at: i32, path: &CStr, follow: bool) -> Option<OwnedFd> {
    if path.is_empty() {
        return None;
    }
    let more = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
    if path.to_bytes()[0] == b'/' {
        let root = target.open("root")?;
        return target.is_waiting().then(|| resolve(&root, path, more, ResolveFlags::IN_ROOT).ok()).flatten();
    }
    let directory = target.open(&base(at))?;
    if !target.is_waiting() {
        return None;
    }
    match resolve(&directory, path, more, ResolveFlags::BENEATH) {
        Ok(found) => Some(found),
        // The way leads over `..` or an absolute link.
        Err(Errno::XDEV) => {
            let absolute = absolute(target, at, path)?;
            let root = target.open("root")?;
            target.is_waiting().then(|| resolve(&root, &absolute, more, ResolveFlags::IN_ROOT).ok()).flatten()
        }
        Err(_) => None,
    }
}

/// The directory in which a new file is to be made, and the file's name.
pub fn find_parent(target: &Target<'_>, at: i32, path: &CStr) -> Option<(OwnedFd, CString)> {
    let text = path.to_bytes();
    let (parent, name) = match text.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (&b"/"[..], &text[1..]),
        Some(slash) => (&text[..slash], &text[slash + 1..]),
        None => (&b"."[..], text),
    };
    if name.is_empty() || name == b"." || name == b".." {
        return None;
    }
    let parent = find(target, at, &CString::new(parent).ok()?, true)?;
    Some((parent, CString::new(name).ok()?))
}

fn resolve(base: &OwnedFd, path: &CStr, more: OFlags, within: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | more;
    let resolve = within | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename ran beside a look-up of `..` (openat2(2), ERRORS).
    for _ in 0..16 {
        match rustix::fs::openat2(base.as_fd(), path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// The path from the caller's root; none where its base has none there.
fn absolute(target: &Target<'_>, at: i32, path: &CStr) -> Option<CString> {
    let root = target.read_link("root")?;
    let base = target.read_link(&base(at))?;
    let (root, base) = (Path::new(OsStr::from_bytes(&root)), Path::new(OsStr::from_bytes(&base)));
    let from_root = base.strip_prefix(root).ok()?;
    if !base.is_absolute() || base.as_os_str().as_bytes().ends_with(b" (deleted)") {
        return None;
    }
    let joined = Path::new("/").join(from_root).join(OsStr::from_bytes(path.to_bytes()));
    // A trailing slash says that a directory is meant, and the path type has dropped it.
    let mut text = joined.into_os_string().into_encoded_bytes();
    if path.to_bytes().ends_with(b"/") && !text.ends_with(b"/") {
        text.push(b'/');
    }
    CString::new(text).ok()
}
