//! `--chmod`: an octal mode, or chmod(1)'s symbols.

/// A change of a file's mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// Taken as it is.
    Octal(u32),
    /// `u=rwX,go=rX`.
    Symbolic(Vec<Clause>),
}

/// `ugoa`, `+-=`, and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    /// The bits that it may change.
    pub who: u32,
    pub operation: char,
    /// The bits of `r`, `w`, `x`, `s` and `t`, for whom they concern.
    pub bits: u32,
    /// `X`: execution where somebody already may, and for directories.
    pub conditional_execute: bool,
}
