//! Sizes as people write them: binary on the way in (`64m` is 64 MiB), decimal in listings, as docker does.

use crate::error::{Error, Result};

/// Digits after the point that count; more of them are less than a byte of any unit in use.
const FRACTION_DIGITS: usize = 9;

/// Reads `--shm-size` and its kin: a number, a point if wanted, and `b`, `k`, `m`, `g`, `t` or `p` (also
/// `kb`, `KiB`), case ignored, all powers of 1024. Without a unit it is bytes. Fractions of a byte are cut off.
///
/// # Errors
/// Names the flag and the text when it is no size, or does not fit into 64 bits.
pub fn parse(flag: &str, text: &str) -> Result<u64> {
    let wrong = |cause: String| {
        Error::new(format!("cannot read the size of `{flag}`: `{text}`"))
            .because(cause)
            .hint("write a number and a unit, such as `512k`, `64m` or `1.5g`")
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if number.is_empty() {
        return Err(wrong("it does not begin with a digit".to_owned()));
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return Err(wrong(format!("`{number}` has two points")));
    }
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) {
        return Err(wrong(format!("`{number}` lacks digits beside the point")));
    }
    let shift = shift(unit.strip_prefix(' ').unwrap_or(unit))
        .ok_or_else(|| wrong(format!("`{}` is not a unit: b, k, m, g, t and p are", unit.trim())))?;
    let too_large = || wrong("it is larger than 16 EiB".to_owned());
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let bytes = u128::from(whole) << shift;
    let part = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let part = match part.parse::<u128>() {
        Ok(digits) => (digits << shift) / 10_u128.pow(part.len() as u32),
        Err(_) => 0,
    };
    u64::try_from(bytes + part).map_err(|_| too_large())
}

fn shift(unit: &str) -> Option<u32> {
    let (letter, rest) = match unit.chars().next() {
        None => return Some(0),
        Some(letter) => (letter.to_ascii_lowercase(), &unit[letter.len_utf8()..]),
    };
    let shift = match letter {
        'b' => return rest.is_empty().then_some(0),
        'k' => 10,
        'm' => 20,
        'g' => 30,
        't' => 40,
        'p' => 50,
        _ => return None,
    };
    (rest.is_empty() || rest.eq_ignore_ascii_case("b") || rest.eq_ignore_ascii_case("ib")).then_some(shift)
}

/// Writes a size for a listing: three significant digits, powers of 1000 (`4.36MB`, `187MB`, `0B`).
pub fn decimal(bytes: u64) -> String {
    human(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Writes an amount of memory: four significant digits, powers of 1024 (`1.5MiB`, `7.637GiB`).
pub fn binary(bytes: u64) -> String {
    human(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn human(bytes: u64, base: f64, units: &[&str], significant: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    let mut text = rounded(value, significant);
    // The rounded text decides: 999,999 bytes are `1MB`, not `1000kB`.
    while unit + 1 < units.len() && text.parse::<f64>().is_ok_and(|shown| shown >= base) {
        value /= base;
        unit += 1;
        text = rounded(value, significant);
    }
    text + units[unit]
}

fn rounded(value: f64, significant: usize) -> String {
    let before_point = if value >= 1.0 { value.log10().floor() as usize + 1 } else { 1 };
    let text = format!("{value:.*}", significant.saturating_sub(before_point));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("64", 64),
            ("64b", 64),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("64 m", 64 << 20),
            ("1k", 1024),
            ("1.5g", 3 << 29),
            ("2t", 2 << 40),
            ("1p", 1 << 50),
            ("0.0000000000000001g", 0),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse("--shm-size", text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_by_name() {
        for (text, cause) in [
            ("", "digit"),
            ("m", "digit"),
            ("-1", "digit"),
            ("+1m", "digit"),
            (" 1m", "digit"),
            ("1.2.3m", "two points"),
            ("1.m", "lacks digits"),
            (".5m", "lacks digits"),
            (".", "lacks digits"),
            ("1q", "`q` is not a unit"),
            ("1bb", "`bb` is not a unit"),
            ("1mi", "`mi` is not a unit"),
            ("1mé", "`mé` is not a unit"),
            ("50%", "`%` is not a unit"),
            ("18446744073709551616", "larger"),
            ("16384p", "larger"),
            ("99999999999999999999999999999999999999999g", "larger"),
        ] {
            let error = parse("--shm-size", text).unwrap_err();
            assert!(error.message().contains("--shm-size") && error.message().contains(text));
            assert!(error.causes()[0].contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn listings_have_three_significant_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (4_360_000, "4.36MB"),
            (4_300_000, "4.3MB"),
            (187_400_000, "187MB"),
            (999_499, "999kB"),
            (999_999, "1MB"),
            (1_000_000_000, "1GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(decimal(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn memory_is_binary() {
        assert_eq!(binary(1_572_864), "1.5MiB");
        assert_eq!(binary(8_200_000_000), "7.637GiB");
        assert_eq!(binary(1023), "1023B");
        assert_eq!(binary((1 << 20) - 1), "1MiB");
    }
}
