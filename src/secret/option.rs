//! `--secret NAME[,type=mount|env,target=…,uid=…,gid=…,mode=…]`

use std::path::{Component, Path, PathBuf};

use super::{SecretStore, missing};
use crate::container::spec::{Mount, MountFlags, MountKind, SecretEnv, SecretFile};
use crate::error::{Error, Result};

/// Where secrets are, unless they are wanted elsewhere.
pub const DIRECTORY: &str = "/run/secrets";
/// podman's mode of a file.
const MODE: u32 = 0o444;

/// The secrets of a container: files on tmpfs, and variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub mounts: Vec<Mount>,
    pub variables: Vec<SecretEnv>,
}

/// Reads the options and looks the secrets up.
///
/// # Errors
/// An option is not understood, or there is no such secret.
pub fn parse_all(texts: &[String], secrets: &SecretStore) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    let mut below = Vec::new();
    for text in texts {
        let option = Words::parse(text)?;
        let secret = secrets
            .find(&option.source)?
            .ok_or_else(|| missing(&option.source).while_doing(format!("cannot use `--secret {text}`")))?;
        let target = option.target.unwrap_or(option.source);
        if option.is_variable {
            wanted.variables.push(SecretEnv { variable: target, secret: secret.id, name: secret.name });
            continue;
        }
        let path = Path::new(&target);
        let file = SecretFile {
            secret: secret.id,
            name: secret.name,
            path: PathBuf::new(),
            uid: option.uid,
            gid: option.gid,
            mode: option.mode,
        };
        match path.strip_prefix(DIRECTORY).ok().or_else(|| path.is_relative().then_some(path)) {
            Some(inside) => below.push(SecretFile { path: inside.to_owned(), ..file }),
            None => wanted.mounts.push(mount(path.to_owned(), vec![file])),
        }
    }
    if !below.is_empty() {
        wanted.mounts.push(mount(PathBuf::from(DIRECTORY), below));
    }
    Ok(wanted)
}

fn mount(target: PathBuf, files: Vec<SecretFile>) -> Mount {
    // It becomes read-only once all that is mounted below it is.
    let flags = MountFlags { no_exec: true, no_suid: true, no_dev: true, read_only: false };
    Mount { target, flags, kind: MountKind::Secrets(files) }
}

