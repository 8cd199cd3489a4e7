//! `-v SOURCE:TARGET[:OPTIONS]`.

use super::super::spec::{Mount, MountFlags, MountKind};
use super::options::{BindOptions, Flags, Refusal};
use super::{Context, Source, source, target};
use crate::error::{Error, Result};

/// Reads one `--volume`: a directory or file of the host, or a volume, on a path of the container. By default it is
/// recursive, writable, and sends no later mounts either way (rprivate).
///
/// # Errors
/// Names the part that is wrong.
pub fn parse(text: &str, context: Context<'_>) -> Result<Mount> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `--volume {text}`"))
            .because(cause)
            .hint("write `--volume SOURCE:TARGET[:OPTIONS]`, such as `-v ./data:/data:ro`; paths with a colon go into `--mount`")
    };
    let mut parts = text.splitn(4, ':');
    let from = parts.next().unwrap_or_default();
    let Some(to) = parts.next() else {
        if !from.starts_with('/') {
            return Err(wrong("the target is missing".to_owned()));
        }
        let volume = BindOptions::default().finish_volume(None, &Flags::default()).map_err(wrong)?;
        let kind = MountKind::Volume(volume);
        return Ok(Mount { target: target(from).map_err(wrong)?, flags: MountFlags::default(), kind });
    };
    let words = parts.next();
    if let Some(more) = parts.next() {
        return Err(wrong(format!("`{more}` is one part too many")));
    }
    let from = source(from, context.cwd).map_err(wrong)?;
    let to = target(to).map_err(wrong)?;
    let mut flags = Flags::default();
    let mut bind = BindOptions::default();
    for word in words.into_iter().flat_map(|words| words.split(',')) {
        take(&mut flags, &mut bind, word, context).map_err(wrong)?;
    }
    let kind = match from {
        Source::Path(path) => bind.finish(path, &flags).map(MountKind::Bind),
        Source::Name(name) => bind.finish_volume(Some(name), &flags).map(MountKind::Volume),
    };
    Ok(Mount { target: to, flags: flags.finish(MountFlags::default()), kind: kind.map_err(wrong)? })
}

fn take(
    flags: &mut Flags,
    bind: &mut BindOptions,
    word: &str,
    context: Context<'_>,
) -> std::result::Result<(), String> {
    let refusal = match flags.take(word) {
        Err(Refusal::Unknown) => bind.take(word, context),
        taken => taken,
    };
    match refusal {
        Ok(()) => Ok(()),
        Err(Refusal::Wrong(cause)) => Err(cause),
        Err(Refusal::Unknown) => Err(match word {
            "" => "an option is empty".to_owned(),
            _ if word.starts_with("upperdir=") || word.starts_with("workdir=") => {
                format!("`{word}`: the upper layer of `O` is always thrown away")
            }
            _ => format!(
                "`{word}` is not an option: ro, rw, exec, suid, dev (and noexec, …), z, Z, U, O, idmap, nocopy, bind, \
                 rbind, private, slave, shared, unbindable (and rprivate, …) are"
            ),
        }),
    }
}
