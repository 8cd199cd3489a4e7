//! The one error type that reaches the screen: what was tried on what, why it failed, how to mend it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::output::harmless;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// sbx itself failed (docker-run(1), exit status).
pub const EXIT_SBX: u8 = 125;
/// The command was found but cannot be invoked.
pub const EXIT_NOT_INVOKABLE: u8 = 126;
/// The command was not found.
pub const EXIT_NOT_FOUND: u8 = 127;

/// A failure as the user reads it: one sentence, its causes, and hints that mend it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Inner {
    code: u8,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
    #[serde(default)]
    lasting: bool,
}

impl Error {
    /// Starts an error with the exit code 125. `message` names the step and its object, without a full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code: EXIT_SBX,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            lasting: false,
        }))
    }

    /// Adds why it failed.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.causes.push(plain(&cause.to_string()));
        self
    }

    /// Adds how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Replaces the exit code (126 and 127 for a command that can't be started).
    #[must_use]
    pub fn exit_code(mut self, code: u8) -> Self {
        self.0.code = code;
        self
    }

    /// Puts a wider step before this error; the former message becomes the first cause.
    #[must_use]
    pub fn while_doing(mut self, message: impl Into<String>) -> Self {
        let narrower = std::mem::replace(&mut self.0.message, message.into());
        self.0.causes.insert(0, narrower);
        self
    }

    /// Says that the same will fail again: waiting does not mend it.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.0.lasting = true;
        self
    }

    pub fn is_lasting(&self) -> bool {
        self.0.lasting
    }

    pub fn code(&self) -> u8 {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn causes(&self) -> &[String] {
        &self.0.causes
    }

    pub fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// The text for standard error: `Error:`, `Caused by:` and `Hint:`, each a line of its own. What an image or
    /// a registry has put into it does not command the terminal.
    pub fn report(&self) -> String {
        let mut text = format!("Error: {}\n", sentence(&self.0.message));
        if !self.0.causes.is_empty() {
            text.push_str(&format!("Caused by: {}\n", sentence(&self.0.causes.join(": "))));
        }
        for hint in &self.0.hints {
            text.push_str(&format!("Hint: {}\n", sentence(hint)));
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.0.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Error {}

/// Gives any failure a step: `.step(|| format!("cannot open `{}`", path.display()))?`.
pub trait Step<T> {
    fn step<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T, E: fmt::Display> Step<T> for std::result::Result<T, E> {
    fn step<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|cause| Error::new(message()).because(cause))
    }
}

/// Rust's `io::Error` says `Permission denied (os error 13)` and nix says `EACCES: Permission denied`;
/// readers want the words alone.
pub(crate) fn plain(text: &str) -> String {
    let mut text = match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => text[..at].to_owned(),
        _ => text.to_owned(),
    };
    if let Some((head, tail)) = text.split_once(": ")
        && head.len() > 1
        && head.starts_with('E')
        && head.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    {
        text = tail.to_owned();
    }
    text
}

fn sentence(text: &str) -> String {
    let text = harmless::lines(text.trim_end());
    let ended = text.ends_with(['.', '!', '?', ':']) || text.contains('\n');
    if ended { text } else { format!("{text}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_has_a_line_each_for_error_cause_and_hint() {
        let error = Error::new("cannot open `/x`")
            .because(std::io::Error::from_raw_os_error(libc::EACCES))
            .hint("run `chmod +r /x`");
        assert_eq!(
            error.report(),
            "Error: cannot open `/x`.\nCaused by: Permission denied.\nHint: run `chmod +r /x`.\n"
        );
        assert_eq!(error.code(), 125);
    }

    #[test]
    fn nothing_in_a_report_commands_the_terminal() {
        let error = Error::new("no user \x1b[2J").because("\u{9b}1m").hint("a\rb");
        let report = error.report();
        assert!(!report.contains(|c: char| c.is_control() && c != '\n'), "{report:?}");
    }

    #[test]
    fn errno_names_are_left_out() {
        assert_eq!(plain(&nix::Error::ENOENT.to_string()), "No such file or directory");
    }
}
