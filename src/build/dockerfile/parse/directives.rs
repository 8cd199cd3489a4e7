//! `# syntax=`, `# escape=` and `# check=`: comments in the first lines that are more than comments.

use super::super::ast::{Directives, Word};
use super::super::complaint::Complaint;
use super::super::logical::{Physical, Reader};
use super::super::source::Span;

/// Reads the directives; the reader stays at the first line that is none.
///
/// # Errors
/// One is there twice, or the escape character is none.
pub fn read(reader: &mut Reader) -> Result<Directives, Complaint> {
    let mut directives = Directives { syntax: None, escape: '\\', check: None };
    let mut escape_is_set = false;
    while let Some((name, value)) = reader.peek().and_then(directive) {
        let twice = match name.as_str() {
            "syntax" => directives.syntax.replace(value.clone()).is_some(),
            "check" => directives.check.replace(value.clone()).is_some(),
            "escape" => {
                directives.escape = match value.text.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    _ => {
                        return Err(Complaint::new(value.span, "the escape character is `\\` or a backtick"));
                    }
                };
                std::mem::replace(&mut escape_is_set, true)
            }
            // Any other is a comment, and directives end with the first comment.
            _ => return Ok(directives),
        };
        if twice {
            return Err(Complaint::new(value.span, format!("the directive `{name}` is there twice")));
        }
        reader.advance();
    }
    Ok(directives)
}

/// The name, in lower case, and the value of `# name = value`.
fn directive(line: Physical<'_>) -> Option<(String, Word)> {
    let comment = line.text.trim_start().strip_prefix('#')?;
    let (name, value) = comment.split_once('=')?;
    let name = name.trim();
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric());
    if !is_name || value.trim().is_empty() {
        return None;
    }
    let end = line.start + line.text.trim_end().len();
    let text = value.trim().to_owned();
    let span = Span::new(end - text.len(), end);
    Some((name.to_ascii_lowercase(), Word { text, span }))
}
