//! Aligned columns: an upper-case header, each column as wide as its widest cell and three spaces.

use super::{harmless, width};

const GAP: usize = 3;

/// A table that is printed as a whole.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Starts a table with its header.
    pub fn new<S: AsRef<str>>(header: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self::default();
        table.push(header.into_iter().map(|title| title.as_ref().to_uppercase()));
        table
    }

    /// Starts a table without a header, as for `--noheading`.
    pub fn without_header() -> Self {
        Self::default()
    }

    /// Adds a row. Control characters are shown as escapes: names and labels come from anywhere and could
    /// command the reader's terminal.
    pub fn push<S: AsRef<str>>(&mut self, row: impl IntoIterator<Item = S>) {
        self.rows.push(row.into_iter().map(|cell| harmless::line(cell.as_ref())).collect());
    }

    /// The text, a newline after each row and no spaces at its end.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width::of(cell));
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, widest) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', widest + GAP - width::of(cell)));
            }
            text.push_str(line.trim_end_matches(' '));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["container id", "NAMES", "STATUS"]);
        table.push(["abc", "patient_noether", "Up 2 hours"]);
        table.push(["123456789012345", "x", ""]);
        assert_eq!(
            table.render(),
            "CONTAINER ID      NAMES             STATUS\n\
             abc               patient_noether   Up 2 hours\n\
             123456789012345   x\n"
        );
    }

    #[test]
    fn wide_characters_keep_the_columns() {
        let mut table = Table::without_header();
        table.push(["漢字", "a"]);
        table.push(["abcd", "b"]);
        assert_eq!(table.render(), "漢字   a\nabcd   b\n");
    }

    #[test]
    fn rows_may_differ_in_length() {
        let mut table = Table::new(["a"]);
        table.push(["1", "2", "3"]);
        table.push([""; 0]);
        assert_eq!(table.render(), "A\n1   2   3\n\n");
        assert_eq!(Table::default().render(), "");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let mut table = Table::new(["name"]);
        table.push(["a\x1b[2J\nb\u{9b}c"]);
        assert_eq!(table.render(), "NAME\na\\u{1b}[2J\\nb\\u{9b}c\n");
    }
}
