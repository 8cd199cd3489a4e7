//! From what is asked for and who asks to one decided [`Identity`].

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::map::MAX_LINES;
use super::nested::{self, Lines};
use super::subid::Kind;
use super::tier::{Base, choose_tier};
use super::{Caller, Host, IdMap, Identity, MapArg, MapLine, NestedMaps, Obstacle, Tier, Userns};
use crate::container::spec::Namespace;
use crate::error::{Error, Result, Step};

/// `auto` without a size (the size that podman starts from).
pub const AUTO_SIZE: u32 = 1024;

/// What the command line and the image ask for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--id-tier`; none: the best that can be had.
    pub tier: Option<Tier>,
    /// `--userns`; none: not given.
    pub userns: Option<Userns>,
    /// `--uidmap`
    pub uid_maps: Vec<MapArg>,
    /// `--gidmap`
    pub gid_maps: Vec<MapArg>,
    /// The image's USER in numbers, for `image-user`; none: root.
    pub image_user: Option<(u32, u32)>,
    /// For `auto`: first canonical ID and count of the blocks that other containers hold ([`NestedMaps::blocks`]).
    pub in_use: Vec<(u32, u32)>,
}

/// Decides the user namespace on this machine.
///
/// # Errors
/// What can't be had, with each reason as a cause and its mend as a hint.
pub fn plan(request: &Request, caller: &Caller) -> Result<Identity> {
    plan_on(&Host::system(), request, caller)
}

/// [`plan`] with the host's files as a value.
///
/// # Errors
/// As [`plan`].
pub fn plan_on(host: &Host, request: &Request, caller: &Caller) -> Result<Identity> {
    let maps_given = !request.uid_maps.is_empty() || !request.gid_maps.is_empty();
    if maps_given && request.userns.is_some() {
        return Err(Error::new("cannot use `--userns` together with `--uidmap` or `--gidmap`")
            .because("each of them decides the map")
            .hint("leave one of them out"));
    }
    if let Some(Userns::Path(path)) = &request.userns {
        check_user_namespace(path, &host.proc_self.join("ns/user"))?;
    }
    let base = choose_tier(host, request.tier, caller)?;
    let userns = request.userns.clone().unwrap_or_default();
    let asked = Asked::new(request, &userns, maps_given, caller);
    let mut identity = Identity {
        tier: base.tier,
        uid_map: base.uid_map.clone(),
        gid_map: base.gid_map.clone(),
        deny_setgroups: base.deny_setgroups,
        nested: None,
        exclusive: false,
        join: match &userns {
            Userns::Container(id) => Some(Namespace::Container(id.clone())),
            Userns::Path(path) => Some(Namespace::Path(path.clone())),
            _ => None,
        },
        default_user: asked.default_user,
        writer: base.writer.clone(),
        notes: base.passed_over.iter().map(Obstacle::to_string).chain(base.notes.iter().cloned()).collect(),
    };
    if let Some((users, groups)) = asked.lines(&base)? {
        for (lines, kind) in [(&users, Kind::User), (&groups, Kind::Group)] {
            identity.notes.extend(left_out_note(&asked.words, &lines.left_out, kind));
        }
        let nested = NestedMaps {
            uid_map: asked.check(users.kept, &base)?,
            gid_map: asked.check(groups.kept, &base)?,
        };
        if base.tier == Tier::Single {
            // With one ID there is nothing to nest: the one line says at once who the caller is inside.
            identity.uid_map.0[0].inside = nested.uid_map.0[0].inside;
            identity.gid_map.0[0].inside = nested.gid_map.0[0].inside;
        } else if !is_whole(&nested.uid_map, &base.uid_map) || !is_whole(&nested.gid_map, &base.gid_map) {
            identity.nested = Some(nested);
            identity.exclusive = matches!(userns, Userns::Auto(_));
        }
    }
    Ok(identity)
}

/// What decides about the nested map, in the user's words for messages.
struct Asked<'a> {
    words: String,
    request: &'a Request,
    userns: &'a Userns,
    default_user: Option<(u32, u32)>,
    /// The container's IDs that are to be the caller.
    caller_as: Option<(u32, u32)>,
}

