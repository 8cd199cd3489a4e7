//! `--mount type=TYPE,KEY=VALUE,…`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::super::spec::{Mount, MountFlags, MountKind, VolumeMount};
use super::options::{BindOptions, Choice, Flags, Refusal};
use super::tmpfs::Tmpfs;
use super::{Context, Source, csv, source, target};
use crate::error::{Error, Result};
use crate::volume::name;

/// The kernel's own file systems hold no programs and no files that give rights.
const KERNEL: MountFlags = MountFlags { read_only: false, no_exec: true, no_suid: true, no_dev: true };
/// Pseudo-terminals are devices.
const DEVPTS: MountFlags = MountFlags { read_only: false, no_exec: true, no_suid: true, no_dev: false };

#[derive(Default)]
struct Request {
    kind: Choice<String>,
    source: Choice<String>,
    target: Choice<String>,
    flags: Flags,
    bind: BindOptions,
    tmpfs: Tmpfs,
    volume: VolumeKeys,
    /// The first key that only a bind mount has, and so on; `shared_key`: that a bind mount or a volume has.
    bind_key: Option<String>,
    shared_key: Option<String>,
    volume_key: Option<String>,
    tmpfs_key: Option<String>,
}

/// What only a volume has, beside `volume-nocopy`.
#[derive(Default)]
struct VolumeKeys {
    subpath: Choice<String>,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
}

/// Reads one `--mount`: comma-separated `key=value` in any order, each field quoted as a whole if it
/// contains a comma.
///
/// # Errors
/// Names the field that is wrong, or the one that is missing.
pub fn parse(text: &str, context: Context<'_>) -> Result<Mount> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `--mount {text}`")).because(cause).hint(
            "write `--mount type=bind,source=./data,target=/data,readonly`, `--mount type=volume,source=NAME,target=/data` or `--mount type=tmpfs,target=/run,tmpfs-size=64m`",
        )
    };
    let mut request = Request::default();
    for field in csv::fields(text).map_err(wrong)? {
        request.take(&field, context).map_err(|refusal| {
            wrong(match refusal {
                Refusal::Wrong(cause) => cause,
                Refusal::Unknown if field.is_empty() => "a field is empty".to_owned(),
                Refusal::Unknown => format!(
                    "`{field}` is not known: type, source, target, readonly, exec, suid, dev (and noexec, …), \
                     bind-propagation, bind-nonrecursive, relabel, U, O, idmap, volume-nocopy, volume-subpath, \
                     volume-label, volume-opt, volume-driver, tmpfs-size, tmpfs-mode, tmpcopyup, notmpcopyup are"
                ),
            })
        })?;
    }
    request.finish(context).map_err(wrong)
}

