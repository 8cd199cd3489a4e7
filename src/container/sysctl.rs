//! `--sysctl NAME=VALUE`: the settings of the kernel that belong to a container's own namespaces.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Settings of the IPC namespace (namespaces(7); Linux ipc/ipc_sysctl.c).
const IPC: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// The kernel reads one page of a setting (proc(5)).
const MAX_VALUE: usize = 4095;

/// Which namespaces are the container's own.
#[derive(Debug, Clone, Copy)]
pub struct Private {
    pub net: bool,
    pub ipc: bool,
}

/// Who asks for a setting: what is said of a mistake has to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    CommandLine,
    /// A config.json.
    Bundle,
}

/// Reads every `--sysctl`; a later one replaces an earlier one of the same name. The names that come back
/// have dots between their parts; [`path`] makes files of them.
///
/// # Errors
/// The text has no `=`, or the setting is not one of a namespace that the container has for itself.
pub fn parse_all(flags: &[String], private: Private) -> Result<BTreeMap<String, String>> {
    flags.iter().map(|text| parse(text, private)).collect()
}

fn parse(text: &str, private: Private) -> Result<(String, String)> {
    let wrong = |cause: String| Error::new(format!("cannot use `--sysctl {text}`")).because(cause);
    let form = "write `--sysctl NAME=VALUE`, such as `--sysctl net.ipv4.ip_forward=1`";
    let Some((name, value)) = text.split_once('=') else {
        return Err(wrong("`=` is missing".to_owned()).hint(form));
    };
    checked((name, value), private, Asker::CommandLine, &|cause| wrong(cause)).map_err(|error| {
        match error.hints() {
            [] => error.hint(form),
            _ => error,
        }
    })
}

/// The name in the form with dots, and the value. `wrong` makes an error of a reason.
///
/// # Errors
/// As [`parse_all`].
pub fn checked(
    (name, value): (&str, &str),
    private: Private,
    asker: Asker,
    wrong: &dyn Fn(String) -> Error,
) -> Result<(String, String)> {
    let name = dotted(name).map_err(wrong)?;
    if value.len() > MAX_VALUE || value.contains(['\0', '\n']) {
        return Err(wrong("the value is not one line of at most 4095 bytes".to_owned()));
    }
    let share = |namespace: &str, flag: &str, kind: &str| {
        wrong(format!("`{name}` belongs to the {namespace} namespace, which is not the container's own"))
            .hint(match asker {
                Asker::CommandLine => format!("leave out `{flag}`, or the setting"),
                Asker::Bundle => format!("list a namespace of the type `{kind}`, or leave out the setting"),
            })
    };
    let own = |flag: &str, property: &str| match asker {
        Asker::CommandLine => wrong(format!("`{name}` has a flag of its own")).hint(format!("use `{flag}`")),
        Asker::Bundle => {
            wrong(format!("`{name}` has a property of its own")).hint(format!("set `{property}`"))
        }
    };
    if name.starts_with("net.") {
        return if private.net {
            Ok((name, value.to_owned()))
        } else {
            Err(share("network", "--network host", "network"))
        };
    }
    if name.starts_with("fs.mqueue.") || IPC.contains(&name.as_str()) {
        return if private.ipc {
            Ok((name, value.to_owned()))
        } else {
            Err(share("IPC", "--ipc host", "ipc"))
        };
    }
    Err(match name.as_str() {
        "kernel.hostname" => own("--hostname", "hostname"),
        "kernel.domainname" => own("--domainname", "domainname"),
        _ => wrong(format!("`{name}` belongs to the whole machine, not to a namespace")).hint(
            "net.*, fs.mqueue.* and kernel.msgmax, msgmnb, msgmni, sem, shm_rmid_forced, shmall, shmmax, shmmni can be set",
        ),
    })
}

/// Brings `net/ipv4/conf/eth0.1/x` and `net.ipv4.conf.eth0/1.x` (sysctl(8): the first separator decides)
/// into the second form.
fn dotted(name: &str) -> std::result::Result<String, String> {
    let separator = name.chars().find(|c| matches!(c, '.' | '/')).unwrap_or('.');
    for part in name.split(separator) {
        if part.is_empty() {
            return Err(format!("a part of the name `{name}` is empty"));
        }
        // In the form with dots a slash stands for a dot within a part.
        if matches!(part, "." | ".." | "/" | "//") {
            return Err(format!("`{part}` is no part of a name"));
        }
        if part.len() > 255 || part.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(format!("the name `{}` has a part that no file can have", name.escape_debug()));
        }
    }
    Ok(if separator == '/' { swapped(name) } else { name.to_owned() })
}

