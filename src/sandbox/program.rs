//! Finding and executing the command, with the exit codes of the field.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::Error as Errno;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, ResolveFlags};

use crate::error::{EXIT_NOT_FOUND, EXIT_NOT_INVOKABLE, Error, Result};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Replaces this process. Returns only with an error: 127 if the command or its interpreter is not there,
/// 126 if it may not be executed.
pub fn execute(arguments: &[String], env: &[String]) -> Error {
    let Some(name) = arguments.first() else {
        return Error::new("cannot run a container without a command");
    };
    let words = |words: &[String]| -> Result<Vec<CString>, std::ffi::NulError> {
        words.iter().map(|word| CString::new(word.as_str())).collect()
    };
    let (Ok(arguments), Ok(env_words)) = (words(arguments), words(env)) else {
        return Error::new(format!("cannot execute `{name}`")).because("an argument holds a NUL byte");
    };
    let mut refusal = Errno::ENOENT;
    for candidate in candidates(name, env) {
        let Ok(path) = CString::new(candidate.as_os_str().as_bytes()) else { continue };
        if leads_out(&candidate) {
            return Error::new(format!("cannot execute `{name}`"))
                .because("it leads through a link of /proc, which may be one to sbx itself")
                .hint("name the file by its path in the container")
                .exit_code(EXIT_NOT_INVOKABLE);
        }
        let errno = match nix::unistd::execve(&path, &arguments, &env_words) {
            Err(errno) => errno,
            Ok(never) => match never {},
        };
        match errno {
            Errno::ENOENT | Errno::ENOTDIR if candidate.exists() => {
                return interpreter_missing(name, &candidate);
            }
            // Like a shell: look further, and remember that something was there.
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => refusal = errno,
            errno => return not_invokable(name, &candidate, errno),
        }
    }
    if refusal == Errno::EACCES {
        let shown = candidates(name, env).into_iter().find(|path| path.exists());
        return not_invokable(name, &shown.unwrap_or_else(|| PathBuf::from(name)), refusal);
    }
    not_found(name)
}

/// Whether there is a command that could be executed, without trying.
///
/// # Errors
/// As [`execute`] would say it.
pub fn look_up(arguments: &[String], env: &[String]) -> Result<()> {
    let name = arguments.first().map(String::as_str).unwrap_or_default();
    let mut refused = None;
    for candidate in candidates(name, env) {
        let is_file = std::fs::metadata(&candidate).is_ok_and(|metadata| metadata.is_file());
        match rustix::fs::accessat(CWD, &candidate, Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) if is_file => return Ok(()),
            Ok(()) => refused = Some(candidate),
            Err(rustix::io::Errno::ACCESS) => refused = Some(candidate),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(candidate) => not_invokable(name, &candidate, Errno::EACCES),
        None => not_found(name),
    })
}

fn not_found(name: &str) -> Error {
    let error = Error::new(format!("cannot execute `{name}`"))
        .because(if name.contains('/') {
            "no such file in the container"
        } else {
            "no such command on the PATH of the container"
        })
        .exit_code(EXIT_NOT_FOUND);
    if name.starts_with('-') {
        return error.hint("options stand before the image or the container: what follows it is the command");
    }
    error
}

/// Whether the program, or the interpreter of a script, is named by a link of /proc. While this process still is
/// sbx, /proc/self/exe is the host's sbx, and whoever gets hold of that as it runs inside can change it
/// (CVE-2019-5736).
fn leads_out(program: &Path) -> bool {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    let mut program = program.to_owned();
    // The kernel follows as many interpreters (fs/exec.c).
    for _ in 0..6 {
        let by = |flags, resolve| {
            rustix::fs::openat2(CWD, &program, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
        };
        if by(OFlags::PATH, ResolveFlags::NO_MAGICLINKS).is_err() {
            return by(OFlags::PATH, ResolveFlags::empty()).is_ok();
        }
        let script = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = by(script, ResolveFlags::NO_MAGICLINKS) else { return false };
        let mut head = [0; 256];
        let Ok(length) = std::fs::File::from(file).read(&mut head) else { return false };
        let Some(line) = head[..length].strip_prefix(b"#!") else { return false };
        let word = line.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_start();
        let word = word.split(|byte| matches!(byte, b' ' | b'\t' | 0)).next().unwrap_or_default();
        program = PathBuf::from(std::ffi::OsStr::from_bytes(word));
    }
    false
}

/// The paths that the name may mean, in the order of the container's PATH.
fn candidates(name: &str, env: &[String]) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains('/') {
        return vec![PathBuf::from(name)];
    }
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    path.split(':')
        .filter(|directory| !directory.is_empty())
        .map(|directory| Path::new(directory).join(name))
        .collect()
}

fn interpreter_missing(name: &str, path: &Path) -> Error {
    Error::new(format!("cannot execute `{name}`"))
        .because(format!(
            "the interpreter or loader that `{}` asks for is not in the container",
            path.display()
        ))
        .exit_code(EXIT_NOT_FOUND)
}

fn not_invokable(name: &str, path: &Path, errno: Errno) -> Error {
    let failed = Error::new(format!("cannot execute `{name}`")).exit_code(EXIT_NOT_INVOKABLE);
    match errno {
        Errno::EACCES if path.is_dir() => failed.because(format!("`{}` is a directory", path.display())),
        Errno::EACCES => failed
            .because(errno)
            .hint(format!("`{}` needs execute permission for the container's user, and its mount no `noexec`", path.display())),
        Errno::ENOEXEC => failed
            .because(errno)
            .hint("a script needs a first line such as `#!/bin/sh`; a binary has to be of this machine's architecture"),
        _ => failed.because(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_on_the_containers_path() {
        let env = ["PATH=/a::/b".to_owned()];
        assert_eq!(candidates("x", &env), [PathBuf::from("/a/x"), PathBuf::from("/b/x")]);
        assert_eq!(candidates("./x", &env), [PathBuf::from("./x")]);
    }

    #[test]
    fn a_missing_command_is_127_and_a_directory_126() {
        let env = ["PATH=/bin".to_owned()];
        assert_eq!(execute(&["no-such-command".to_owned()], &env).code(), 127);
        assert_eq!(execute(&["/".to_owned()], &env).code(), 126);
        assert_eq!(execute(&["/etc/passwd".to_owned()], &env).code(), 126);
    }
}
