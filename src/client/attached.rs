//! `--attach`: which of the caller's streams are connected to the command.

use std::fs::File;
use std::os::fd::OwnedFd;

use crate::error::{Error, Result, Step};

/// docker's words, in any case of letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// Reads a value of `--attach`.
///
/// # Errors
/// It is none of the three.
pub fn parse(text: &str) -> Result<Stream> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Stream::Stdin),
        "stdout" => Ok(Stream::Stdout),
        "stderr" => Ok(Stream::Stderr),
        _ => {
            Err(Error::new(format!("cannot use `--attach {text}`")).hint("there are: stdin, stdout, stderr"))
        }
    }
}

/// The caller's output streams lead to nowhere while this lives, but for those that are attached.
pub struct Muted {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Muted {
    /// None at all attached means the usual: all of them.
    ///
    /// # Errors
    /// /dev/null cannot be opened, or there are no descriptors left.
    pub fn but_for(attached: &[Stream]) -> Result<Self> {
        let failed = || "cannot leave a stream unattached";
        let mut muted = Self { stdout: None, stderr: None };
        if attached.is_empty() {
            return Ok(muted);
        }
        let nowhere = File::options().write(true).open("/dev/null").step(failed)?;
        if !attached.contains(&Stream::Stdout) {
            muted.stdout = Some(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3).step(failed)?);
            rustix::stdio::dup2_stdout(&nowhere).step(failed)?;
        }
        if !attached.contains(&Stream::Stderr) {
            muted.stderr = Some(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).step(failed)?);
            rustix::stdio::dup2_stderr(&nowhere).step(failed)?;
        }
        Ok(muted)
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        if let Some(stdout) = &self.stdout {
            let _ = rustix::stdio::dup2_stdout(stdout);
        }
        if let Some(stderr) = &self.stderr {
            let _ = rustix::stdio::dup2_stderr(stderr);
        }
    }
}
