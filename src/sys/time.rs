//! The wall clock as text.

use std::fmt;

/// A moment in UTC, printed as RFC 3339 with nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Utc {
    seconds: i64,
    nanoseconds: u32,
}

impl Utc {
    pub fn now() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { seconds: now.as_secs().cast_signed(), nanoseconds: now.subsec_nanos() }
    }

    /// Seconds and nanoseconds since the epoch.
    pub fn at(seconds: i64, nanoseconds: u32) -> Self {
        Self { seconds, nanoseconds }
    }

    pub fn seconds(self) -> u64 {
        self.seconds.cast_unsigned()
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: a zeroed tm is a valid one.
        let mut parts: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both pointers are to live local values.
        unsafe { libc::gmtime_r(&raw const self.seconds, &raw mut parts) };
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
            parts.tm_year + 1900,
            parts.tm_mon + 1,
            parts.tm_mday,
            parts.tm_hour,
            parts.tm_min,
            parts.tm_sec,
            self.nanoseconds
        )
    }
}
