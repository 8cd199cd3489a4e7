//! Here-documents: which an instruction's line announces, and their lines.

use super::ast::HereDocument;
use super::complaint::Complaint;
use super::limits;
use super::logical::Reader;
use super::source::Span;

/// What stands on the line: `3<<-"NAME"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    pub name: String,
    pub expand: bool,
    pub strip_tabs: bool,
    pub descriptor: Option<u32>,
}

/// The here-documents that a line announces, in order. Quotes hide them, as in the shell; where a quote has no end there
/// is none.
pub fn announced(line: &str) -> Vec<Announced> {
    if !line.contains("<<") {
        return Vec::new();
    }
    shell_words(line).iter().flatten().filter_map(|word| read(word)).collect()
}

/// Reads one word; none: it is something else.
pub fn read(word: &str) -> Option<Announced> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (descriptor, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start();
    if rest.contains('<') {
        return None;
    }
    let (name, plain) = unquoted(rest)?;
    if name.is_empty() {
        return None;
    }
    Some(Announced { expand: plain, name, strip_tabs, descriptor: descriptor.parse().ok() })
}

/// The words of a shell's line with `<<` in them, quotes and escapes still there; white space after `<<` does not end a word.
fn shell_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                word.push(letter);
                word.extend(letters.next());
            }
            '\'' | '"' => {
                word.push(letter);
                loop {
                    let inner = letters.next()?;
                    word.push(inner);
                    if inner == letter {
                        break;
                    }
                    if inner == '\\' && letter == '"' {
                        word.push(letters.next()?);
                    }
                }
            }
            '<' if letters.peek() == Some(&'<') => {
                letters.next();
                word.push_str("<<");
                while letters.peek().is_some_and(|c| matches!(c, ' ' | '\t')) {
                    word.extend(letters.next());
                }
            }
            _ if letter.is_whitespace() => {
                if word.contains("<<") && words.len() <= limits::DOCUMENTS {
                    words.push(std::mem::take(&mut word));
                }
                word.clear();
            }
            _ => word.push(letter),
        }
    }
    words.push(word);
    Some(words)
}

/// A name without its quotes, and whether there were none; none: it is not one word.
fn unquoted(text: &str) -> Option<(String, bool)> {
    let mut name = String::new();
    let mut plain = true;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' | '"' => {
                plain = false;
                loop {
                    match letters.next()? {
                        inner if inner == letter => break,
                        '\\' if letter == '"' => name.extend(letters.next()),
                        inner => name.push(inner),
                    }
                }
            }
            // An escaped letter counts as quoted, as in the shell.
            '\\' => {
                plain = false;
                name.push(letters.next()?);
            }
            _ if letter.is_whitespace() => return None,
            _ => name.push(letter),
        }
    }
    Some((name, plain))
}

/// Reads the lines of a here-document up to the one that ends it. `line` is what announced it.
///
/// # Errors
/// The file ends first.
pub fn collect(reader: &mut Reader, announced: Announced, line: Span) -> Result<HereDocument, Complaint> {
    let start = reader.position();
    let mut content = String::new();
    while let Some(physical) = reader.advance() {
        let text = if announced.strip_tabs { physical.text.trim_start_matches('\t') } else { physical.text };
        if text == announced.name {
            let Announced { name, expand, strip_tabs, descriptor } = announced;
            let span = Span::new(start, physical.start);
            return Ok(HereDocument { name, expand, strip_tabs, descriptor, content, span });
        }
        content.push_str(reader.raw(physical));
    }
    let what = format!("the here-document `{}` has no end", announced.name);
    Err(Complaint::new(line, what).hint(format!("end it with a line that says `{}` alone", announced.name)))
}

impl HereDocument {
    /// The lines without the tabs that `<<-` takes off.
    pub fn lines(&self) -> String {
        if !self.strip_tabs {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_announce_here_documents() {
        let names = |line: &str| announced(line).into_iter().map(|doc| doc.name).collect::<Vec<_>>();
        for (line, expected) in [
            ("RUN <<EOF", &["EOF"][..]),
            ("RUN cat <<EOF > /x", &["EOF"]),
            ("RUN <<A cat && <<B cat", &["A", "B"]),
            ("RUN cat << EOF", &["EOF"]),
            ("RUN 3<<EOF cat", &["EOF"]),
            ("COPY <<a.txt <<-\"b c\" /x/", &["a.txt", "b c"]),
            ("RUN <<$EOF", &["$EOF"]),
            ("RUN echo \"<<EOF\"", &[]),
            ("RUN echo '<<EOF'", &[]),
            ("RUN cat <<<EOF", &[]),
            ("RUN echo $((1<<2))", &[]),
            ("RUN echo it's <<EOF", &[]),
            ("RUN echo \\<<EOF", &[]),
            ("RUN a<<EOF", &[]),
            ("RUN <<\"EOF", &[]),
        ] {
            assert_eq!(names(line), expected, "{line}");
        }
    }

    #[test]
    fn quotes_decide_about_variables() {
        let one = |word: &str| read(word).unwrap();
        assert!(one("<<EOF").expand);
        for quoted in ["<<'EOF'", "<<\"EOF\"", "<<E\"O\"F", "<<\\EOF"] {
            assert_eq!((one(quoted).name.as_str(), one(quoted).expand), ("EOF", false), "{quoted}");
        }
        assert!(one("<<-EOF").strip_tabs);
        assert_eq!(one("3<<EOF").descriptor, Some(3));
        assert_eq!(one("<<EOF").descriptor, None);
    }

    #[test]
    fn lines_are_taken_as_they_are() {
        let mut reader = Reader::new("# no comment\n\tx \\\n\n\tEOF\nEOF\nRUN b\n");
        let doc = collect(&mut reader, read("<<EOF").unwrap(), Span::default()).unwrap();
        assert_eq!(doc.content, "# no comment\n\tx \\\n\n\tEOF\n");
        assert_eq!(reader.logical().unwrap().text, "RUN b");

        let mut reader = Reader::new("\t\ta\n\tb\r\n\tEOF\n");
        let doc = collect(&mut reader, read("<<-EOF").unwrap(), Span::default()).unwrap();
        assert_eq!(doc.lines(), "a\nb\r\n");
        assert_eq!(doc.content, "\t\ta\n\tb\r\n");

        let mut reader = Reader::new("a\nEOF x\n");
        let error = collect(&mut reader, read("<<EOF").unwrap(), Span::new(0, 3)).unwrap_err();
        assert_eq!((error.span, error.message.contains("`EOF` has no end")), (Span::new(0, 3), true));
    }
}
