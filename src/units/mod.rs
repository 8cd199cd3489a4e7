//! systemd units for containers, as text: one for each container (podman-generate-systemd(1)), and one that starts
//! all that have a restart policy when the machine boots.

pub mod creation;

use std::fmt::Write as _;

/// A service in the making. Lines of each section, in the order in which they are added.
#[derive(Debug, Default)]
pub struct Unit {
    description: String,
    after: Vec<String>,
    wants: Vec<String>,
    requires: Vec<String>,
    mounts_for: Vec<String>,
    service: Vec<(&'static str, String)>,
}

impl Unit {
    /// A service that wants the network to be up, and the file systems that these directories are on.
    pub fn new(description: &str, directories: &[&str]) -> Self {
        Self {
            description: specifiers(description),
            mounts_for: directories.iter().map(|directory| quoted(directory)).collect(),
            ..Self::default()
        }
    }

    #[must_use]
    pub fn after(mut self, units: &[String]) -> Self {
        self.after.extend_from_slice(units);
        self
    }

    #[must_use]
    pub fn wants(mut self, units: &[String]) -> Self {
        self.wants.extend_from_slice(units);
        self
    }

    #[must_use]
    pub fn requires(mut self, units: &[String]) -> Self {
        self.requires.extend_from_slice(units);
        self
    }

    /// A line of the section `[Service]`, its value as systemd reads it.
    #[must_use]
    pub fn line(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.service.push((key, value.into()));
        self
    }

    /// A command; `prefix` is one of systemd.service(5), such as `-` for one that may fail.
    #[must_use]
    pub fn command(self, key: &'static str, prefix: &str, words: &[String]) -> Self {
        let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        self.line(key, format!("{prefix}{}", words.join(" ")))
    }

    /// The file's text below `header`, which is lines of comment.
    pub fn text(&self, header: &str) -> String {
        let mut text = String::new();
        for line in header.lines() {
            let _ = writeln!(text, "{}", format!("# {line}").trim_end());
        }
        let _ = writeln!(text, "\n[Unit]\nDescription={}", self.description);
        let network = "network-online.target";
        let _ = writeln!(text, "Wants={}", words(&[&[network.to_owned()], self.wants.as_slice()].concat()));
        let _ = writeln!(text, "After={}", words(&[&[network.to_owned()], self.after.as_slice()].concat()));
        if !self.requires.is_empty() {
            let _ = writeln!(text, "Requires={}", words(&self.requires));
        }
        for directory in &self.mounts_for {
            let _ = writeln!(text, "RequiresMountsFor={directory}");
        }
        text.push_str("\n[Service]\n");
        for (key, value) in &self.service {
            let _ = writeln!(text, "{key}={value}");
        }
        text.push_str("\n[Install]\nWantedBy=default.target\n");
        text
    }
}

fn words(units: &[String]) -> String {
    units.join(" ")
}

/// A word as systemd reads it back (systemd.syntax(7), Quoting; systemd.service(5), Command lines): `%` would begin a
/// specifier and `$` a variable.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_@+=:,./-%".contains(c);
    let text = specifiers(word);
    if !word.is_empty() && word.chars().all(plain) {
        return text;
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '$' => quoted.push_str("$$"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                for byte in c.to_string().bytes() {
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_as_they_were() {
        for (word, text) in [
            ("plain-word_1.2:/x=y,z@h", "plain-word_1.2:/x=y,z@h"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("100%", "100%%"),
            ("$HOME", "\"$$HOME\""),
            ("say \"hi\" \\", "\"say \\\"hi\\\" \\\\\""),
            ("a\nb\u{1}", "\"a\\nb\\x01\""),
            (";", "\";\""),
            ("ä", "\"ä\""),
        ] {
            assert_eq!(quoted(word), text);
        }
    }

    #[test]
    fn sections_have_their_lines() {
        let strings = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let unit = Unit::new("50% done", &["/a b"])
            .after(&strings(&["db.service"]))
            .requires(&strings(&["x.service", "y.service"]))
            .command("ExecStart", "-", &strings(&["/bin/x", "a b"]));
        assert_eq!(
            unit.text("one\n\ntwo"),
            "# one\n#\n# two\n\n[Unit]\nDescription=50%% done\nWants=network-online.target\n\
             After=network-online.target db.service\nRequires=x.service y.service\nRequiresMountsFor=\"/a b\"\n\n\
             [Service]\nExecStart=-/bin/x \"a b\"\n\n[Install]\nWantedBy=default.target\n"
        );
    }
}
