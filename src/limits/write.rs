//! Limits are written to the files of a cgroup.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::settings::Setting;
use crate::error::{Error, Result};

/// The kernel's own limit of what a file of a cgroup says is a page.
const LONGEST: usize = 4096;

/// Writes all settings.
///
/// # Errors
/// The kernel refuses one.
pub fn write_all(group: BorrowedFd<'_>, settings: &[Setting]) -> Result<()> {
    settings.iter().try_for_each(|setting| write(group, setting))
}

/// Replaces `before` by `after`: what is in `before` alone is lifted. On an error what was there is there again, as far
/// as the kernel takes it.
///
/// # Errors
/// As [`write_all`].
pub fn replace(group: BorrowedFd<'_>, before: &[Setting], after: &[Setting]) -> Result<()> {
    let outcome = lift(group, before, after).and_then(|()| write_all(group, after));
    if outcome.is_err() {
        let _ = lift(group, after, before);
        for setting in before {
            let _ = write(group, setting);
        }
    }
    outcome
}

fn lift(group: BorrowedFd<'_>, before: &[Setting], after: &[Setting]) -> Result<()> {
    let kept = |old: &&Setting| !after.iter().any(|new| new.file == old.file && new.reset == old.reset);
    for old in before.iter().filter(kept).filter(|old| !old.reset.is_empty() || old.controller() == "cpuset")
    {
        let (file, reset) = match &old.instead {
            Some((other, _)) if !is_there(group, &old.file) => (other.clone(), old.reset.clone()),
            _ => (old.file.clone(), old.reset.clone()),
        };
        let lifted = Setting { file, value: reset, instead: None, ..old.clone() };
        write(group, &lifted)?;
    }
    Ok(())
}

fn write(group: BorrowedFd<'_>, setting: &Setting) -> Result<()> {
    if setting.file.starts_with("cpuset.") {
        check_set(group, setting)?;
    }
    let written = match (put(group, &setting.file, &setting.value), &setting.instead) {
        (Err(Errno::NOENT), Some((file, value))) => put(group, file, value),
        (written, _) => written,
    };
    match (written, setting.option) {
        (Ok(()), _) => Ok(()),
        (Err(Errno::NOENT | Errno::OPNOTSUPP), None) => Ok(()),
        (Err(errno), option) => Err(refused(setting, option, errno)),
    }
}

fn refused(setting: &Setting, option: Option<&str>, errno: Errno) -> Error {
    let Setting { file, value, .. } = setting;
    let failed = match option {
        Some(option) => format!("cannot set the limit of `{option}`"),
        None => format!("cannot write to `{file}`"),
    };
    let failed = Error::new(failed);
    match errno {
        Errno::NOENT => failed
            .because(format!("the kernel has no `{file}` for the container"))
            .hint("`sbx info` shows the controllers that are delegated to you; the kernel has to be built with it, too"),
        Errno::NODEV => failed
            .because(format!("the kernel knows no whole disk for `{value}`"))
            .hint("limits are set for whole disks, not for partitions"),
        Errno::INVAL | Errno::RANGE => failed.because(format!("the kernel takes no `{value}` in `{file}`")),
        errno => failed.because(format!("`{value}` in `{file}`")).because(io::Error::from(errno)),
    }
}

fn is_there(group: BorrowedFd<'_>, file: &str) -> bool {
    openat(group, file, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).is_ok()
}

