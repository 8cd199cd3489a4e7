//! The environment of the container's command: image, `--env-file`, `-e` and defaults, in that order of rank.

use std::collections::HashMap;
use std::io::Read;

use crate::error::{Error, Result, Step};

/// What is searched when the image says nothing (docker's and podman's default).
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of one `--env-file`; few kernels take a larger environment (execve(2), ARG_MAX).
const MAX_FILE: u64 = 1 << 20;

/// What sbx itself sets where nobody else does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults<'a> {
    pub hostname: Option<&'a str>,
    /// None where it is known only later, from the container's passwd file: see [`set_default`].
    pub home: Option<&'a str>,
    /// A terminal is allocated: TERM is set.
    pub terminal: bool,
    /// `--env-host`: all that the caller has is there, below everything else.
    pub all_of_caller: bool,
    /// `--http-proxy`: the caller's proxies are there.
    pub proxies: bool,
    /// `--unsetenv`: of what is there before files and flags.
    pub unset: &'a [String],
    /// `--unsetenv-all`
    pub unset_all: bool,
    /// `--env-merge`: `NAME=VALUE`, where `${NAME}` in VALUE is what was there before.
    pub merged: &'a [String],
}

/// What tells programs of proxies (podman-run(1), --http-proxy), each in small letters and capitals.
const PROXIES: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// Merges every source; the later beats the earlier: defaults, image, files, flags.
///
/// `caller` is the environment of sbx, for `-e NAME` and `-e PREFIX*`.
///
/// # Errors
/// Names the flag, or the file and its line, that is wrong.
pub fn merge(
    image: &[String],
    files: &[(String, Vec<u8>)],
    flags: &[String],
    caller: &[(String, String)],
    defaults: Defaults<'_>,
) -> Result<Vec<String>> {
    let mut merged = Merged::default();
    merged.set("PATH", DEFAULT_PATH);
    for (name, value) in caller {
        let is_proxy = || PROXIES.iter().any(|proxy| proxy == name || proxy.to_uppercase() == *name);
        if defaults.all_of_caller || (defaults.proxies && is_proxy()) {
            merged.set(name, value);
        }
    }
    if defaults.terminal {
        merged.set("TERM", "xterm");
    }
    merged.set("container", "sbx");
    if let Some(hostname) = defaults.hostname {
        merged.set("HOSTNAME", hostname);
    }
    for entry in image {
        if let Some((name, value)) = entry.split_once('=')
            && !name.is_empty()
            && !entry.contains('\0')
        {
            merged.set(name, value);
        }
    }
    if defaults.unset_all {
        merged = Merged::default();
    }
    defaults.unset.iter().for_each(|name| merged.unset(name));
    let before = merged.variables.clone();
    for entry in defaults.merged {
        merged.expanded(entry, &before).map_err(|cause| {
            Error::new(format!("cannot use `--env-merge {entry}`"))
                .because(cause)
                .hint("write `NAME=VALUE`, with `${NAME}` for what the image has")
        })?;
    }
    for (name, text) in files {
        merged.file(name, text, caller)?;
    }
    for flag in flags {
        merged
            .entry(flag, caller)
            .map_err(|cause| Error::new(format!("cannot use `--env {flag}`")).because(cause).hint(FORM))?;
    }
    let mut variables = merged.variables;
    if let Some(home) = defaults.home {
        set_default(&mut variables, "HOME", home);
    }
    Ok(variables)
}

const FORM: &str = "write `NAME=VALUE`, or `NAME` for the value of your own environment, or `PREFIX*`";

/// Sets a variable that is missing, or empty as an unset HOME may be.
pub fn set_default(variables: &mut Vec<String>, name: &str, value: &str) {
    let set = |variable: &String| variable.split_once('=').is_some_and(|(known, _)| known == name);
    match variables.iter_mut().find(|variable| set(variable)) {
        Some(variable) if variable.len() > name.len() + 1 => {}
        Some(variable) => *variable = format!("{name}={value}"),
        None => variables.push(format!("{name}={value}")),
    }
}

/// Sets variables, each `NAME=VALUE`, over those of the same names.
pub fn set_all(variables: &mut Vec<String>, new: Vec<String>) {
    for entry in new {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        variables.retain(|variable| variable.split_once('=').is_none_or(|(known, _)| known != name));
        variables.push(entry);
    }
}

/// The environment of this process, without the variables that are not UTF-8.
pub fn of_caller() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads one `--env-file`, which may be a pipe.
///
/// # Errors
/// The file cannot be read, or is larger than 1 MiB.
pub fn read_file(path: &str) -> Result<(String, Vec<u8>)> {
    let what = || format!("cannot read the file `{path}`");
    let mut text = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut text)).step(what)?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::new(what()).because("it is larger than 1 MiB"));
    }
    Ok((path.to_owned(), text))
}

/// Variables in the order of their first setting.
#[derive(Default)]
struct Merged {
    variables: Vec<String>,
    places: HashMap<String, usize>,
}