impl Request {
    fn take(&mut self, field: &str, context: Context<'_>) -> std::result::Result<(), Refusal> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field, None),
        };
        match (key, value) {
            ("type", Some(value)) => self.kind.choose(field, value.to_owned()),
            ("src" | "source", Some(value)) => self.source.choose(field, value.to_owned()),
            ("dst" | "target" | "destination", Some(value)) => self.target.choose(field, value.to_owned()),
            ("type" | "src" | "source" | "dst" | "target" | "destination", None) => {
                Err(Refusal::Wrong(format!("`{key}` needs a value: `{key}=…`")))
            }
            ("ro" | "readonly", _) => self.flags.read_only.choose(field, boolean(field, value)?),
            ("rw", _) => self.flags.read_only.choose(field, !boolean(field, value)?),
            ("tmpfs-size" | "tmpfs-mode" | "tmpcopyup" | "notmpcopyup", _) => {
                self.take_tmpfs(field, key, value)
            }
            ("nocopy" | "copy" | "subpath", _) => self.take_volume(field, key, value),
            _ if key.starts_with("volume-") => {
                self.take_volume(field, key.trim_start_matches("volume-"), value)
            }
            (_, None) => match self.flags.take(key) {
                Err(Refusal::Unknown) => self.take_bind(field, key, value, context),
                taken => taken,
            },
            _ => self.take_bind(field, key, value, context),
        }
    }

    fn take_tmpfs(
        &mut self,
        field: &str,
        key: &str,
        value: Option<&str>,
    ) -> std::result::Result<(), Refusal> {
        self.tmpfs_key.get_or_insert_with(|| field.to_owned());
        match (key, value) {
            ("tmpfs-size", Some(value)) => self.tmpfs.size(field, value),
            ("tmpfs-mode", Some(value)) => self.tmpfs.mode(field, value),
            ("tmpfs-size" | "tmpfs-mode", None) => {
                Err(Refusal::Wrong(format!("`{key}` needs a value: `{key}=…`")))
            }
            (_, None) => self.tmpfs.take(key),
            (_, Some(_)) => Err(Refusal::Wrong(format!("`{key}` takes no value"))),
        }
    }

    fn take_volume(
        &mut self,
        field: &str,
        key: &str,
        value: Option<&str>,
    ) -> std::result::Result<(), Refusal> {
        self.volume_key.get_or_insert_with(|| field.to_owned());
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        match (key, value) {
            ("nocopy", _) => self.bind.copy.choose(field, !boolean(field, value)?),
            ("copy", _) => self.bind.copy.choose(field, boolean(field, value)?),
            ("subpath", Some(value)) if !value.is_empty() => {
                self.volume.subpath.choose(field, value.to_owned())
            }
            ("label", Some(value)) => {
                self.volume.labels.extend([pair(value)]);
                Ok(())
            }
            ("opt", Some(value)) => {
                self.volume.options.extend([pair(value)]);
                Ok(())
            }
            ("driver", Some("local" | "")) => Ok(()),
            ("driver", Some(driver)) => {
                Err(Refusal::Wrong(format!("the driver `{driver}` is not there: `local` is")))
            }
            ("subpath" | "label" | "opt" | "driver", _) => {
                Err(Refusal::Wrong(format!("`{field}` needs a value: `{field}=…`")))
            }
            _ => Err(Refusal::Unknown),
        }
    }

    fn take_bind(
        &mut self,
        field: &str,
        key: &str,
        value: Option<&str>,
        context: Context<'_>,
    ) -> std::result::Result<(), Refusal> {
        let taken = match (key, value) {
            ("bind-propagation", Some(value)) => match self.bind.propagation(value) {
                Err(Refusal::Unknown) => Err(Refusal::Wrong(format!(
                    "`{field}`: private, slave, shared, unbindable, rprivate, rslave, rshared and runbindable are known"
                ))),
                taken => taken,
            },
            ("bind-nonrecursive", _) => self.bind.recursive.choose(field, !boolean(field, value)?),
            ("relabel", Some("shared")) => self.bind.relabel("z", context),
            ("relabel", Some("private")) => self.bind.relabel("Z", context),
            ("relabel", Some(_)) => Err(Refusal::Wrong(format!("`{field}`: shared and private are known"))),
            ("bind-propagation" | "relabel", None) => {
                Err(Refusal::Wrong(format!("`{key}` needs a value: `{key}=…`")))
            }
            ("U" | "chown", _) => self.bind.chown.choose(field, boolean(field, value)?),
            ("idmap", Some(_)) => {
                Err(Refusal::Wrong(format!("`{field}`: the map is always the container's, write `idmap`")))
            }
            ("O" | "idmap" | "z" | "Z", None) => self.bind.take(key, context),
            _ => Err(Refusal::Unknown),
        };
        if taken.is_ok() {
            let only_a_bind = matches!(key, "bind-propagation" | "bind-nonrecursive");
            let first = if only_a_bind { &mut self.bind_key } else { &mut self.shared_key };
            first.get_or_insert_with(|| field.to_owned());
        }
        taken
    }

    fn finish(self, context: Context<'_>) -> std::result::Result<Mount, String> {
        let from = self.source.value();
        let kind = match self.kind.value() {
            Some(kind) => kind,
            None if from.as_ref().is_some_and(|from| from.starts_with(['/', '.'])) => {
                return Err("`type` is missing: `type=bind`".to_owned());
            }
            // As docker has it.
            None => "volume".to_owned(),
        };
        supported(&kind)?;
        let to = target(&self.target.value().ok_or("`target` is missing")?)?;
        let volume = kind == "volume";
        if kind != "bind" {
            let shared = self.shared_key.filter(|_| !volume);
            if let Some(field) = self.bind_key.or(shared) {
                return Err(format!("`{field}` belongs to type=bind, and this is type={kind}"));
            }
            if let Some(from) = from.as_ref().filter(|_| !volume) {
                return Err(format!("`source={from}` belongs to type=bind, and this is type={kind}"));
            }
        }
        if !volume && let Some(field) = self.volume_key {
            return Err(format!("`{field}` belongs to type=volume, and this is type={kind}"));
        }
        if kind != "tmpfs"
            && let Some(field) = self.tmpfs_key
        {
            return Err(format!("`{field}` belongs to type=tmpfs, and this is type={kind}"));
        }
        let kernel =
            |flags: Flags, default, kind| Mount { target: to.clone(), flags: flags.finish(default), kind };
        Ok(match kind.as_str() {
            "bind" => {
                let Source::Path(from) = source(&from.ok_or("`source` is missing")?, context.cwd)? else {
                    return Err(
                        "the source is the name of a volume: write `type=volume`, or `source=./…`".to_owned()
                    );
                };
                let bind = self.bind.finish(from, &self.flags)?;
                kernel(self.flags, MountFlags::default(), MountKind::Bind(bind))
            }
            "volume" => {
                let name = from.filter(|name| !name.is_empty());
                if let Some(name) = &name {
                    name::check(name).map_err(|error| error.to_string())?;
                }
                let VolumeKeys { subpath, labels, options } = self.volume;
                let subpath = subpath.value().map(|text| inner(&text)).transpose()?;
                crate::volume::options::meaning(&options).map_err(|error| error.to_string())?;
                let volume = self.bind.finish_volume(name, &self.flags)?;
                let volume = VolumeMount { subpath, labels, options, ..volume };
                kernel(self.flags, MountFlags::default(), MountKind::Volume(volume))
            }
            "tmpfs" => self.tmpfs.finish(to, self.flags),
            "devpts" => kernel(self.flags, DEVPTS, MountKind::Devpts),
            "mqueue" => kernel(self.flags, KERNEL, MountKind::Mqueue),
            "proc" => kernel(self.flags, KERNEL, MountKind::Proc),
            "sysfs" => kernel(self.flags, KERNEL, MountKind::Sysfs),
            _ => kernel(self.flags, KERNEL, MountKind::Cgroup),
        })
    }
}

