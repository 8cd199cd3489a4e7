//! What is wrong with a Dockerfile, and where.

use super::source::{Source, Span};
use crate::error::Error;

/// The longest piece of a line that is shown, in characters.
const SHOWN: usize = 120;

/// Something wrong with a piece of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub span: Span,
    /// Without a full stop.
    pub message: String,
    pub hint: Option<String>,
}

impl Complaint {
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint where there is one.
    #[must_use]
    pub fn meant(mut self, near: Option<&str>) -> Self {
        self.hint = near.map(|near| format!("did you mean `{near}`?")).or(self.hint);
        self
    }

    /// The error with file, line and column, and the line shown.
    pub fn in_source(&self, source: &Source) -> Error {
        let place = source.place(self.span.start);
        let head = format!("{}:{}:{}: {}", source.name(), place.line, place.column, self.message);
        let error = Error::new(format!("{head}\n{}", excerpt(source, self.span)));
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

/// The line where a piece begins, and carets below the piece:
///
/// ```text
///   12 | RNU echo
///      | ^^^
/// ```
pub fn excerpt(source: &Source, span: Span) -> String {
    let place = source.place(span.start);
    let line = source.line(place.line);
    let column = place.column as usize - 1;
    let from = column.saturating_sub(SHOWN / 2);
    // A tab would move the carets; and what commands a terminal is not shown.
    let letter = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = line.chars().skip(from).take(SHOWN).map(letter).collect();
    let length = source.slice(span).chars().take_while(|&c| c != '\n' && c != '\r').count();
    let room = shown.chars().count().saturating_sub(column - from);
    let carets = "^".repeat(length.clamp(1, room.max(1)));
    let number = format!("{:>4}", place.line);
    let blank = " ".repeat(number.len());
    format!("{number} | {}\n{blank} | {}{carets}", shown.trim_end(), " ".repeat(column - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_shown_with_carets_below() {
        let source = Source::new("Dockerfile", "FROM a\n\tRNU echo\n".to_owned());
        let error = Complaint::new(Span::new(8, 11), "no").hint("did you mean `RUN`?").in_source(&source);
        assert_eq!(
            error.report(),
            "Error: Dockerfile:2:2: no\n   2 |  RNU echo\n     |  ^^^\nHint: did you mean `RUN`?\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_and_an_end_of_file_has_a_caret() {
        let source = Source::new("x", format!("{}!{}", "é".repeat(500), "b".repeat(500)));
        let text = excerpt(&source, Span::new(1000, 1001));
        let (line, carets) = text.split_once('\n').unwrap();
        assert!(line.chars().count() < 140, "{line}");
        let at = |text: &str, letter| text.chars().position(|c| c == letter);
        assert_eq!(at(line, '!'), at(carets, '^'));
        assert!(excerpt(&source, Span::new(1501, 1501)).ends_with('^'));
    }
}
