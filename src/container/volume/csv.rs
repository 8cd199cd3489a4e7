//! One line of comma-separated values with quotes (RFC 4180), the notation of `--mount`.

/// Splits a line into its fields. A field in double quotes may contain commas, and `""` for a quote.
///
/// # Errors
/// A quote within an unquoted field, text after a closing quote, or a quote that never closes.
pub(crate) fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(rest)?,
        };
        fields.push(field);
        match tail.strip_prefix(',') {
            Some(next) => rest = next,
            None if tail.is_empty() => return Ok(fields),
            None => return Err(format!("a comma is expected after a closing quote, at `{tail}`")),
        }
    }
}

fn plain_field(text: &str) -> Result<(String, &str), String> {
    let (field, tail) = text.split_at(text.find(',').unwrap_or(text.len()));
    if field.contains('"') {
        return Err(format!("a quote within `{field}`: quotes go around the whole field"));
    }
    Ok((field.to_owned(), tail))
}

fn quoted_field(text: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('"') {
        field.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, rest)),
        }
    }
    Err("a quote is never closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn quotes_keep_commas() {
        for (line, expected) in [
            ("", vec![""]),
            ("a", vec!["a"]),
            ("a,b", vec!["a", "b"]),
            ("a,,b,", vec!["a", "", "b", ""]),
            (r#"a,"src=/x,y",b"#, vec!["a", "src=/x,y", "b"]),
            (r#""a ""b"" c""#, vec![r#"a "b" c"#]),
            (r#""",x"#, vec!["", "x"]),
        ] {
            assert_eq!(fields(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn stray_quotes_are_refused() {
        for line in [r#"a"b"#, r#""a"#, r#""a"b"#, r#"""""#, r#"x,""#] {
            assert!(fields(line).is_err(), "{line}");
        }
    }
}
