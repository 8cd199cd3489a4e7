//! `RUN --mount=type=…,…` (Dockerfile reference, "RUN --mount").

use super::ast::Word;
use super::complaint::Complaint;
use super::step::{From, Mount, MountKind, Owner, Sharing};
use super::{limits, near};
use crate::container::size;
use crate::container::volume::csv;

const TYPES: [&str; 5] = ["bind", "cache", "secret", "ssh", "tmpfs"];
const KEYS: [&str; 21] = [
    "destination",
    "dst",
    "env",
    "from",
    "gid",
    "id",
    "mode",
    "readonly",
    "readwrite",
    "required",
    "ro",
    "rw",
    "sharing",
    "size",
    "source",
    "src",
    "target",
    "type",
    "uid",
    "z",
    "Z",
];

/// What one key says, in the order of writing.
struct Field {
    key: String,
    /// None: a key alone.
    value: Option<String>,
}

impl Field {
    fn value(&self) -> Result<&str, String> {
        match self.value.as_deref() {
            None => Err(format!("`{}` needs a value: `{}=VALUE`", self.key, self.key)),
            Some(value) => Ok(value),
        }
    }

    /// A key alone is true.
    fn switch(&self) -> Result<bool, String> {
        match self.value.as_deref() {
            None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(format!("`{}` is `true` or `false`", self.key)),
        }
    }

    fn number(&self, radix: u32) -> Result<u32, String> {
        let value = self.value()?;
        u32::from_str_radix(value, radix)
            .ok()
            .filter(|_| !value.starts_with('+'))
            .ok_or_else(|| format!("`{}` is a number, not `{value}`", self.key))
    }
}

/// What can be checked before variables are known: all, where there are none.
///
/// # Errors
/// As [`read`].
pub fn check(word: &Word) -> Result<(), Complaint> {
    if !word.text.contains('$') {
        return read(word, &mut |value| Ok(value.to_owned()), &|name| From::Named(name.to_owned())).map(drop);
    }
    from(word).map(drop)
}

/// The stage, context or image of `from=`, which knows no variables.
///
/// # Errors
/// It has one.
pub fn from(word: &Word) -> Result<Option<String>, Complaint> {
    let fields = fields(word).map_err(|why| Complaint::new(word.span, why))?;
    let from = fields.into_iter().rev().find(|field| field.key == "from").and_then(|field| field.value);
    match from {
        Some(name) if name.contains('$') => Err(super::parse::no_variable(word.span, "from")),
        from => Ok(from.filter(|name| !name.is_empty())),
    }
}

fn fields(word: &Word) -> Result<Vec<Field>, String> {
    if word.text.len() > limits::MOUNT {
        return Err(format!("a mount is longer than {} KiB", limits::MOUNT >> 10));
    }
    let field = |text: String| match text.split_once('=') {
        // SELinux' `z` and `Z` are the only keys whose case counts.
        None if text == "Z" => Field { key: text, value: None },
        None => Field { key: text.to_ascii_lowercase(), value: None },
        Some((key, value)) => Field { key: key.to_ascii_lowercase(), value: Some(value.to_owned()) },
    };
    csv::fields(&word.text).map(|fields| fields.into_iter().map(field).collect())
}

/// Reads a mount; `expand` puts variables into a value, `resolve` finds what `from=` names.
///
/// # Errors
/// A key or a value is not understood, or does not belong to the type of the mount.
pub fn read(
    word: &Word,
    expand: &mut dyn FnMut(&str) -> Result<String, Complaint>,
    resolve: &dyn Fn(&str) -> From,
) -> Result<Mount, Complaint> {
    let mut fields = fields(word).map_err(|why| Complaint::new(word.span, why))?;
    for field in &mut fields {
        if let Some(value) = field.value.as_mut().filter(|_| field.key != "from") {
            *value = expand(value)?;
        }
    }
    let from = from(word)?.map(|name| resolve(&name));
    let mut draft = Draft { from, ..Draft::default() };
    for field in &fields {
        draft.take(field).map_err(|(why, near)| Complaint::new(word.span, why).meant(near))?;
    }
    draft.finish().map_err(|why| Complaint::new(word.span, why))
}

#[derive(Default)]
struct Draft {
    kind: Option<String>,
    from: Option<From>,
    source: Option<String>,
    target: Option<String>,
    read_only: Option<bool>,
    id: Option<String>,
    variable: Option<String>,
    required: Option<bool>,
    sharing: Option<Sharing>,
    size: Option<u64>,
    owner: Owner,
}