fn swapped(name: &str) -> String {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    name.chars().map(swap).collect()
}

/// The file of a name that [`parse_all`] returned, relative to /proc/sys and without `..`.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(swapped(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Component, Path};

    const ALL: Private = Private { net: true, ipc: true };

    #[test]
    fn names_have_dots_or_slashes() {
        for (text, name, value, file) in [
            ("net.ipv4.ip_forward=1", "net.ipv4.ip_forward", "1", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward=1", "net.ipv4.ip_forward", "1", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/x=0", "net.ipv4.conf.eth0/1.x", "0", "net/ipv4/conf/eth0.1/x"),
            ("net.ipv4.conf.eth0/1.x=0", "net.ipv4.conf.eth0/1.x", "0", "net/ipv4/conf/eth0.1/x"),
            ("kernel.sem=1 2 3 4", "kernel.sem", "1 2 3 4", "kernel/sem"),
            ("kernel.shmmax=", "kernel.shmmax", "", "kernel/shmmax"),
            ("fs.mqueue.msg_max=a=b", "fs.mqueue.msg_max", "a=b", "fs/mqueue/msg_max"),
        ] {
            assert_eq!(parse(text, ALL).unwrap(), (name.to_owned(), value.to_owned()), "{text}");
            assert_eq!(path(name), Path::new(file));
        }
    }

    #[test]
    fn the_last_spelling_wins() {
        let flags = ["net.core.somaxconn=1", "net/core/somaxconn=2"].map(str::to_owned);
        let all = parse_all(&flags, ALL).unwrap();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [("net.core.somaxconn".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn shared_namespaces_refuse_their_settings() {
        let net = parse("net.core.somaxconn=1", Private { net: false, ipc: true }).unwrap_err();
        assert!(net.causes()[0].contains("network namespace"), "{net}");
        for text in ["kernel.msgmax=1", "fs.mqueue.msg_max=1"] {
            let ipc = parse(text, Private { net: true, ipc: false }).unwrap_err();
            assert!(ipc.causes()[0].contains("IPC namespace"), "{ipc}");
            assert!(ipc.hints()[0].contains("--ipc host"));
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        for (text, cause) in [
            ("", "`=` is missing"),
            ("net.core.somaxconn", "`=` is missing"),
            ("=1", "is empty"),
            ("net..x=1", "is empty"),
            ("net.=1", "is empty"),
            (".net.x=1", "is empty"),
            ("/net/x=1", "is empty"),
            ("net/../kernel/x=1", "`..` is no part"),
            ("net/./x=1", "`.` is no part"),
            ("net.//.kernel.x=1", "`//` is no part"),
            ("net./.x=1", "`/` is no part"),
            ("net.a b=1", "no file can have"),
            ("net.a\0=1", "no file can have"),
            ("net.x=\0", "one line"),
            ("net.x=a\nb", "one line"),
            ("kernel.hostname=x", "flag of its own"),
            ("kernel/domainname=x", "flag of its own"),
            ("kernel.panic=1", "whole machine"),
            ("vm.swappiness=1", "whole machine"),
            ("network.x=1", "whole machine"),
            ("fs.mqueue=1", "whole machine"),
        ] {
            let error = parse(text, ALL).unwrap_err();
            assert!(error.message().contains("--sysctl"), "{error}");
            assert!(error.causes()[0].contains(cause), "{text:?}: {error}");
        }
    }

    #[test]
    fn no_accepted_name_leaves_the_directory() {
        for text in ["net/a../x=1", "net.x/=1", "net.///=1", "net/...=1"] {
            let (name, _) = parse(text, ALL).unwrap();
            assert!(path(&name).components().all(|part| matches!(part, Component::Normal(_))), "{text}");
        }
        assert!(parse(&format!("net.x={}", "a".repeat(5000)), ALL).is_err());
    }
}
