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
    if let Some((link, rest)) = own_link(path.to_bytes()) {
        if !rest.is_empty() {
            return find_from(target, &link, &CString::new(rest).ok()?, more);
        }
        let found = follow.then(|| target.open(&link)).flatten()?;
        return target.is_waiting().then_some(found);
    }
    if path.to_bytes()[0] == b'/' {
        let root = target.open("root")?;
        return target.is_waiting().then(|| resolve(&root, path, more, ResolveFlags::IN_ROOT).ok()).flatten();
    }
    find_from(target, &base(at), path, more)
}

/// What a path says that goes by the process's own links in /proc: which link, and what comes after it. They mean
/// something else to whoever else looks.
fn own_link(path: &[u8]) -> Option<(String, &[u8])> {
    let path = match path {
        b"/dev/stdin" => b"fd/0",
        b"/dev/stdout" => b"fd/1",
        b"/dev/stderr" => b"fd/2",
        path => path
            .strip_prefix(b"/proc/self/")
            .or_else(|| path.strip_prefix(b"/proc/thread-self/"))
            .or_else(|| path.strip_prefix(b"/dev/").filter(|rest| rest.starts_with(b"fd/")))?,
    };
    let mut words = path.splitn(3, |byte| *byte == b'/');
    let (first, second) = (words.next()?, words.next());
    let number = |word: &[u8]| std::str::from_utf8(word).ok()?.parse::<u32>().ok();
    match (first, second) {
        (b"fd", Some(fd)) => Some((format!("fd/{}", number(fd)?), words.next().unwrap_or_default())),
        (b"cwd" | b"root" | b"exe", _) => {
            let link = String::from_utf8_lossy(first).into_owned();
            Some((link, path.get(first.len() + 1..).unwrap_or_default()))
        }
        _ => None,
    }
}

/// The file at `path`, which is relative to what a link of the process in /proc leads to.
fn find_from(target: &Target<'_>, base: &str, path: &CStr, more: OFlags) -> Option<OwnedFd> {
    let directory = target.open(base)?;
    if !target.is_waiting() {
        return None;
    }
    match resolve(&directory, path, more, ResolveFlags::BENEATH) {
        Ok(found) => Some(found),
        // The way leads over `..` or an absolute link.
        Err(Errno::XDEV) => {
            let absolute = absolute(target, base, path)?;
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
fn absolute(target: &Target<'_>, base: &str, path: &CStr) -> Option<CString> {
    let root = target.read_link("root")?;
    let base = target.read_link(base)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_process_itself_are_told_from_other_paths() {
        let own = |path: &'static str| {
            own_link(path.as_bytes()).map(|(link, rest)| (link, std::str::from_utf8(rest).unwrap()))
        };
        let some = |link: &str, rest| Some((link.to_owned(), rest));
        assert_eq!(own("/dev/stdout"), some("fd/1", ""));
        assert_eq!(own("/dev/fd/63"), some("fd/63", ""));
        assert_eq!(own("/proc/self/fd/5/a/b"), some("fd/5", "a/b"));
        assert_eq!(own("/proc/thread-self/cwd/../x"), some("cwd", "../x"));
        assert_eq!(own("/proc/self/exe"), some("exe", ""));
        for other in
            ["/dev/null", "/dev/fd", "/proc/self", "/proc/self/fd/x", "/proc/1/cwd", "/proc/self/maps", "a"]
        {
            assert_eq!(own(other), None, "{other}");
        }
    }
}
