//! `--device HOST[:CONTAINER][:PERMISSIONS]`.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::spec::Device;
use crate::error::{Error, Result, Step};

/// How deep a directory given as a device is searched for nodes; /dev/snd/by-path is two deep.
const MAX_DEPTH: usize = 4;

/// Reads one `--device`. Without a container path the host's is taken; permissions are `rwm` unless given.
///
/// # Errors
/// Names the part that is wrong. Whether the node exists is asked by [`resolve`].
pub fn parse(text: &str) -> Result<Device> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `--device {text}`")).because(cause).hint(
            "write `--device /dev/fuse`, `--device /dev/sda:/dev/xvda` or `--device /dev/kvm:/dev/kvm:rw`",
        )
    };
    if text.contains('\0') {
        return Err(wrong("it contains a NUL byte".to_owned()));
    }
    let mut parts = text.splitn(4, ':');
    let host = parts.next().unwrap_or_default();
    let (container, permissions) = match (parts.next(), parts.next(), parts.next()) {
        (_, _, Some(more)) => return Err(wrong(format!("`{more}` is one part too many"))),
        (Some(path), Some(permissions), None) => (path, permissions),
        (Some(second), None, None) if second.starts_with('/') => (second, "rwm"),
        (Some(second), None, None) => (host, second),
        (None, ..) => (host, "rwm"),
    };
    for path in [host, container] {
        if !path.starts_with('/') {
            return Err(wrong(format!("`{path}` is not an absolute path")));
        }
        if path.len() >= libc::PATH_MAX as usize {
            return Err(wrong("a path is longer than 4095 bytes".to_owned()));
        }
    }
    if Path::new(container).file_name().is_none() {
        return Err(wrong(format!("`{container}` cannot be a device in the container")));
    }
    permission(permissions).map_err(wrong)?;
    Ok(Device { host: plain(host), container: plain(container) })
}

/// Drops doubled slashes and `.`; `..` stays, because only the kernel knows where it leads.
fn plain(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

/// Without root there is no device controller to take permissions away with, and a read-only mount of a node
/// does not keep anybody from writing to the device behind it.
fn permission(text: &str) -> std::result::Result<(), String> {
    if let Some(unknown) = text.chars().find(|c| !"rwm".contains(*c)) {
        return Err(format!("`{unknown}` in `{text}` is not a permission: r, w and m are"));
    }
    if let Some(twice) = ['r', 'w', 'm'].into_iter().find(|c| text.matches(*c).count() > 1) {
        return Err(format!("`{twice}` is given twice in `{text}`"));
    }
    for (letter, what) in [('r', "reading"), ('w', "writing")] {
        if !text.contains(letter) {
            return Err(format!(
                "`{text}` leaves out `{letter}`, and {what} cannot be taken away without root"
            ));
        }
    }
    Ok(())
}

/// Looks the node up on the host. A directory stands for every device node below it, as in docker.
///
/// # Errors
/// The path is missing, unreadable, or no device; a directory without any device.
pub fn resolve(device: &Device) -> Result<Vec<Device>> {
    let host = &device.host;
    let what = || format!("cannot use the device `{}`", host.display());
    let kind = std::fs::metadata(host).step(what)?.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        return Ok(vec![device.clone()]);
    }
    if !kind.is_dir() {
        return Err(Error::new(what())
            .because("it is not a device")
            .hint(format!("for a file or directory write `-v {0}:{0}`", host.display())));
    }
    let mut found = Vec::new();
    collect(device, MAX_DEPTH, &mut found).step(what)?;
    if found.is_empty() {
        return Err(Error::new(what()).because("no device is in that directory"));
    }
    found.sort_by(|a, b| a.container.cmp(&b.container));
    Ok(found)
}

fn collect(directory: &Device, depth: usize, found: &mut Vec<Device>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(&directory.host)? {
        let entry = entry?;
        let below = Device { host: entry.path(), container: directory.container.join(entry.file_name()) };
        let kind = entry.file_type()?;
        if kind.is_char_device() || kind.is_block_device() {
            found.push(below);
        } else if kind.is_dir() && depth > 1 {
            collect(&below, depth - 1, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(host: &str, container: &str) -> Device {
        Device { host: host.into(), container: container.into() }
    }

    #[test]
    fn one_to_three_parts() {
        for (text, expected) in [
            ("/dev/fuse", device("/dev/fuse", "/dev/fuse")),
            ("/dev//./fuse", device("/dev/fuse", "/dev/fuse")),
            ("/dev/sda:/dev/xvda", device("/dev/sda", "/dev/xvda")),
            ("/dev/sda:rw", device("/dev/sda", "/dev/sda")),
            ("/dev/sda:mwr", device("/dev/sda", "/dev/sda")),
            ("/dev/sda:/dev/xvda:rwm", device("/dev/sda", "/dev/xvda")),
            ("/dev/sda:/dev/xvda:rw", device("/dev/sda", "/dev/xvda")),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn each_wrong_part_is_named() {
        for (text, cause) in [
            ("", "`` is not an absolute path"),
            ("dev/fuse", "`dev/fuse` is not an absolute path"),
            ("vendor.com/gpu=all", "is not an absolute path"),
            ("/dev/a:x", "`x` in `x` is not a permission"),
            ("/dev/a:dev/b:r", "`dev/b` is not an absolute path"),
            ("/dev/a:/dev/b:", "leaves out `r`"),
            ("/dev/a:", "leaves out `r`"),
            ("/dev/a:w", "leaves out `r`"),
            ("/dev/a:r", "leaves out `w`, and writing cannot be taken away without root"),
            ("/dev/a:/dev/b:rm", "leaves out `w`"),
            ("/dev/a:rr", "`r` is given twice"),
            ("/dev/a:/dev/b:r:w", "`w` is one part too many"),
            ("/dev/a:/dev/b:é", "`é` in `é`"),
            ("/dev/a:/", "`/` cannot be a device"),
            ("/dev/a:/dev/..", "cannot be a device"),
            ("/dev/a\0b", "NUL"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.causes()[0].contains(cause), "{text}: {error}");
        }
        assert!(parse(&format!("/{}", "a".repeat(5000))).is_err());
    }

    #[test]
    fn nodes_are_found_and_other_files_refused() {
        let null = device("/dev/null", "/dev/null");
        assert_eq!(resolve(&null).unwrap(), [null]);
        let missing = resolve(&device("/dev/no-such", "/dev/x")).unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = resolve(&device(file.path().to_str().unwrap(), "/dev/x")).unwrap_err();
        assert!(error.causes()[0].contains("not a device"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = resolve(&device(empty.path().to_str().unwrap(), "/dev/x")).unwrap_err();
        assert!(error.causes()[0].contains("no device"), "{error}");
    }
}