impl Merged {
    fn set(&mut self, name: &str, value: &str) {
        let variable = format!("{name}={value}");
        match self.places.get(name) {
            Some(place) => self.variables[*place] = variable,
            None => {
                self.places.insert(name.to_owned(), self.variables.len());
                self.variables.push(variable);
            }
        }
    }

    fn unset(&mut self, name: &str) {
        let Some(place) = self.places.remove(name) else { return };
        self.variables.remove(place);
        self.places.values_mut().filter(|later| **later > place).for_each(|later| *later -= 1);
    }

    /// `NAME=VALUE` with what `before` has put into VALUE.
    fn expanded(&mut self, entry: &str, before: &[String]) -> std::result::Result<(), String> {
        let Some((name, value)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err("it is not `NAME=VALUE`".to_owned());
        };
        let value_of = |name: &str| {
            let of = |variable: &String| variable.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            before.iter().find_map(of).unwrap_or_default()
        };
        self.entry(&format!("{name}={}", expand(value, value_of)), &[])
    }

    fn file(&mut self, file: &str, text: &[u8], caller: &[(String, String)]) -> Result<()> {
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        for (number, line) in (1_u32..).zip(text.split(|byte| *byte == b'\n')) {
            self.line(line, caller).map_err(|cause| {
                Error::new(format!("cannot use line {number} of the environment file: `{file}:{number}`"))
                    .because(cause)
                    .hint("a line is `NAME=VALUE` (the value as it is, without quotes), `NAME`, or a `#` comment")
            })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], caller: &[(String, String)]) -> std::result::Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.contains(char::is_whitespace) {
            return Err(format!("the name `{name}` contains white space"));
        }
        self.entry(line, caller)
    }

    /// `NAME=VALUE`, `NAME`, `PREFIX*`.
    fn entry(&mut self, entry: &str, caller: &[(String, String)]) -> std::result::Result<(), String> {
        if entry.contains('\0') {
            return Err("it contains a NUL byte".to_owned());
        }
        match entry.split_once('=') {
            Some(("", _)) => return Err("the name before `=` is empty".to_owned()),
            Some((name, value)) => self.set(name, value),
            None if entry.is_empty() => return Err("it is empty".to_owned()),
            None => {
                let prefix = entry.strip_suffix('*');
                for (name, value) in caller {
                    if prefix.map_or(name == entry, |prefix| name.starts_with(prefix)) {
                        self.set(name, value);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Replaces `$NAME` and `${NAME}`; another `$` stands for itself.
fn expand(text: &str, value_of: impl Fn(&str) -> String) -> String {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        whole.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let end = after.find(|c| !of_a_name(c)).unwrap_or(after.len());
        (rest, whole) = match braced {
            Some((name, rest)) => (rest, whole + &value_of(name)),
            None if end > 0 => (&after[end..], whole + &value_of(&after[..end])),
            None => (after, whole + "$"),
        };
    }
    whole + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Vec<(String, String)> {
        [("LANG", "de_DE"), ("LC_ALL", "C"), ("LC_TIME", "x"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn flags(texts: &[&str]) -> Result<Vec<String>> {
        merge(&[], &[], &strings(texts), &caller(), Defaults::default()).map(|all| all[2..].to_vec())
    }

    fn file(text: &[u8]) -> Result<Vec<String>> {
        let files = [("vars".to_owned(), text.to_vec())];
        merge(&[], &files, &[], &caller(), Defaults::default()).map(|all| all[2..].to_vec())
    }

    #[test]
    fn flags_set_copy_and_match() {
        assert_eq!(flags(&["A=1", "B=", "C=x=y"]).unwrap(), ["A=1", "B=", "C=x=y"]);
        assert_eq!(flags(&["LANG", "EMPTY", "UNSET"]).unwrap(), ["LANG=de_DE", "EMPTY="]);
        assert_eq!(flags(&["LC_*"]).unwrap(), ["LC_ALL=C", "LC_TIME=x"]);
        assert_eq!(flags(&["NO_*"]).unwrap(), [""; 0]);
        assert_eq!(flags(&["*"]).unwrap().len(), 4);
        assert_eq!(flags(&["A=*"]).unwrap(), ["A=*"]);
        assert_eq!(flags(&["A=1", "B=2", "A=3"]).unwrap(), ["A=3", "B=2"]);
        assert_eq!(flags(&["A B= c "]).unwrap(), ["A B= c "]);
    }

    #[test]
    fn wrong_flags_are_refused() {
        for (flag, cause) in [("", "empty"), ("=x", "before `=`"), ("A=\0", "NUL"), ("A\0", "NUL")] {
            let error = flags(&[flag]).unwrap_err();
            assert!(error.message().contains("--env"), "{error}");
            assert!(error.causes()[0].contains(cause), "{error}");
        }
    }

    #[test]
    fn files_are_lines_without_quotes() {
        let text = b"\xEF\xBB\xBFA=1\r\n\n# note\n  #note\n  B=\"x y\" \nLANG\nLC_T*\nUNSET\nC=#d";
        assert_eq!(file(text).unwrap(), ["A=1", "B=\"x y\" ", "LANG=de_DE", "LC_TIME=x", "C=#d"]);
        assert_eq!(file(b"").unwrap(), [""; 0]);
    }

    #[test]
    fn wrong_lines_are_named_by_number() {
        for (text, place, cause) in [
            (&b"A=1\n=x\n"[..], "vars:2", "before `=`"),
            (b"\n\nA B=1", "vars:3", "`A B` contains white space"),
            (b"A =1", "vars:1", "white space"),
            (b"A \n", "vars:1", "white space"),
            (b"A=\xff\n", "vars:1", "not UTF-8"),
            (b"A=1\nB=\0\n", "vars:2", "NUL"),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.message().contains(place), "{error}");
            assert!(error.causes()[0].contains(cause), "{error}");
        }
    }

    #[test]
    fn flags_beat_files_beat_the_image_beats_defaults() {
        let defaults =
            Defaults { hostname: Some("box"), home: Some("/root"), terminal: true, ..Defaults::default() };
        let image = strings(&["PATH=/bin", "A=image", "B=image", "C=image", "bad", "=x"]);
        let files = [("vars".to_owned(), b"B=file\nC=file".to_vec())];
        let merged = merge(&image, &files, &strings(&["C=flag"]), &[], defaults).unwrap();
        assert_eq!(
            merged,
            [
                "PATH=/bin",
                "TERM=xterm",
                "container=sbx",
                "HOSTNAME=box",
                "A=image",
                "B=file",
                "C=flag",
                "HOME=/root"
            ]
        );
        let merged = merge(&[], &[], &strings(&["HOME=/x", "TERM=vt100"]), &[], defaults).unwrap();
        assert!(merged.contains(&"HOME=/x".to_owned()) && merged.contains(&"TERM=vt100".to_owned()));
        let merged = merge(&[], &[], &[], &[], Defaults::default()).unwrap();
        assert_eq!(merged, [format!("PATH={DEFAULT_PATH}"), "container=sbx".to_owned()]);
    }

    #[test]
    fn the_callers_variables_are_below_all_others() {
        let caller =
            [("http_proxy", "p"), ("NO_PROXY", "n"), ("Http_Proxy", "odd"), ("LANG", "C"), ("A", "caller")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let with =
            |defaults| merge(&strings(&["A=image"]), &[], &[], &caller, defaults).unwrap()[1..].to_vec();
        let proxies = Defaults { proxies: true, ..Defaults::default() };
        assert_eq!(with(proxies), ["http_proxy=p", "NO_PROXY=n", "container=sbx", "A=image"]);
        let all = Defaults { all_of_caller: true, ..Defaults::default() };
        assert_eq!(
            with(all),
            ["http_proxy=p", "NO_PROXY=n", "Http_Proxy=odd", "LANG=C", "A=image", "container=sbx"]
        );
        let image = strings(&["http_proxy=image"]);
        assert_eq!(merge(&image, &[], &[], &caller, proxies).unwrap()[1], "http_proxy=image");
    }

    #[test]
    fn what_is_there_before_flags_is_unset_and_merged() {
        let image = strings(&["A=1", "B=2", "C=3"]);
        let with = |unset: &[&str], unset_all, merged: &[&str]| {
            let (unset, merged) = (strings(unset), strings(merged));
            let defaults = Defaults { unset: &unset, unset_all, merged: &merged, ..Defaults::default() };
            merge(&image, &[], &strings(&["B=flag"]), &[], defaults)
        };
        assert_eq!(with(&["A", "PATH", "container", "NO"], false, &[]).unwrap(), ["B=flag", "C=3"]);
        assert_eq!(with(&["C"], true, &[]).unwrap(), ["B=flag"]);
        assert_eq!(
            with(&["PATH", "container"], false, &["A=${A}0$C-$NO$", "D=$", "B=x"]).unwrap(),
            ["A=103-$", "B=flag", "C=3", "D=$"]
        );
        for bad in ["A", "=x", "A=\0"] {
            assert!(with(&[], false, &[bad]).unwrap_err().message().contains("--env-merge"), "{bad}");
        }
    }

    #[test]
    fn variables_set_late_replace_those_of_their_names() {
        let mut variables = strings(&["A=1", "AB=2"]);
        set_all(&mut variables, strings(&["A=x=y", "C=3"]));
        assert_eq!(variables, ["AB=2", "A=x=y", "C=3"]);
    }

    #[test]
    fn defaults_fill_what_is_missing_or_empty() {
        let mut variables = strings(&["HOME=", "HOMER=x"]);
        set_default(&mut variables, "HOME", "/a");
        set_default(&mut variables, "HOMER", "/b");
        set_default(&mut variables, "NEW", "/c");
        assert_eq!(variables, ["HOME=/a", "HOMER=x", "NEW=/c"]);
    }

    #[test]
    fn files_are_read_up_to_a_limit() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "A=1").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(read_file(path).unwrap(), (path.to_owned(), b"A=1".to_vec()));
        std::fs::write(file.path(), vec![b'\n'; MAX_FILE as usize + 1]).unwrap();
        assert!(read_file(path).unwrap_err().causes()[0].contains("1 MiB"));
        let error = read_file("/no/such/file").unwrap_err();
        assert!(error.message().contains("/no/such/file") && error.causes()[0].contains("No such file"));
    }
}
