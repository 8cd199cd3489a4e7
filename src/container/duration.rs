//! Spans of time: `--timeout 90`, `--stop-timeout 1m30s`, and `5 minutes ago` in listings.

use std::time::Duration;

use crate::error::{Error, Result};

/// Reads a span in whole seconds: a bare number (`90`) or numbers with units (`1m30s`, `0.5h`).
///
/// # Errors
/// Names the flag and the text when it is no span of time, or no whole number of seconds.
pub fn seconds(flag: &str, text: &str) -> Result<u64> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_err(|_| wrong(flag, text, "it is longer than can be counted"));
    }
    let span = parse(flag, text)?;
    if span.subsec_nanos() != 0 {
        return Err(wrong(flag, text, "it is not a whole number of seconds"));
    }
    Ok(span.as_secs())
}

/// Reads a span in Go's notation, as docker and podman take it: `1h`, `1m30s`, `1.5s`, `300ms`, `0`.
///
/// # Errors
/// Names the flag and the text, and what of it is not understood.
pub fn parse(flag: &str, text: &str) -> Result<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(wrong(flag, text, "it is empty"));
    }
    if text.starts_with('-') {
        return Err(wrong(flag, text, "it is negative"));
    }
    let too_long = || wrong(flag, text, "it is longer than can be counted");
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
            return Err(wrong(flag, text, format!("a number is expected at `{rest}`")));
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let unit_nanos: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3600 * 1_000_000_000,
            "" => return Err(wrong(flag, text, format!("`{number}` has no unit: ms, s, m and h are known"))),
            _ => return Err(wrong(flag, text, format!("`{unit}` is not a unit: ms, s, m and h are"))),
        };
        let whole: u64 = whole.parse().map_err(|_| too_long())?;
        let part = &fraction[..fraction.len().min(9)];
        let part = part.parse::<u128>().unwrap_or(0) * unit_nanos / 10_u128.pow(part.len() as u32);
        nanos = nanos
            .checked_add(u128::from(whole) * unit_nanos)
            .and_then(|sum| sum.checked_add(part))
            .ok_or_else(too_long)?;
        rest = next;
    }
    let secs = u64::try_from(nanos / 1_000_000_000).map_err(|_| too_long())?;
    Ok(Duration::new(secs, (nanos % 1_000_000_000) as u32))
}

fn wrong(flag: &str, text: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(format!("cannot read the time of `{flag}`: `{text}`"))
        .because(cause)
        .hint("write seconds such as `90`, or `10s`, `1m30s`, `2h`")
}

/// Writes a span as docker's listings do: `About a minute`, `3 hours`, `2 weeks`.
pub fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    // Half an hour more counts as an hour: 90 minutes are `2 hours`.
    let hours = seconds.saturating_add(1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// Writes how long ago `then` was (both in seconds since the epoch); a clock set back counts as no time.
pub fn ago(then: u64, now: u64) -> String {
    human(Duration::from_secs(now.saturating_sub(then))) + " ago"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_or_units() {
        for (text, secs) in [
            ("0", 0),
            ("90", 90),
            ("0090", 90),
            ("10s", 10),
            ("1m30s", 90),
            ("1h", 3600),
            ("1.5m", 90),
            ("500ms500ms", 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(seconds("--timeout", text).unwrap(), secs, "{text}");
        }
    }

    #[test]
    fn fractions_and_nonsense_are_refused() {
        for (text, cause) in [
            ("", "empty"),
            ("-1", "negative"),
            ("1.5s", "whole number"),
            ("ten", "number is expected"),
            ("10x", "`x` is not a unit"),
            ("10s5", "`5` has no unit"),
            ("10 s", "` s` is not a unit"),
            ("1..5s", "number is expected"),
            (".5s", "number is expected"),
            ("5.s", "number is expected"),
            ("s", "number is expected"),
            ("18446744073709551616", "longer"),
            ("18446744073709551616s", "longer"),
            ("18446744073709551615h", "longer"),
        ] {
            let error = seconds("--timeout", text).unwrap_err();
            assert!(error.message().contains("`--timeout`"), "{error}");
            assert!(error.causes()[0].contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn spans_below_a_second_are_kept() {
        assert_eq!(parse("--x", "1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(parse("--x", "1h2m3s4ms").unwrap(), Duration::from_millis(3_723_004));
        assert_eq!(parse("--x", "2µs").unwrap(), Duration::from_micros(2));
    }

    #[test]
    fn listings_speak_as_docker_does() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (secs, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (300, "5 minutes"),
            (3599, "59 minutes"),
            (HOUR, "About an hour"),
            (90 * 60, "2 hours"),
            (3 * HOUR, "3 hours"),
            (2 * DAY, "2 days"),
            (13 * DAY, "13 days"),
            (21 * DAY, "3 weeks"),
            (150 * DAY, "5 months"),
            (800 * DAY, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(secs)), text, "{secs}");
        }
        assert_eq!(ago(100, 400), "5 minutes ago");
        assert_eq!(ago(400, 100), "Less than a second ago");
        assert!(human(Duration::MAX).ends_with("years"));
    }
}