/// The option as typed.
struct Words {
    source: String,
    is_variable: bool,
    target: Option<String>,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Words {
    fn parse(text: &str) -> Result<Self> {
        let wrong = |cause: String| {
            Error::new(format!("cannot use `--secret {}`", text.escape_debug()))
                .because(cause)
                .hint("write `NAME[,type=mount|env][,target=NAME|/PATH][,uid=N][,gid=N][,mode=0400]`")
        };
        let mut option =
            Self { source: String::new(), is_variable: false, target: None, uid: 0, gid: 0, mode: MODE };
        let mut only_for_files = None;
        for (number, word) in text.split(',').enumerate() {
            let Some((key, value)) = word.split_once('=') else {
                if number > 0 || word.is_empty() {
                    return Err(wrong(format!("`{}` is not `KEY=VALUE`", word.escape_debug())));
                }
                option.source = word.to_owned();
                continue;
            };
            let number =
                |value: &str| value.parse::<u32>().map_err(|_| wrong(format!("`{key}` takes a number")));
            match key {
                "source" | "src" => option.source = value.to_owned(),
                "type" => match value {
                    "mount" => option.is_variable = false,
                    "env" => option.is_variable = true,
                    _ => return Err(wrong("`type` is `mount` or `env`".to_owned())),
                },
                "target" | "dst" | "destination" => option.target = Some(value.to_owned()),
                "uid" => option.uid = number(value)?,
                "gid" => option.gid = number(value)?,
                "mode" => {
                    option.mode = u32::from_str_radix(value, 8)
                        .ok()
                        .filter(|mode| *mode <= 0o777)
                        .ok_or_else(|| wrong("`mode` takes octal digits up to 0777".to_owned()))?;
                }
                _ => return Err(wrong(format!("`{}` is not known", key.escape_debug()))),
            }
            if matches!(key, "uid" | "gid" | "mode") {
                only_for_files = Some(key);
            }
        }
        if option.source.is_empty() {
            return Err(wrong("it names no secret".to_owned()));
        }
        match (&option.target, option.is_variable) {
            (_, true) if only_for_files.is_some() => {
                return Err(wrong("a variable has no owner and no mode".to_owned()));
            }
            (Some(name), true) if name.is_empty() || name.contains(['=', '\0']) => {
                return Err(wrong("the variable needs a name without `=`".to_owned()));
            }
            (Some(path), false) if !is_path_of_a_file(Path::new(path)) => {
                return Err(wrong("the target has to be a file's name or path, without `..`".to_owned()));
            }
            _ => {}
        }
        Ok(option)
    }
}

/// What is relative is made below a directory of sbx's own, by its components.
fn is_path_of_a_file(path: &Path) -> bool {
    let mut parts = path.components().peekable();
    let absolute = parts.next_if_eq(&Component::RootDir).is_some();
    let below = if absolute { path.strip_prefix(DIRECTORY).unwrap_or(path) } else { path };
    parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !below.as_os_str().is_empty()
        && !path.to_string_lossy().ends_with('/')
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn parse(texts: &[&str]) -> Result<Wanted> {
        let folder = tempfile::tempdir().unwrap();
        let store = SecretStore::new(folder.path());
        for name in ["key", "cert"] {
            store.create(name, BTreeMap::new(), name.into(), false).unwrap();
        }
        parse_all(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(), &store)
    }

    fn files(mount: &Mount) -> Vec<(String, String, u32, u32, u32)> {
        let MountKind::Secrets(files) = &mount.kind else { panic!("{mount:?}") };
        let file = |file: &SecretFile| {
            (file.name.clone(), file.path.display().to_string(), file.uid, file.gid, file.mode)
        };
        files.iter().map(file).collect()
    }

    fn file(name: &str, path: &str, uid: u32, gid: u32, mode: u32) -> (String, String, u32, u32, u32) {
        (name.to_owned(), path.to_owned(), uid, gid, mode)
    }

    #[test]
    fn files_are_below_one_directory_or_where_they_are_wanted() {
        let wanted = parse(&[
            "key",
            "source=cert,target=tls/cert.pem,uid=5,gid=6,mode=0400",
            "key,target=/run/secrets/again",
            "key,type=mount,target=/etc/app/key",
        ])
        .unwrap();
        assert_eq!(wanted.mounts.len(), 2);
        assert_eq!(wanted.mounts[0].target, Path::new("/etc/app/key"));
        assert_eq!(files(&wanted.mounts[0]), [file("key", "", 0, 0, 0o444)]);
        assert_eq!(wanted.mounts[1].target, Path::new("/run/secrets"));
        assert_eq!(
            files(&wanted.mounts[1]),
            [
                file("key", "key", 0, 0, 0o444),
                file("cert", "tls/cert.pem", 5, 6, 0o400),
                file("key", "again", 0, 0, 0o444)
            ]
        );
    }

    #[test]
    fn variables_are_named_by_their_targets() {
        let wanted = parse(&["key,type=env", "cert,type=env,target=CERT"]).unwrap();
        let names: Vec<_> = wanted.variables.iter().map(|v| (v.variable.as_str(), v.name.as_str())).collect();
        assert_eq!(names, [("key", "key"), ("CERT", "cert")]);
        assert!(wanted.mounts.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (bad, told) in [
            ("", "KEY=VALUE"),
            ("nothing", "no secret `nothing`"),
            ("type=env", "names no secret"),
            ("key,key", "KEY=VALUE"),
            ("key,type=file", "`mount` or `env`"),
            ("key,mode=999", "octal"),
            ("key,mode=1777", "octal"),
            ("key,uid=root", "a number"),
            ("key,colour=red", "`colour` is not known"),
            ("key,target=../x", "without `..`"),
            ("key,target=a/../b", "without `..`"),
            ("key,target=/", "a file's name"),
            ("key,target=", "a file's name"),
            ("key,target=/run/secrets", "a file's name"),
            ("key,target=a/", "a file's name"),
            ("key,type=env,mode=0400", "no owner"),
            ("key,type=env,target=A=B", "without `=`"),
        ] {
            let error = parse(&[bad]).unwrap_err();
            assert!(error.report().contains(told), "{bad}: {}", error.report());
        }
    }
}
