//! The words of `--security-opt`, and what is hidden from a container by default.

use std::path::{Path, PathBuf};

use crate::container::spec::Seccomp;
use crate::error::{Error, Result, Step};

/// Hidden: what tells about or reaches the host's hardware and keys (the defaults of docker and podman).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A seccomp profile is not longer than this.
const LONGEST_PROFILE: u64 = 4 << 20;

pub struct Chosen {
    pub seccomp: Seccomp,
    pub no_new_privileges: bool,
    pub masked_paths: Vec<PathBuf>,
    pub read_only_paths: Vec<PathBuf>,
}

/// Reads every `--security-opt`. `privileged` starts from nothing masked and no filter.
///
/// # Errors
/// An option that is unknown, or that only root could honour; a profile that cannot be read or is wrong.
pub fn parse_all(options: &[String], privileged: bool) -> Result<Chosen> {
    let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
    let mut chosen = Chosen {
        seccomp: if privileged { Seccomp::Unconfined } else { Seccomp::Default },
        no_new_privileges: false,
        masked_paths: if privileged { Vec::new() } else { paths(MASKED) },
        read_only_paths: if privileged { Vec::new() } else { paths(READ_ONLY) },
    };
    for option in options {
        apply(option, &mut chosen)?;
    }
    Ok(chosen)
}

fn apply(option: &str, chosen: &mut Chosen) -> Result<()> {
    let wrong = || Error::new(format!("cannot use `--security-opt {option}`"));
    // docker takes a colon, too.
    let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => chosen.no_new_privileges = true,
        ("no-new-privileges", "false") => chosen.no_new_privileges = false,
        ("seccomp", "unconfined") => chosen.seccomp = Seccomp::Unconfined,
        ("seccomp", "default" | "builtin") => chosen.seccomp = Seccomp::Default,
        ("seccomp", path) if !path.is_empty() => chosen.seccomp = read_profile(path)?,
        ("systempaths", "unconfined") => unmask(chosen, |_| true),
        ("unmask", list) if list.eq_ignore_ascii_case("ALL") => unmask(chosen, |_| true),
        ("unmask", list) if !list.is_empty() => {
            for pattern in list.split(':') {
                if !pattern.starts_with('/') {
                    return Err(wrong().because(format!("`{pattern}` is not an absolute path")));
                }
                unmask(chosen, |path| matches(pattern, path));
            }
        }
        ("mask", list) if !list.is_empty() => {
            for path in list.split(':') {
                if !path.starts_with('/') {
                    return Err(wrong().because(format!("`{path}` is not an absolute path")));
                }
                chosen.masked_paths.push(PathBuf::from(path));
            }
        }
        // Nothing is confined by them here, so that nothing is to be taken away.
        ("label", "disable") | ("apparmor", "unconfined") => {}
        ("label", _) => {
            return Err(wrong()
                .because("sbx sets no SELinux labels")
                .hint("`--security-opt label=disable` is what holds"));
        }
        ("apparmor", _) => {
            return Err(wrong()
                .because("a profile for the command can be set only by root")
                .hint("`--security-opt apparmor=unconfined` is what holds"));
        }
        _ => {
            return Err(wrong().hint(
                "there are: seccomp=FILE|unconfined, no-new-privileges, mask=PATH[:PATH], unmask=ALL|PATH[:PATH], \
                 systempaths=unconfined, label=disable, apparmor=unconfined",
            ));
        }
    }
    Ok(())
}

fn unmask(chosen: &mut Chosen, named: impl Fn(&Path) -> bool) {
    chosen.masked_paths.retain(|path| !named(path));
    chosen.read_only_paths.retain(|path| !named(path));
}

/// Whether `path` is what `pattern` names, in which `*` stands for any text without a slash (podman-run(1),
/// `unmask`).
fn matches(pattern: &str, path: &Path) -> bool {
    let mut parts = pattern.split('/').filter(|part| !part.is_empty());
    let mut components = path.components().skip(1).map(|component| component.as_os_str().to_string_lossy());
    loop {
        match (parts.next(), components.next()) {
            (None, None) => return true,
            (Some(part), Some(component)) if part_matches(part, &component) => {}
            _ => return false,
        }
    }
}

fn part_matches(part: &str, text: &str) -> bool {
    let Some((head, rest)) = part.split_once('*') else { return part == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| part_matches(rest, &text[at..]))
}

/// Reads a profile and checks it, so that a wrong one is found before anything is started.
fn read_profile(path: &str) -> Result<Seccomp> {
    use std::io::Read;
    let failed = || format!("cannot read the seccomp profile `{path}`");
    let mut text = String::new();
    std::fs::File::open(path)
        .step(failed)?
        .take(LONGEST_PROFILE + 1)
        .read_to_string(&mut text)
        .step(failed)?;
    if text.len() as u64 > LONGEST_PROFILE {
        return Err(Error::new(failed()).because("it is longer than 4 MiB"));
    }
    crate::seccomp::profile::parse(text.as_bytes()).map_err(|error| error.while_doing(failed()))?;
    Ok(Seccomp::Profile(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Result<Chosen> {
        parse_all(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>(), false)
    }

    #[test]
    fn masks_can_be_added_and_taken_away() {
        let unmasked = read(&["unmask=/proc/keys:/proc/sys"]).unwrap();
        assert!(!unmasked.masked_paths.contains(&PathBuf::from("/proc/keys")));
        assert!(!unmasked.read_only_paths.contains(&PathBuf::from("/proc/sys")));
        assert!(unmasked.masked_paths.contains(&PathBuf::from("/proc/kcore")));
        assert!(read(&["unmask=ALL"]).unwrap().masked_paths.is_empty());
        assert!(read(&["unmask=all"]).unwrap().read_only_paths.is_empty());
        let of_proc = read(&["unmask=/proc/*"]).unwrap();
        assert_eq!(
            of_proc.masked_paths,
            ["/sys/devices/virtual/powercap", "/sys/firmware"].map(PathBuf::from)
        );
        assert!(!read(&["unmask=/proc/k*"]).unwrap().masked_paths.contains(&PathBuf::from("/proc/keys")));
        assert!(
            !read(&["unmask=/proc/*_s*s"])
                .unwrap()
                .masked_paths
                .contains(&PathBuf::from("/proc/timer_stats"))
        );
        assert!(read(&["unmask=/*"]).unwrap().masked_paths.contains(&PathBuf::from("/proc/keys")));
        assert!(read(&["mask=/x"]).unwrap().masked_paths.contains(&PathBuf::from("/x")));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for wrong in [
            "",
            "seccomp=",
            "seccomp=/no/such/file",
            "label=type:x",
            "apparmor=x",
            "mask=x",
            "unmask=x",
            "nnp",
        ] {
            assert_eq!(read(&[wrong]).err().map(|error| error.code()), Some(125), "{wrong}");
        }
    }
}
