//! Points in time on the command line: `--since 10m`, `--until 2024-05-06`.

use jiff::Timestamp;

use crate::container::duration;
use crate::error::{Error, Result};

/// A time (RFC 3339, a date, seconds since the epoch with or without a fraction; UTC without an offset), or a span
/// before `now`.
///
/// # Errors
/// It is neither. The message is the caller's to put before.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp> {
    let wrong = || Error::new("it is neither a time nor a span");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>()
        && let Ok(time) = time.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(time.timestamp());
    }
    if let Some(time) = unix(text) {
        return Ok(time);
    }
    let span = duration::parse("", text)
        .map_err(|_| wrong().hint("write `24h`, `2024-05-06` or a whole RFC 3339 time"))?;
    now.checked_sub(span).map_err(|_| Error::new("it is too long ago"))
}

/// `1700000000`, `1700000000.123456789`
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_spans() {
        let now: Timestamp = "2024-05-06T07:08:09Z".parse().unwrap();
        for (text, time) in [
            ("24h", "2024-05-05T07:08:09Z"),
            ("2024-01-02", "2024-01-02T00:00:00Z"),
            ("2024-01-02T03:04:05", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05+01:00", "2024-01-02T02:04:05Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
        ] {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(parse(text, now).unwrap(), time, "{text}");
        }
        for bad in ["x", "", "soon", "1700000000.", ".5", "-1h", "99999999999999h"] {
            assert!(parse(bad, now).is_err(), "{bad}");
        }
    }
}
