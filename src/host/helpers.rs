//! The helper programs and their versions. These are the only facts that cost process starts: `sbx run`
//! never asks for them.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

/// How long a helper may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(2);
/// Versions are at the head: more than this is not read.
const HEAD: usize = 4096;

/// A helper as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Helper {
    pub name: &'static str,
    pub path: Option<PathBuf>,
    /// None where the program is missing, or has no way to tell.
    pub version: Option<String>,
}

/// Those that sbx makes use of. newuidmap and newgidmap have no option that prints a version.
const HELPERS: &[(&str, bool)] = &[
    ("newuidmap", false),
    ("newgidmap", false),
    ("fuse-overlayfs", true),
    ("slirp4netns", true),
    ("pasta", true),
];

/// Finds every helper and asks for versions, all at once.
pub fn with_versions() -> Vec<Helper> {
    let started: Vec<_> = HELPERS
        .iter()
        .map(|(name, tells)| {
            let path = super::programs::find(name);
            let child = path.as_deref().filter(|_| *tells).and_then(|program| ask(Command::new(program)));
            (*name, path, child)
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    started
        .into_iter()
        .map(|(name, path, child)| {
            let version =
                child.and_then(|child| answer(child, deadline)).and_then(|text| version_in(name, &text));
            Helper { name, path, version }
        })
        .collect()
}

fn ask(mut command: Command) -> Option<Child> {
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
}

fn answer(mut child: Child, deadline: Instant) -> Option<String> {
    let mut text = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        let mut buffer = [0; 512];
        while text.len() < HEAD && is_readable(&output, deadline) {
            match output.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => text.extend_from_slice(&buffer[..length]),
            }
        }
    }
    // It has said what it had to say; one that hangs is not waited for.
    let _ = child.kill();
    let _ = child.wait();
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}

fn is_readable(output: &impl AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(timeout) = Timespec::try_from(left) else { return false };
    let mut polled = [PollFd::new(output, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&timeout)), Ok(ready) if ready > 0)
}

/// The version in what a program printed: `NAME version 1.2.0`, `NAME: version 1.10`, `pasta 0.0~git2023…`.
fn version_in(name: &str, text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let rest = line[name.len()..].trim_start_matches(':').trim();
    let rest = rest.strip_prefix("version ").unwrap_or(rest).trim();
    (!rest.is_empty()).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_the_helpers_print_them() {
        let fuse = "fusermount3 version: 3.14.0\nfuse-overlayfs: version 1.10\nFUSE library version 3.14.0\n";
        assert_eq!(version_in("fuse-overlayfs", fuse).as_deref(), Some("1.10"));
        let slirp = "slirp4netns version 1.2.0\ncommit: 656041d\n";
        assert_eq!(version_in("slirp4netns", slirp).as_deref(), Some("1.2.0"));
        let pasta = "pasta 0.0~git20230309.7c7625d-1\nCopyright Red Hat\n";
        assert_eq!(version_in("pasta", pasta).as_deref(), Some("0.0~git20230309.7c7625d-1"));
        assert_eq!(version_in("pasta", "pasta unknown version\n").as_deref(), Some("unknown version"));
        assert_eq!(version_in("pasta", ""), None);
    }

    #[test]
    fn a_helper_that_hangs_or_floods_is_given_up() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let hung = ask(shell("exec sleep 60")).unwrap();
        assert_eq!(answer(hung, Instant::now() + Duration::from_millis(50)), None);
        let flood = ask(shell("exec yes 'flood version 1'")).unwrap();
        let text = answer(flood, Instant::now() + PATIENCE).unwrap();
        assert_eq!(version_in("flood", &text).as_deref(), Some("1"));
    }
}