impl<'a> Asked<'a> {
    fn new(request: &'a Request, userns: &'a Userns, maps_given: bool, caller: &Caller) -> Self {
        let (words, caller_as, default_user) = match userns {
            Userns::KeepId { uid, gid } => {
                let user = (uid.unwrap_or(caller.uid), gid.unwrap_or(caller.gid));
                ("--userns keep-id", Some(user), Some(user))
            }
            Userns::ImageUser => ("--userns image-user", Some(request.image_user.unwrap_or((0, 0))), None),
            Userns::Auto(_) => ("--userns auto", None, None),
            Userns::NoMap => ("--userns nomap", None, None),
            Userns::Host | Userns::Container(_) | Userns::Path(_) if maps_given => ("--uidmap", None, None),
            Userns::Host | Userns::Container(_) | Userns::Path(_) => ("--userns host", None, None),
        };
        Self { words: words.to_owned(), request, userns, default_user, caller_as }
    }

    /// The lines of the nested maps; none: the canonical maps serve as they are.
    fn lines(&self, base: &Base) -> Result<Option<(Lines, Lines)>> {
        let whole = (&base.uid_map, &base.gid_map);
        let canonical = base.containers.as_ref().map_or(whole, |(users, groups)| (users, groups));
        if let Some((uid, gid)) = self.caller_as {
            return Ok(Some((nested::caller_as(uid, canonical.0), nested::caller_as(gid, canonical.1))));
        }
        if matches!(self.userns, Userns::Auto(_) | Userns::NoMap) && base.hosts_own_ids {
            return Err(self
                .refused("the IDs of this container would be those of the host's own users", base)
                .hint("give root a subordinate range: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 root`"));
        }
        let both = |(users, groups)| {
            let lines = |kept| Lines { kept, left_out: Vec::new() };
            (lines(users), lines(groups))
        };
        match self.userns {
            Userns::NoMap => {
                Ok(Some((nested::without_caller(canonical.0), nested::without_caller(canonical.1))))
            }
            Userns::Auto(auto) => nested::auto(
                auto.size.unwrap_or(AUTO_SIZE),
                (&auto.uid_mappings, &auto.gid_mappings),
                &self.request.in_use,
                canonical,
            )
            .map(|lines| Some(both(lines)))
            .map_err(|cause| self.refused(&cause, base)),
            _ if self.words == "--uidmap" => {
                nested::explicit(&self.request.uid_maps, &self.request.gid_maps, whole)
                    .map(Some)
                    .map_err(|cause| self.refused(&cause, base))
            }
            // Root that asks for nothing gets its range; `--userns host` is the way to be root outside, too.
            Userns::Host if self.request.userns.is_none() && base.containers.is_some() => {
                Ok(Some((nested::without_caller(canonical.0), nested::without_caller(canonical.1))))
            }
            _ => Ok(None),
        }
    }

    fn check(&self, lines: Vec<MapLine>, base: &Base) -> Result<IdMap> {
        if lines.is_empty() {
            return Err(self.refused("there is no ID but the caller's own", base));
        }
        IdMap::new(lines).map_err(|fault| self.refused(&fault.to_string(), base))
    }

    fn refused(&self, cause: &str, base: &Base) -> Error {
        let error = Error::new(format!("cannot take `{}` in the {} tier of IDs", self.words, base.tier))
            .because(cause);
        Obstacle::explain(&base.passed_over, error)
    }
}

fn left_out_note(words: &str, left_out: &[MapLine], kind: Kind) -> Option<String> {
    if left_out.is_empty() {
        return None;
    }
    let ranges: Vec<String> = left_out.iter().map(|line| line.inside_range().to_string()).collect();
    Some(format!(
        "`{words}` leaves out the container's {} IDs {}, because a map has at most {MAX_LINES} lines",
        kind.word(),
        ranges.join(", ")
    ))
}

/// Whether a nested map says no more than that the canonical one is taken as it is.
fn is_whole(nested: &IdMap, canonical: &IdMap) -> bool {
    nested.0.iter().all(|line| line.inside == line.outside) && nested.len() == canonical.len()
}

/// Refuses what setns(2) would refuse only later: a file that is no user namespace, or is the caller's own.
fn check_user_namespace(path: &Path, own: &Path) -> Result<()> {
    let step = || format!("cannot join the user namespace `{}`", path.display());
    let file = File::open(path).step(step)?;
    match crate::sys::ids::namespace_type(&file) {
        Ok(libc::CLONE_NEWUSER) => {}
        Ok(_) => return Err(Error::new(step()).because("it is a namespace of another kind")),
        Err(_) => return Err(Error::new(step()).because("the file is no namespace")),
    }
    let there = file.metadata().step(step)?;
    if std::fs::metadata(own).is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino())) {
        return Err(Error::new(step())
            .because("it is the one that sbx runs in, which no process can join")
            .hint("leave `--userns` out: the caller is root in the container then"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
