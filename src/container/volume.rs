//! `-v`, `--mount` and `--tmpfs`: the mounts that the user asked for. Everything is decided here from the
//! words alone; whether a source exists is asked by [`check_source`].

pub(crate) mod csv;
mod long;
mod options;
mod short;
mod tmpfs;

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

pub use long::parse as parse_mount;
pub use short::parse as parse_volume;
pub use tmpfs::parse as parse_tmpfs;

use super::spec::{Bind, Mount, MountKind, Origin, Propagation, VolumeMount};
use crate::error::{Error, Result, Step};
use crate::volume::name;

/// What a flag's meaning depends on beside its text.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Relative sources start here.
    pub cwd: &'a Path,
    /// Below it are the files that tell of SELinux. Looked at only when `z` or `Z` is asked for.
    pub root: &'a Path,
}

/// Reads every `-v`, `--mount` and `--tmpfs`, and sorts them so that a mount comes after the mounts above it.
///
/// # Errors
/// The first flag that is wrong, or two flags with the same target.
pub fn parse_all(
    volumes: &[String],
    mounts: &[String],
    tmpfs: &[String],
    context: Context<'_>,
) -> Result<Vec<Mount>> {
    let mut all = Vec::with_capacity(volumes.len() + mounts.len() + tmpfs.len());
    for text in volumes {
        all.push((parse_volume(text, context)?, format!("--volume {text}")));
    }
    for text in mounts {
        all.push((parse_mount(text, context)?, format!("--mount {text}")));
    }
    for text in tmpfs {
        all.push((parse_tmpfs(text)?, format!("--tmpfs {text}")));
    }
    let mut targets = HashMap::with_capacity(all.len());
    for (mount, flag) in &all {
        if let Some(first) = targets.insert(collapse(&mount.target), flag) {
            return Err(Error::new(format!("cannot mount twice on `{}`", mount.target.display()))
                .because(format!("`{first}` and `{flag}` have the same target"))
                .hint("leave one of them out, or give it another path in the container"));
        }
    }
    let mut mounts: Vec<Mount> = all.into_iter().map(|(mount, _)| mount).collect();
    mounts.sort_by_cached_key(|mount| collapse(&mount.target).components().count());
    Ok(mounts)
}

/// A new volume that has no name yet.
pub fn anonymous() -> VolumeMount {
    of_volume(
        None,
        Bind {
            source: PathBuf::new(),
            recursive: true,
            propagation: Propagation::Private,
            recursive_propagation: true,
            chown: false,
            overlay: false,
            idmap: false,
        },
    )
}

/// Looks at the source of a bind mount on the host; other kinds have none.
///
/// # Errors
/// The source is missing or cannot be reached, or it is no directory where an overlay needs one.
pub fn check_source(mount: &Mount) -> Result<()> {
    let MountKind::Bind(bind) = &mount.kind else { return Ok(()) };
    let what = || format!("cannot mount `{}` on `{}`", bind.source.display(), mount.target.display());
    // As a shell takes it.
    let source = bind.source.display().to_string().replace('\'', r"'\''");
    let hint = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("make it first: `mkdir -p '{source}'`"),
        std::io::ErrorKind::PermissionDenied => {
            format!("see who may enter each directory: `namei -l '{source}'`")
        }
        _ => format!("look at it with `stat '{source}'`"),
    };
    let found = std::fs::metadata(&bind.source);
    let advice = found.as_ref().err().map(hint);
    let found = found.step(what).map_err(|error| match advice {
        Some(advice) => error.hint(advice),
        None => error,
    })?;
    if bind.overlay && !found.is_dir() {
        return Err(Error::new(what()).because("`O` needs a directory, and the source is none"));
    }
    Ok(())
}

/// A mount's target: absolute, below the root, short enough for the kernel.
fn target(text: &str) -> std::result::Result<PathBuf, String> {
    check_text(text, "the target")?;
    if !text.starts_with('/') {
        return Err(format!("the target `{text}` is not an absolute path"));
    }
    let path: PathBuf = Path::new(text).components().collect();
    if collapse(&path) == Path::new("/") {
        return Err(format!("the target `{text}` is the container's root"));
    }
    Ok(path)
}

/// What is mounted.
enum Source {
    /// Of the host, absolute.
    Path(PathBuf),
    /// A volume.
    Name(String),
}

fn source(text: &str, cwd: &Path) -> std::result::Result<Source, String> {
    check_text(text, "the source")?;
    if text.starts_with('~') {
        return Err(format!(
            "the source `{text}` begins with `~`, which a shell replaces only where a word begins: write `$HOME`"
        ));
    }
    if text.starts_with('/') || text.starts_with('.') {
        // `..` stays: only the kernel knows where it leads behind a symlink.
        return Ok(Source::Path(cwd.join(text).components().collect()));
    }
    if text.contains('/') {
        return Err(format!("the source `{text}` is relative: write `./{text}`"));
    }
    name::check(text).map_err(|error| error.to_string())?;
    Ok(Source::Name(text.to_owned()))
}

/// A mount of a volume; without a name it is a new one, which gets its name when the container does.
fn of_volume(name: Option<String>, bind: Bind) -> VolumeMount {
    VolumeMount {
        origin: if name.is_some() { Origin::Named } else { Origin::Anonymous },
        name: name.unwrap_or_default(),
        subpath: None,
        copy: true,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        bind,
        directory: PathBuf::new(),
        first_use: None,
    }
}

fn check_text(text: &str, what: &str) -> std::result::Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if text.contains('\0') {
        return Err(format!("{what} contains a NUL byte"));
    }
    // PATH_MAX counts the NUL at the end.
    if text.len() >= libc::PATH_MAX as usize {
        return Err(format!("{what} is longer than 4095 bytes"));
    }
    Ok(())
}

/// Resolves `..` by the text alone; good enough to compare targets, not to open them.
pub(super) fn collapse(path: &Path) -> PathBuf {
    let mut collapsed = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                collapsed.pop();
            }
            Component::Normal(name) => collapsed.push(name),
            _ => {}
        }
    }
    collapsed
}

#[cfg(test)]
mod tests;
