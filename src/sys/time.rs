//! The wall clock as text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in UTC, printed and recorded as RFC 3339 with nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utc {
    seconds: i64,
    nanoseconds: u32,
}

impl Utc {
    pub fn now() -> Self {
        std::time::SystemTime::now().into()
    }

    /// Seconds and nanoseconds since the epoch.
    pub fn at(seconds: i64, nanoseconds: u32) -> Self {
        Self { seconds, nanoseconds }
    }

    /// Since the epoch.
    pub fn seconds(self) -> u64 {
        self.seconds.cast_unsigned()
    }

    /// Nanoseconds of the second.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }
}

impl From<std::time::SystemTime> for Utc {
    fn from(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs().cast_signed(), nanoseconds: since.subsec_nanos() }
    }
}

impl Serialize for Utc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Utc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        // Before the epoch the two parts have one sign; nothing of ours is so old.
        let nanoseconds = u32::try_from(moment.subsec_nanosecond()).unwrap_or(0);
        Ok(Self { seconds: moment.as_second(), nanoseconds })
    }
}

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The C library's gmtime reads the time zone first.
        let nanoseconds = self.nanoseconds.cast_signed();
        let moment = jiff::Timestamp::new(self.seconds, nanoseconds).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{moment:.9}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_the_moment() {
        let moment = Utc::at(1_767_323_045, 7);
        let text = serde_json::to_string(&moment).unwrap();
        assert_eq!(text, "\"2026-01-02T03:04:05.000000007Z\"");
        assert_eq!(serde_json::from_str::<Utc>(&text).unwrap(), moment);
        assert!(serde_json::from_str::<Utc>("\"soon\"").is_err());
    }
}
