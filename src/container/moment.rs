//! Moments as `--since`, `--until` and filters take them.

use jiff::Timestamp;

use crate::container::duration;
use crate::error::{Error, Result};

/// Reads a time (RFC 3339, a date, seconds since the epoch with any fraction; UTC without an offset), or a span
/// before `now`. `what` is the option or filter as typed, for the message.
///
/// # Errors
/// It is neither, or too long ago to be counted.
pub fn parse(what: &str, value: &str, now: Timestamp) -> Result<Timestamp> {
    let wrong = || Error::new(format!("cannot use `{}`", what.escape_debug()));
    if let Ok(time) = value.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = value.parse::<jiff::civil::DateTime>()
        && let Ok(time) = time.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(time.timestamp());
    }
    if let Some(time) = seconds(value) {
        return Ok(time);
    }
    let span = duration::parse(what, value).map_err(|_| {
        wrong()
            .because("it is neither a time nor a span")
            .hint("write `24h`, `2024-05-06` or a whole RFC 3339 time")
    })?;
    now.checked_sub(span).map_err(|_| wrong().because("it is too long ago"))
}

/// `1700000000` and `1700000000.25`.
fn seconds(value: &str) -> Option<Timestamp> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds = format!("{fraction:0<9}")[..9].parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanoseconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_spans() {
        let now: Timestamp = "2024-05-06T07:08:09Z".parse().unwrap();
        for (value, time) in [
            ("24h", "2024-05-05T07:08:09Z"),
            ("2024-01-02", "2024-01-02T00:00:00Z"),
            ("2024-01-02T03:04:05", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05+01:00", "2024-01-02T02:04:05Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.25", "2023-11-14T22:13:20.25Z"),
            ("1700000000.123456789123", "2023-11-14T22:13:20.123456789Z"),
            ("0", "1970-01-01T00:00:00Z"),
        ] {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(parse("until=x", value, now).unwrap(), time, "{value}");
        }
        for value in ["x", "", "1.x", ".", "99999999999999999999", "2024-13-01", "9999999999h"] {
            let error = parse("until=it", value, now).unwrap_err().to_string();
            assert!(error.contains("`until=it`"), "{value}: {error}");
        }
    }
}
