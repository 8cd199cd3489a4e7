//! `--mount type=TYPE,KEY=VALUE,…`.

use super::super::spec::{Mount, MountFlags, MountKind};
use super::options::{BindOptions, Choice, Flags, Refusal};
use super::tmpfs::Tmpfs;
use super::{Context, csv, source, target};
use crate::error::{Error, Result};

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
    /// The first key that only a bind mount has, and the first that only a tmpfs has.
    bind_key: Option<String>,
    tmpfs_key: Option<String>,
}

/// Reads one `--mount`: comma-separated `key=value` in any order, each field quoted as a whole if it
/// contains a comma.
///
/// # Errors
/// Names the field that is wrong, or the one that is missing.
pub fn parse(text: &str, context: Context<'_>) -> Result<Mount> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `--mount {text}`")).because(cause).hint(
            "write `--mount type=bind,source=./data,target=/data,readonly` or `--mount type=tmpfs,target=/run,tmpfs-size=64m`",
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
                     bind-propagation, bind-nonrecursive, relabel, U, O, idmap, tmpfs-size, tmpfs-mode, tmpcopyup, \
                     notmpcopyup are"
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
            _ if key.starts_with("volume-") => {
                Err(Refusal::Wrong(format!("`{field}`: named volumes are not there yet")))
            }
            _ => Err(Refusal::Unknown),
        };
        if taken.is_ok() {
            self.bind_key.get_or_insert_with(|| field.to_owned());
        }
        taken
    }

    fn finish(self, context: Context<'_>) -> std::result::Result<Mount, String> {
        let Some(kind) = self.kind.value() else {
            return Err("`type` is missing: `type=bind` or `type=tmpfs`".to_owned());
        };
        supported(&kind)?;
        let to = target(&self.target.value().ok_or("`target` is missing")?)?;
        let from = self.source.value();
        if kind != "bind" {
            if let Some(from) = from {
                return Err(format!("`source={from}` belongs to type=bind, and this is type={kind}"));
            }
            if let Some(field) = self.bind_key {
                return Err(format!("`{field}` belongs to type=bind, and this is type={kind}"));
            }
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
                let from = source(&from.ok_or("`source` is missing")?, context.cwd)?;
                let bind = self.bind.finish(from, &self.flags)?;
                kernel(self.flags, MountFlags::default(), MountKind::Bind(bind))
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

fn supported(kind: &str) -> std::result::Result<(), String> {
    let why = match kind {
        "bind" | "tmpfs" | "devpts" | "mqueue" | "proc" | "sysfs" | "cgroup" => return Ok(()),
        "volume" | "image" | "glob" | "artifact" => "is not there yet",
        "ramfs" => "has no limit of its size: take type=tmpfs",
        "ext4" | "ext3" | "ext2" | "xfs" | "btrfs" | "vfat" | "iso9660" | "squashfs" | "nfs" | "cifs" => {
            "cannot be mounted without root: let an administrator mount it, and bind that"
        }
        "npipe" | "cluster" => "is not for Linux on one machine",
        _ => "is not known: bind, tmpfs, devpts, mqueue, proc, sysfs and cgroup are",
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