/// A path in a volume: it is looked up there, and nowhere else.
fn inner(text: &str) -> std::result::Result<PathBuf, String> {
    super::check_text(text, "the path in the volume")?;
    if text.starts_with('/') {
        return Err(format!("`{text}` is not relative to the volume"));
    }
    let path: PathBuf = Path::new(text).components().collect();
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(format!("`{text}` leads out of the volume"));
    }
    Ok(path)
}

fn supported(kind: &str) -> std::result::Result<(), String> {
    let why = match kind {
        "bind" | "volume" | "tmpfs" | "devpts" | "mqueue" | "proc" | "sysfs" | "cgroup" => return Ok(()),
        "image" | "glob" | "artifact" => "is not there yet",
        "ramfs" => "has no limit of its size: take type=tmpfs",
        "ext4" | "ext3" | "ext2" | "xfs" | "btrfs" | "vfat" | "iso9660" | "squashfs" | "nfs" | "cifs" => {
            "cannot be mounted without root: let an administrator mount it, and bind that"
        }
        "npipe" | "cluster" => "is not for Linux on one machine",
        _ => "is not known: bind, volume, tmpfs, devpts, mqueue, proc, sysfs and cgroup are",
    };
    Err(format!("type `{kind}` {why}"))
}

/// Go's notation of truth, as docker takes it; a key alone is true.
fn boolean(field: &str, value: Option<&str>) -> std::result::Result<bool, Refusal> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(_) => Err(Refusal::Wrong(format!("`{field}`: true and false are known"))),
    }
}
