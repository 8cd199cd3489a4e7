//! Decimal IDs, read strictly: what one program could read as octal and another as decimal is no number.

/// Reads an unsigned 32-bit decimal: digits alone, no sign, no space, no leading zero.
pub fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    text.iter().try_fold(0u32, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn plain_decimals_are_read() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"100000"), Some(100_000));
        assert_eq!(decimal(b"4294967295"), Some(u32::MAX));
    }

    #[test]
    fn everything_else_is_refused() {
        let refused: [&[u8]; 13] = [
            b"",
            b" 1",
            b"1 ",
            b"+1",
            b"-1",
            b"01",
            b"00",
            b"0x10",
            b"1e3",
            b"4294967296",
            b"99999999999999999999",
            b"1\n",
            "\u{0661}".as_bytes(),
        ];
        for text in refused {
            assert_eq!(decimal(text), None, "{}", text.escape_ascii());
        }
    }
}
