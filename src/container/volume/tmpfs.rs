//! `--tmpfs TARGET[:OPTIONS]`, and what it shares with `--mount type=tmpfs`.

use super::super::spec::{Mount, MountFlags, MountKind};
use super::options::{Choice, Flags, Refusal};
use super::target;
use crate::container::size;
use crate::error::{Error, Result};

/// As docker mounts them: writable, and nothing on it is a program or gains rights.
const DEFAULT: MountFlags = MountFlags { read_only: false, no_exec: true, no_suid: true, no_dev: true };

/// Reads one `--tmpfs`. Defaults are docker's `rw,noexec,nosuid,nodev`, half the memory as size, and
/// podman's `tmpcopyup`: what the image has at the target is copied in.
///
/// # Errors
/// Names the part that is wrong.
pub fn parse(text: &str) -> Result<Mount> {
    let wrong = |cause: String| {
        Error::new(format!("cannot use `--tmpfs {text}`"))
            .because(cause)
            .hint("write `--tmpfs TARGET[:OPTIONS]`, such as `--tmpfs /run:size=64m,mode=1777,exec`")
    };
    let (to, words) = match text.split_once(':') {
        Some((to, words)) => (to, Some(words)),
        None => (text, None),
    };
    let to = target(to).map_err(wrong)?;
    let mut flags = Flags::default();
    let mut tmpfs = Tmpfs::default();
    for word in words.into_iter().flat_map(|words| words.split(',')) {
        let taken = match (flags.take(word), word.split_once('=')) {
            (Err(Refusal::Unknown), Some(("size", value))) => tmpfs.size(word, value),
            (Err(Refusal::Unknown), Some(("mode", value))) => tmpfs.mode(word, value),
            (Err(Refusal::Unknown), _) => tmpfs.take(word),
            (taken, _) => taken,
        };
        taken.map_err(|refusal| match refusal {
            Refusal::Wrong(cause) => wrong(cause),
            Refusal::Unknown => wrong(match word {
                "" => "an option is empty".to_owned(),
                _ => format!(
                    "`{word}` is not an option: size=, mode=, ro, rw, exec, suid, dev (and noexec, …), tmpcopyup, notmpcopyup are"
                ),
            }),
        })?;
    }
    Ok(tmpfs.finish(to, flags))
}

/// The options that only a tmpfs has.
#[derive(Default)]
pub(super) struct Tmpfs {
    size: Choice<u64>,
    mode: Choice<u32>,
    copy_up: Choice<bool>,
}

impl Tmpfs {
    pub(super) fn take(&mut self, word: &str) -> std::result::Result<(), Refusal> {
        match word {
            "tmpcopyup" => self.copy_up.choose(word, true),
            "notmpcopyup" => self.copy_up.choose(word, false),
            _ => Err(Refusal::Unknown),
        }
    }

    pub(super) fn size(&mut self, word: &str, value: &str) -> std::result::Result<(), Refusal> {
        let bytes = size::parse("size", value)
            .map_err(|error| Refusal::Wrong(format!("`{word}`: {}", error.causes().join(": "))))?;
        if bytes == 0 {
            return Err(Refusal::Wrong(format!("`{word}`: a tmpfs of no size would have no limit")));
        }
        self.size.choose(word, bytes)
    }

    pub(super) fn mode(&mut self, word: &str, value: &str) -> std::result::Result<(), Refusal> {
        let octal = !value.is_empty() && value.bytes().all(|b| matches!(b, b'0'..=b'7'));
        match u32::from_str_radix(value, 8) {
            Ok(mode) if octal && mode <= 0o7777 => self.mode.choose(word, mode),
            _ => Err(Refusal::Wrong(format!("`{word}` is not an octal mode such as 1777"))),
        }
    }

    pub(super) fn finish(self, target: std::path::PathBuf, flags: Flags) -> Mount {
        Mount {
            target,
            flags: flags.finish(DEFAULT),
            kind: MountKind::Tmpfs {
                size: self.size.value(),
                mode: self.mode.value(),
                copy_up: self.copy_up.value().unwrap_or(true),
            },
        }
    }
}
