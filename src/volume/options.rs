//! `volume create -o KEY=VALUE`: what a volume is when it is no directory of the store. docker's and podman's driver
//! `local` passes `type`, `device` and `o` on to mount(8); of that remains what takes no root.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::container::size;
use crate::container::spec::MountFlags;
use crate::error::{Error, Result};

/// What the options of a volume say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meaning {
    pub backing: Backing,
    pub flags: MountFlags,
    /// `nocopy`: the image never fills it.
    pub no_copy: bool,
    /// Who gets the directory on its first use, by IDs of the container.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Backing {
    /// `_data` in the store.
    #[default]
    Store,
    /// Memory of each container's own: without root nobody can keep a mount for several.
    Tmpfs { size: Option<u64>, mode: Option<u32> },
    /// A directory of the host.
    Bind(PathBuf),
}

/// Reads the options.
///
/// # Errors
/// The first one that is not known, or takes root.
pub fn meaning(options: &BTreeMap<String, String>) -> Result<Meaning> {
    let get = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
    for (key, value) in options {
        if !matches!(key.as_str(), "type" | "device" | "o" | "copy" | "nocopy") {
            return Err(refused(
                key,
                value,
                match key.as_str() {
                    "size" | "inodes" | "noquota" => {
                        "quotas of a directory take root: a tmpfs has a size, `-o type=tmpfs -o o=size=64m`"
                    }
                    _ => "type, device, o and nocopy are known",
                },
            ));
        }
    }
    let words: Vec<&str> = get("o").map(|text| text.split(',').collect()).unwrap_or_default();
    let mut meaning = Meaning { no_copy: options.contains_key("nocopy"), ..Meaning::default() };
    let bound = words.iter().any(|word| matches!(*word, "bind" | "rbind"));
    let kind = get("type").unwrap_or(if bound { "none" } else { "" });
    let mut rest = Vec::new();
    for word in words {
        if !take(&mut meaning, word)? {
            rest.push(word);
        }
    }
    match (kind, get("device")) {
        ("tmpfs", device) => {
            if let Some(device) = device.filter(|device| *device != "tmpfs" && *device != "none") {
                return Err(refused("device", device, "a tmpfs has none: write `device=tmpfs`"));
            }
            if meaning.uid.is_some() || meaning.gid.is_some() {
                return Err(refused("o", "uid", "a tmpfs belongs to the container's root"));
            }
            meaning.backing = tmpfs(&rest)?;
        }
        ("none" | "bind" | "", Some(device)) if bound || kind == "bind" => {
            meaning.backing = Backing::Bind(absolute(device)?);
            if let Some(word) = rest.iter().find(|word| !matches!(**word, "bind" | "rbind")) {
                return Err(unknown(word));
            }
        }
        ("none" | "bind" | "", None) if bound || kind == "bind" => {
            return Err(refused("o", "bind", "`device=DIR` is missing"));
        }
        ("" | "none", None) => {
            if let Some(word) = rest.first() {
                return Err(unknown(word));
            }
        }
        ("" | "none", Some(device)) => {
            return Err(refused(
                "device",
                device,
                "only a directory can be had, with `-o type=none -o o=bind`",
            ));
        }
        (kind, _) => {
            return Err(refused(
                "type",
                kind,
                "mounting it takes root: let an administrator mount it, and name that directory with `-o type=none -o \
                 o=bind -o device=DIR`",
            ));
        }
    }
    Ok(meaning)
}