impl Draft {
    fn take(&mut self, field: &Field) -> Result<(), (String, Option<&'static str>)> {
        self.value(field).map_err(|why| {
            let typed = field.value.as_deref().unwrap_or_default();
            let near = match field.key.as_str() {
                "type" => near::nearest(typed, TYPES),
                "sharing" => near::nearest(typed, ["shared", "private", "locked"]),
                key if KEYS.contains(&key) => None,
                key => near::nearest(key, KEYS),
            };
            (why, near)
        })
    }

    fn value(&mut self, field: &Field) -> Result<(), String> {
        let text = || field.value().map(|value| Some(value.to_owned()));
        match field.key.as_str() {
            "type" => {
                let kind = field.value()?.to_ascii_lowercase();
                if !TYPES.contains(&kind.as_str()) {
                    return Err(format!(
                        "there is no mount of type `{kind}`; there are {}",
                        TYPES.join(", ")
                    ));
                }
                self.kind = Some(kind);
            }
            "from" => drop(field.value()?),
            "source" | "src" => self.source = text()?,
            "target" | "dst" | "destination" => self.target = text()?.filter(|target| !target.is_empty()),
            "readonly" | "ro" => self.read_only = Some(field.switch()?),
            "readwrite" | "rw" => self.read_only = Some(!field.switch()?),
            "required" => self.required = Some(field.switch()?),
            "id" => self.id = text()?.filter(|id| !id.is_empty()),
            "env" => self.variable = text()?.filter(|name| !name.is_empty()),
            "sharing" => {
                self.sharing = Some(match field.value()?.to_ascii_lowercase().as_str() {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    other => {
                        return Err(format!("`sharing` is shared, private or locked, not `{other}`"));
                    }
                });
            }
            "size" => {
                self.size = Some(size::parse("size", field.value()?).map_err(|error| error.to_string())?);
            }
            "mode" => self.owner.mode = Some(field.number(8)?),
            "uid" => self.owner.uid = Some(field.number(10)?),
            "gid" => self.owner.gid = Some(field.number(10)?),
            // Labels of SELinux, which podman's Dockerfiles carry; a rootless mount is labelled with its root.
            "z" | "Z" if field.value.is_none() => {}
            key => return Err(format!("a mount has no `{key}`")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Mount, String> {
        let kind = self.kind.clone().unwrap_or_else(|| "bind".to_owned());
        let allowed: &[(&str, bool)] = &[
            ("from", matches!(kind.as_str(), "bind" | "cache")),
            ("source", matches!(kind.as_str(), "bind" | "cache" | "secret")),
            ("id", matches!(kind.as_str(), "cache" | "secret" | "ssh")),
            ("env", kind == "secret"),
            ("required", matches!(kind.as_str(), "secret" | "ssh")),
            ("sharing", kind == "cache"),
            ("size", kind == "tmpfs"),
            ("mode, uid or gid", matches!(kind.as_str(), "cache" | "secret" | "ssh")),
        ];
        let given = [
            self.from.is_some(),
            self.source.is_some(),
            self.id.is_some(),
            self.variable.is_some(),
            self.required.is_some(),
            self.sharing.is_some(),
            self.size.is_some(),
            self.owner != Owner::default(),
        ];
        if let Some(((key, _), _)) = allowed.iter().zip(given).find(|((_, may), given)| *given && !may) {
            return Err(format!("a mount of type {kind} has no {key}"));
        }
        let needs_target = matches!(kind.as_str(), "bind" | "cache" | "tmpfs");
        if needs_target && self.target.is_none() {
            return Err(format!("a mount of type {kind} needs a `target`"));
        }
        let source = self.source.clone().unwrap_or_default();
        let required = self.required == Some(true);
        let read_only = self.read_only.unwrap_or(!matches!(kind.as_str(), "cache" | "tmpfs"));
        let kind = match kind.as_str() {
            "cache" => MountKind::Cache {
                id: self.id.or_else(|| self.target.clone()).unwrap_or_default(),
                from: self.from,
                source,
                sharing: self.sharing.unwrap_or_default(),
                owner: self.owner,
            },
            "tmpfs" => MountKind::Tmpfs { size: self.size },
            "secret" => {
                if self.source.is_some() && self.id.is_some() {
                    return Err("a secret has `id` or `source`, not both".to_owned());
                }
                let name = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
                let id = self.id.or(self.source).or_else(|| self.target.as_ref().map(name));
                let Some(id) = id.filter(|id| !id.is_empty()) else {
                    return Err("a secret needs an `id`".to_owned());
                };
                MountKind::Secret { id, variable: self.variable, required, owner: self.owner }
            }
            "ssh" => MountKind::Ssh {
                id: self.id.unwrap_or_else(|| "default".to_owned()),
                required,
                owner: self.owner,
            },
            _ => MountKind::Bind { from: self.from.unwrap_or(From::Context), source },
        };
        Ok(Mount { kind, target: self.target, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Span;
    use super::*;

    fn mount(text: &str) -> Result<Mount, Complaint> {
        let word = Word { text: text.to_owned(), span: Span::new(3, 9) };
        read(&word, &mut |value| Ok(value.replace("$X", "x")), &|name| From::Named(name.to_owned()))
    }

    #[test]
    fn every_type_has_its_keys_and_defaults() {
        let bind = mount("target=/t").unwrap();
        let kind = MountKind::Bind { from: From::Context, source: String::new() };
        assert_eq!(bind, Mount { kind, target: Some("/t".to_owned()), read_only: true });

        let bind = mount("type=BIND,from=base,src=/a$X,dst=/t,rw,z").unwrap();
        let kind = MountKind::Bind { from: From::Named("base".to_owned()), source: "/ax".to_owned() };
        assert_eq!(bind, Mount { kind, target: Some("/t".to_owned()), read_only: false });

        let cache = mount("type=cache,target=/c,sharing=locked,mode=0700,uid=7,gid=8").unwrap();
        let owner = Owner { mode: Some(0o700), uid: Some(7), gid: Some(8) };
        let kind = MountKind::Cache {
            id: "/c".to_owned(),
            from: None,
            source: String::new(),
            sharing: Sharing::Locked,
            owner,
        };
        assert_eq!(cache, Mount { kind, target: Some("/c".to_owned()), read_only: false });
        assert!(mount("type=cache,target=/c,ro").unwrap().read_only);

        assert_eq!(
            mount("type=tmpfs,target=/t,size=1m").unwrap().kind,
            MountKind::Tmpfs { size: Some(1 << 20) }
        );

        let secret = |text| match mount(text).unwrap() {
            Mount { kind: MountKind::Secret { id, variable, required, .. }, target, .. } => {
                (id, variable, required, target)
            }
            other => panic!("{other:?}"),
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(secret("type=secret,id=a"), ("a".to_owned(), None, false, None));
        assert_eq!(secret("type=secret,target=/x/b"), ("b".to_owned(), None, false, text("/x/b")));
        assert_eq!(
            secret("type=secret,id=a,env=TOKEN,required"),
            ("a".to_owned(), text("TOKEN"), true, None)
        );
        let ssh = mount("type=ssh,required=true,mode=0666").unwrap();
        let owner = Owner { mode: Some(0o666), ..Owner::default() };
        assert_eq!(ssh.kind, MountKind::Ssh { id: "default".to_owned(), required: true, owner });
        assert_eq!(
            mount("type=cache,\"target=/a,b\"").unwrap().target,
            text("/a,b"),
            "a field in quotes may have commas"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("type=bnd,target=/t", "type `bnd`"),
            ("type=bind", "needs a `target`"),
            ("type=cache", "needs a `target`"),
            ("type=tmpfs,size=1", "needs a `target`"),
            ("type=tmpfs,target=/t,size=x", "size"),
            ("type=bind,target=/t,size=1m", "no size"),
            ("type=bind,target=/t,uid=1", "no mode, uid or gid"),
            ("type=bind,target=/t,sharing=shared", "no sharing"),
            ("type=cache,target=/t,sharing=share", "shared, private or locked"),
            ("type=cache,target=/t,required", "no required"),
            ("type=secret", "needs an `id`"),
            ("type=secret,id=a,source=b", "not both"),
            ("type=secret,id=a,from=b", "no from"),
            ("type=ssh,env=X", "no env"),
            ("type=cache,target=/t,mode=9", "`mode` is a number"),
            ("type=cache,target=/t,uid=-1", "`uid` is a number"),
            ("target=/t,ro=maybe", "`true` or `false`"),
            ("targt=/t", "no `targt`"),
            ("target", "needs a value"),
            ("target=/t,from=$X", "knows no variables"),
            ("\"target=/t", ""),
        ] {
            let error = mount(text).expect_err(text);
            assert!(error.message.contains(part), "{text}: {}", error.message);
            assert_eq!(error.span, Span::new(3, 9));
        }
        assert_eq!(mount("targt=/t").unwrap_err().hint.unwrap(), "did you mean `target`?");
        assert_eq!(mount("type=cahce,target=/t").unwrap_err().hint.unwrap(), "did you mean `cache`?");
    }

    #[test]
    fn without_variables_everything_is_checked_at_once() {
        let word = |text: &str| Word { text: text.to_owned(), span: Span::default() };
        assert!(check(&word("type=cache")).is_err());
        assert!(check(&word("type=$X")).is_ok());
        assert!(check(&word("type=$X,from=$Y")).is_err());
    }
}
