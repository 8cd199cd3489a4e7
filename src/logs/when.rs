//! `--since` and `--until`.

use jiff::civil::DateTime;
use jiff::{SignedDuration, Timestamp};

use crate::container::duration;
use crate::error::{Error, Result};
use crate::sys::local_time;

/// As our own writer has it: such texts are in the order of their times.
const LENGTH: usize = "2026-01-02T03:04:05.123456789Z".len();

/// A moment that entries are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    time: Timestamp,
    text: String,
}

/// What a span of time is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// `10m` was ten minutes ago.
    Ago,
    /// `10m` is in ten minutes.
    FromNow,
}

impl Bound {
    fn new(time: Timestamp) -> Self {
        Self { time, text: canonical(time) }
    }

    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// How an entry's time compares with it; none where that is no time.
    pub fn compare(&self, entry: &[u8]) -> Option<std::cmp::Ordering> {
        if is_canonical(entry) && self.text.len() == LENGTH {
            return Some(entry.cmp(self.text.as_bytes()));
        }
        Some(parse(entry)?.cmp(&self.time))
    }
}

pub(super) fn parse(time: &[u8]) -> Option<Timestamp> {
    std::str::from_utf8(time).ok()?.parse().ok()
}

/// RFC 3339 with all nine digits, in UTC.
pub(super) fn canonical(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// Whether the text needs no parsing: digits where they have to be.
pub(super) fn is_canonical(time: &[u8]) -> bool {
    time.len() == LENGTH
        && time.iter().zip(b"dddd-dd-ddTdd:dd:dd.dddddddddZ").all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            wanted => byte == wanted,
        })
}

/// Reads a time: RFC 3339 or a part of it, with a zone or on the caller's clock, seconds since the epoch, or a span.
///
/// # Errors
/// Names the flag, the text, and what can be written.
pub fn bound(flag: &str, text: &str, now: Timestamp, span: Span) -> Result<Bound> {
    let wrong = || {
        Error::new(format!("cannot read the time of `{flag}`: `{text}`"))
            .hint("write `2026-01-02T15:04:05`, `2026-01-02`, `10m`, `1h30m`, or seconds since 1970")
    };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !text.is_empty();
    let time = if is_number {
        unix(text)
    } else if text.as_bytes().get(4) == Some(&b'-') {
        date(text)
    } else {
        let length = duration::parse(flag, text)
            .map_err(|error| error.causes().iter().fold(wrong(), |whole, cause| whole.because(cause)))?;
        let length = SignedDuration::try_from(length).ok();
        length.and_then(|length| match span {
            Span::Ago => now.checked_sub(length).ok(),
            Span::FromNow => now.checked_add(length).ok(),
        })
    };
    time.map(Bound::new).ok_or_else(|| wrong().because("there is no such time"))
}

fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

fn date(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    // A date alone may have a zone, too.
    let (civil, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(civil) => (civil, Some(0)),
        None => match text.len().checked_sub(6).and_then(|at| text.split_at_checked(at)) {
            Some((civil, zone)) if civil.len() >= 10 && zone.starts_with(['+', '-']) => {
                (civil, Some(offset(zone)?))
            }
            _ => (text, None),
        },
    };
    let time: DateTime = civil.parse().ok()?;
    match zone {
        Some(offset) => {
            let utc = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
            utc.checked_sub(SignedDuration::from_secs(offset)).ok()
        }
        None => {
            let seconds = local_time::to_utc(
                time.year().into(),
                time.month().into(),
                time.day().into(),
                time.hour().into(),
                time.minute().into(),
                time.second().into(),
            )?;
            Timestamp::new(seconds, time.subsec_nanosecond()).ok()
        }
    }
}

/// Seconds of `+01:00`.
fn offset(zone: &str) -> Option<i64> {
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
    Some(if zone.starts_with('-') { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn read(text: &str, span: Span) -> Result<String> {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        Ok(bound("--since", text, now, span)?.text)
    }

    #[test]
    fn every_way_to_write_a_time() {
        for (text, wanted) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000000Z"),
            ("2026-01-02T03:04:05.5+01:00", "2026-01-02T02:04:05.500000000Z"),
            ("2026-01-02Z", "2026-01-02T00:00:00.000000000Z"),
            ("2026-01-02T03:04-00:30", "2026-01-02T03:34:00.000000000Z"),
            ("2026-01-02+02:00", "2026-01-01T22:00:00.000000000Z"),
            ("0", "1970-01-01T00:00:00.000000000Z"),
            ("1767323045.25", "2026-01-02T03:04:05.250000000Z"),
            ("10m", "2026-01-02T02:54:05.000000000Z"),
            ("1h30m", "2026-01-02T01:34:05.000000000Z"),
            ("1.5s", "2026-01-02T03:04:03.500000000Z"),
        ] {
            assert_eq!(read(text, Span::Ago).unwrap(), wanted, "{text}");
        }
        assert_eq!(read("5s", Span::FromNow).unwrap(), "2026-01-02T03:04:10.000000000Z");
        // Whatever the zone is, it does not move by a day.
        for text in ["2026-01-02", "2026-01-02T00:00", "2026-01-02T00:00:00", "2026-01-02 00:00:00"] {
            let here = read(text, Span::Ago).unwrap();
            assert!(here.starts_with("2026-01-0") && here.ends_with(":00.000000000Z"), "{text}: {here}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "x",
            "-10m",
            "2026-13-01",
            "2026-01-02T25:00",
            "1.2.3",
            "10x",
            "2026-",
            "2026-01-02Tx",
            "2026-€€",
        ] {
            let error = read(text, Span::Ago).unwrap_err();
            assert!(error.report().contains("`--since`") && error.report().contains("Hint"), "{text}");
        }
        assert!(read("99999999999999999999", Span::Ago).is_err());
        assert!(read("999999999h", Span::Ago).is_err());
    }

    #[test]
    fn times_of_all_writers_are_compared() {
        let bound = bound("--since", "2026-01-02T03:04:05.5Z", Timestamp::UNIX_EPOCH, Span::Ago).unwrap();
        for (entry, wanted) in [
            ("2026-01-02T03:04:05.499999999Z", Some(Ordering::Less)),
            ("2026-01-02T03:04:05.500000000Z", Some(Ordering::Equal)),
            ("2026-01-02T03:04:05.6Z", Some(Ordering::Greater)),
            ("2026-01-02T04:04:05.6+01:00", Some(Ordering::Greater)),
            ("2026-01-02T03:04:05", None),
            ("x", None),
        ] {
            assert_eq!(bound.compare(entry.as_bytes()), wanted, "{entry}");
        }
    }
}