/// What every kind takes. False: the kind has to know it.
fn take(meaning: &mut Meaning, word: &str) -> Result<bool> {
    let flags = &mut meaning.flags;
    match word.split_once('=').unwrap_or((word, "")) {
        ("ro", "") => flags.read_only = true,
        ("noexec", "") => flags.no_exec = true,
        ("nosuid", "") => flags.no_suid = true,
        ("nodev", "") => flags.no_dev = true,
        ("rw" | "exec" | "suid" | "dev" | "", "") => {}
        ("nocopy", "") => meaning.no_copy = true,
        ("copy", "") => meaning.no_copy = false,
        ("uid", id) => meaning.uid = Some(number(word, id)?),
        ("gid", id) => meaning.gid = Some(number(word, id)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn tmpfs(words: &[&str]) -> Result<Backing> {
    let (mut bytes, mut mode) = (None, None);
    for word in words {
        match word.split_once('=') {
            Some(("size", value)) => bytes = Some(size::parse("-o o=size", value)?),
            Some(("mode", value)) => {
                let parsed = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                mode = Some(parsed.ok_or_else(|| refused("o", word, "a mode is written in octal digits"))?);
            }
            _ => return Err(unknown(word)),
        }
    }
    Ok(Backing::Tmpfs { size: bytes, mode })
}

fn absolute(device: &str) -> Result<PathBuf> {
    if device.starts_with('/') && !device.contains('\0') {
        return Ok(Path::new(device).to_owned());
    }
    Err(refused("device", device, "it is not an absolute path"))
}

fn number(word: &str, id: &str) -> Result<u32> {
    id.parse().map_err(|_| refused("o", word, "it is no number"))
}

fn unknown(word: &str) -> Error {
    refused(
        "o",
        word,
        "ro, noexec, nosuid, nodev, nocopy, uid=, gid=, bind, and for type=tmpfs size= and mode= are known",
    )
}

fn refused(key: &str, value: &str, why: &str) -> Error {
    Error::new(format!("cannot use the option `{}={}` of a volume", key.escape_debug(), value.escape_debug()))
        .because(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Meaning> {
        meaning(&options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn without_options_it_is_a_directory() {
        assert_eq!(read(&[]).unwrap(), Meaning::default());
        assert_eq!(read(&[("type", ""), ("o", "")]).unwrap(), Meaning::default());
        let owned = read(&[("o", "uid=5,gid=6,nosuid,ro")]).unwrap();
        assert_eq!((owned.uid, owned.gid, owned.backing), (Some(5), Some(6), Backing::Store));
        assert!(owned.flags.no_suid && owned.flags.read_only && !owned.flags.no_exec);
        assert!(read(&[("nocopy", "")]).unwrap().no_copy && read(&[("o", "nocopy")]).unwrap().no_copy);
    }

    #[test]
    fn memory_and_directories_of_the_host_take_no_root() {
        let tmpfs =
            read(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=64m,mode=700,noexec")]).unwrap();
        assert_eq!(tmpfs.backing, Backing::Tmpfs { size: Some(64 << 20), mode: Some(0o700) });
        assert!(tmpfs.flags.no_exec);
        for (kind, o) in [("none", "bind"), ("", "bind"), ("none", "rbind,ro"), ("bind", "")] {
            let bind = read(&[("type", kind), ("o", o), ("device", "/srv/data")]).unwrap();
            assert_eq!(bind.backing, Backing::Bind("/srv/data".into()), "{kind} {o}");
        }
    }

    #[test]
    fn what_takes_root_or_is_not_known_is_refused() {
        for (options, cause) in [
            (&[("type", "nfs"), ("device", ":/x"), ("o", "addr=1.2.3.4")][..], "takes root"),
            (&[("type", "ext4"), ("device", "/dev/sda1")], "takes root"),
            (&[("size", "1g")], "quotas"),
            (&[("colour", "red")], "are known"),
            (&[("o", "colour")], "are known"),
            (&[("o", "size=1g")], "are known"),
            (&[("type", "none"), ("o", "bind")], "`device=DIR` is missing"),
            (&[("type", "none"), ("o", "bind"), ("device", "x")], "not an absolute path"),
            (&[("device", "/x")], "`-o type=none -o o=bind`"),
            (&[("type", "tmpfs"), ("device", "/dev/sda")], "a tmpfs has none"),
            (&[("type", "tmpfs"), ("o", "size=x")], ""),
            (&[("type", "tmpfs"), ("o", "mode=9")], "octal"),
            (&[("type", "tmpfs"), ("o", "uid=1")], "root"),
            (&[("o", "uid=x")], "no number"),
        ] {
            let error = read(options).unwrap_err();
            assert!(error.causes().join(" ").contains(cause), "{options:?}: {error}");
            assert_eq!(error.code(), 125);
        }
    }
}
