//! `--passwd-entry`, `--group-entry` and `--hostuser`: what sbx writes into the account files of a container.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::container_options::ContainerOptions;
use crate::container::spec::Account;
use crate::container::user::passwd_entries;
use crate::error::{Error, Result};

/// Completes what is known of the caller by what was asked for.
///
/// # Errors
/// A template is no line of its file, or the host has no such user.
pub(super) fn complete(account: Account, options: &ContainerOptions) -> Result<Account> {
    let template = |flag: &str, text: &Option<String>, fields: usize| match text {
        Some(text) if text.contains(['\n', '\0']) || text.split(':').count() != fields => {
            Err(Error::new(format!("cannot use `{flag} {}`", text.escape_debug()))
                .because(format!("it is not a line of {fields} fields with colons between them")))
        }
        text => Ok(text.clone()),
    };
    Ok(Account {
        passwd_entry: template("--passwd-entry", &options.passwd_entry, 7)?,
        group_entry: template("--group-entry", &options.group_entry, 4)?,
        host_users: options.hostuser.iter().map(|word| host_user(word)).collect::<Result<_>>()?,
        ..account
    })
}

/// The line for a user of the host, by name or number.
fn host_user(word: &str) -> Result<String> {
    let failed = || Error::new(format!("cannot use `--hostuser {}`", word.escape_debug()));
    let fit = word.chars().all(|c| c.is_ascii_graphic() && !":,".contains(c)) && !word.starts_with('-');
    if word.is_empty() || !fit {
        return Err(failed().because("it is neither the name nor the number of a user"));
    }
    let number = word.parse::<u32>().ok();
    let find = |text: &[u8]| {
        let mut entries = passwd_entries(text);
        let found = entries.find(|entry| entry.name == word.as_bytes() || Some(entry.uid) == number)?;
        let (name, home) = (String::from_utf8_lossy(found.name), String::from_utf8_lossy(found.home));
        Some(format!("{name}:*:{}:{}:{name}:{home}:/bin/sh", found.uid, found.gid))
    };
    let of_file = std::fs::read(Path::new("/etc/passwd")).ok().and_then(|text| find(&text));
    // Users of a directory service are in no file.
    let asked = || {
        let output = Command::new("getent").args(["passwd", word]).stderr(Stdio::null()).output().ok()?;
        find(&output.stdout)
    };
    of_file.or_else(asked).ok_or_else(|| failed().because("the host has no such user"))
}