fn put(group: BorrowedFd<'_>, file: &str, value: &str) -> rustix::io::Result<()> {
    let file = openat(group, file, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    // A line, since nothing at all is no write.
    rustix::io::write(file, format!("{value}\n").as_bytes())?;
    Ok(())
}

/// The text of a file of a cgroup; none: it is not there.
pub fn read(group: BorrowedFd<'_>, file: &str) -> Option<String> {
    let file =
        openat(group, file, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    let mut buffer = vec![0_u8; LONGEST];
    let read = rustix::io::read(file, &mut buffer[..]).ok()?;
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

/// The kernel takes processors that are not there, and then gives all.
fn check_set(group: BorrowedFd<'_>, setting: &Setting) -> Result<()> {
    let Some(given) = read(group, &format!("../{}.effective", setting.file)) else { return Ok(()) };
    let (asked, given_set) = (numbers(&setting.value), numbers(given.trim()));
    let lacking: BTreeSet<u32> = asked.difference(&given_set).copied().collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let option = setting.option.unwrap_or_default();
    Err(Error::new(format!("cannot use `{option} {}`", setting.value)).because(format!(
        "there is no {} here, but {}",
        list(&lacking),
        given.trim()
    )))
}

/// The numbers of a list such as `0-2,5` (cpuset(7), List Format).
pub fn numbers(list: &str) -> BTreeSet<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The other way.
fn list(numbers: &BTreeSet<u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let written = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    written.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;
    use crate::limits::Limits;
    use crate::limits::settings::settings;

    /// A cgroup as far as files go.
    fn group(files: &[&str]) -> (tempfile::TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(directory.path().join(file), "").unwrap();
        }
        let opened = File::open(directory.path()).unwrap();
        (directory, opened)
    }

    fn text(group: &Path, file: &str) -> String {
        fs::read_to_string(group.join(file)).unwrap()
    }

    #[test]
    fn limits_are_written_to_their_files() {
        let (directory, opened) = group(&["memory.max", "pids.max", "io.weight"]);
        let limits =
            Limits { memory: Some(9000), pids: Some(7), blkio_weight: Some(10), ..Limits::default() };
        write_all(opened.as_fd(), &settings(&limits).unwrap()).unwrap();
        assert_eq!(text(directory.path(), "memory.max"), "9000\n");
        assert_eq!(text(directory.path(), "pids.max"), "7\n");
        // There is no io.bfq.weight, and no swap, which nobody asked for.
        assert_eq!(text(directory.path(), "io.weight"), "default 1\n");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_that_names_the_option() {
        let (_directory, opened) = group(&["memory.max"]);
        let limits = Limits { cpu_weight: Some(7), ..Limits::default() };
        let error = write_all(opened.as_fd(), &settings(&limits).unwrap()).unwrap_err();
        assert!(error.message().contains("`--cpu-weight`"), "{error}");
        assert!(error.causes()[0].contains("no `cpu.weight`"), "{error}");
    }

    #[test]
    fn what_is_not_asked_for_any_more_is_lifted() {
        let (directory, opened) = group(&["memory.max", "pids.max", "cpu.max", "memory.swap.max"]);
        let of = |limits: &Limits| settings(limits).unwrap();
        let before = Limits { memory: Some(9000), pids: Some(7), ..Limits::default() };
        let after = Limits { nano_cpus: Some(1_000_000_000), pids: Some(8), ..Limits::default() };
        replace(opened.as_fd(), &of(&before), &of(&after)).unwrap();
        let found = ["memory.max", "memory.swap.max", "pids.max", "cpu.max"];
        // Files grow where a cgroup would take each line alone.
        assert!(text(directory.path(), found[0]).starts_with("max\n"));
        assert!(text(directory.path(), found[1]).starts_with("max\n"));
        assert_eq!(
            found[2..].iter().map(|file| text(directory.path(), file)).collect::<String>(),
            "8\n100000 100000\n"
        );
        let impossible = Limits { memory_high: Some(5), pids: Some(9), ..Limits::default() };
        assert!(replace(opened.as_fd(), &of(&after), &of(&impossible)).is_err());
        assert!(text(directory.path(), "pids.max").starts_with('8'));
    }

    #[test]
    fn lists_of_processors_are_sets() {
        assert_eq!(numbers("0-2,5").into_iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
        assert!(numbers("").is_empty());
        assert_eq!(list(&numbers("0,2-3,4,9")), "0,2-4,9");
    }
}
