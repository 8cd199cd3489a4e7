//! `ps --sort`

use super::row::Row;

/// podman's words (podman-ps(1), --sort).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    Command,
    Created,
    Id,
    Image,
    Names,
    #[value(name = "runningfor")]
    RunningFor,
    Size,
    Status,
}

impl Sort {
    /// The smallest, first in the alphabet, or oldest first.
    pub(super) fn apply(self, rows: &mut [Row<'_>]) {
        match self {
            Self::Command => rows.sort_by_cached_key(Row::whole_command),
            Self::Created => rows.sort_by_key(Row::created),
            Self::Id => rows.sort_by(|a, b| a.id().cmp(b.id())),
            Self::Image => rows.sort_by(|a, b| a.image().cmp(b.image())),
            Self::Names => rows.sort_by(|a, b| a.name().cmp(b.name())),
            Self::RunningFor => rows.sort_by_key(|row| std::cmp::Reverse(row.started())),
            Self::Size => rows.sort_by_key(|row| row.written),
            Self::Status => rows.sort_by_cached_key(|row| row.status()),
        }
    }
}
