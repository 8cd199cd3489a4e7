//! A user without an entry in the container's account files gets one, so that `whoami`, git and ssh know who
//! they run as; and a home, where the image `host` has none.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, mount_bind};

use crate::container::spec::{Account, Driver, Root, Spec};
use crate::container::user::{MAX_FILE, ResolvedUser, group_entries, passwd_entries};
use crate::error::{Result, Step};
use crate::sandbox::inroot::{InRoot, descriptor_path, is_directory};
use crate::sandbox::kernel_mounts::mount_at;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Adds what is missing. `passwd` and `group` are the texts of the container's files.
pub fn complete(
    root: &InRoot,
    spec: &Spec,
    user: &mut ResolvedUser,
    passwd: &[u8],
    group: &[u8],
) -> Result<()> {
    if let Some(account) = &spec.process.account {
        let mut lines = String::new();
        // Root is known everywhere by its number.
        if user.uid != 0 && !passwd_entries(passwd).any(|entry| entry.uid == user.uid) {
            lines = passwd_entry(root, spec, account, user, passwd);
        }
        for line in &account.host_users {
            let name = line.split(':').next().unwrap_or_default();
            let known = |text: &[u8]| passwd_entries(text).any(|entry| entry.name == name.as_bytes());
            if !known(passwd) && !known(lines.as_bytes()) {
                lines.push_str(&format!("{line}\n"));
            }
        }
        if !lines.is_empty() {
            add(root, spec, PASSWD, passwd, &lines)?;
        }
        if user.uid != 0 && user.gid != 0 && !group_entries(group).any(|entry| entry.gid == user.gid) {
            let taken = |name: &str| group_entries(group).any(|entry| entry.name == name.as_bytes());
            let name = name_of(account, user.uid, user.gid, taken);
            let line = match &account.group_entry {
                Some(template) => filled(template, user, &name, "", "") + "\n",
                None => format!("{name}:x:{}:\n", user.gid),
            };
            add(root, spec, GROUP, group, &line)?;
        }
    }
    home(root, spec, user)
}

/// The line for passwd(5); `user` takes its name and home.
fn passwd_entry(
    root: &InRoot,
    spec: &Spec,
    account: &Account,
    user: &mut ResolvedUser,
    passwd: &[u8],
) -> String {
    let taken = |name: &str| passwd_entries(passwd).any(|entry| entry.name == name.as_bytes());
    let name = name_of(account, user.uid, user.uid, taken);
    let own_home = account
        .home
        .as_deref()
        .filter(|_| account.uid == Some(user.uid))
        .filter(|home| root.find(home).is_ok_and(is_directory));
    let home = own_home.unwrap_or(&spec.process.cwd).to_string_lossy();
    let home = if home.contains([':', '\n']) { "/" } else { &*home };
    if let Some(template) = &account.passwd_entry {
        let line = filled(template, user, &name, "container user", home);
        let fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        user.name = fields.first().cloned();
        user.home = fields.get(5).cloned().unwrap_or_default();
        return line + "\n";
    }
    user.home = home.to_owned();
    user.name = Some(name.clone());
    format!("{name}:*:{}:{}:container user:{home}:/bin/sh\n", user.uid, user.gid)
}

/// podman's words of a template (podman-run(1), --passwd-entry).
fn filled(template: &str, user: &ResolvedUser, username: &str, name: &str, home: &str) -> String {
    template
        .replace("$USERNAME", username)
        .replace("$GROUPNAME", username)
        .replace("$UID", &user.uid.to_string())
        .replace("$GID", &user.gid.to_string())
        .replace("$NAME", name)
        .replace("$HOME", home)
}

/// The caller keeps its name unless the container has another user of that name.
fn name_of(account: &Account, uid: u32, number: u32, taken: impl Fn(&str) -> bool) -> String {
    let own = account.name.as_deref().filter(|_| account.uid == Some(uid));
    own.filter(|name| is_plain(name) && !taken(name)).map_or_else(|| number.to_string(), str::to_owned)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '+', '#'])
        && !name.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control())
}

/// Adds `line` to the file in the container's upper; where there is none, or it is not to be changed, a
/// completed copy is bound over it. A read-only root without the file goes without, and so does one where
/// something that is no file has its name.
fn add(root: &InRoot, spec: &Spec, path: &str, text: &[u8], line: &str) -> Result<()> {
    // What the user mounted there is the user's own, and often a file of the host.
    if root.is_behind_a_mount(Path::new(path)) || text.len() >= MAX_FILE {
        return Ok(());
    }
    let Ok(place) = root.ensure_file(Path::new(path)) else { return Ok(()) };
    if !is_file(&place) {
        return Ok(());
    }
    let separator = if text.is_empty() || text.ends_with(b"\n") { "" } else { "\n" };
    let line = format!("{separator}{line}");
    let has_upper =
        matches!(spec.root.driver(), Some(Driver::FuseOverlayfs | Driver::Overlay | Driver::Copy));
    let place = descriptor_path(&place);
    if has_upper && append(&place, &line).is_ok() {
        return Ok(());
    }
    let failed = || format!("cannot add the user to `{path}`");
    let whole = [text, line.as_bytes()].concat();
    // /dev is a tmpfs of the container's own; bound elsewhere the file needs no name there.
    let dev = root.find(Path::new("/dev")).step(failed)?;
    let name = ".sbx-accounts";
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = rustix::fs::openat(&dev, name, create, Mode::from_raw_mode(0o644)).step(failed)?;
    let mut copy = File::from(copy);
    copy.write_all(&whole).step(failed)?;
    copy.set_permissions(Permissions::from_mode(0o644)).step(failed)?;
    let bound = mount_bind(descriptor_path(&copy), &place).step(failed);
    rustix::fs::unlinkat(&dev, name, AtFlags::empty()).step(failed)?;
    bound
}

fn is_file(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn append(place: &str, line: &str) -> io::Result<()> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut file = OpenOptions::new().append(true).custom_flags(flags).open(place)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    file.write_all(line.as_bytes())
}

/// The image `host` has the accounts of the machine, but none of its homes.
fn home(root: &InRoot, spec: &Spec, user: &ResolvedUser) -> Result<()> {
    let home = Path::new(&user.home);
    let is_host = matches!(spec.root, Root::Host { .. });
    if !is_host || user.uid == 0 || !home.starts_with("/home") || root.find(home).is_ok() {
        return Ok(());
    }
    let failed = || format!("cannot make the home directory `{}`", home.display());
    let place = root.ensure_directory(home)?;
    let options =
        std::ffi::CString::new(format!("mode=700,uid={},gid={}", user.uid, user.gid)).step(failed)?;
    mount_at(&place, "tmpfs", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
        .step(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_keeps_its_name_unless_it_is_taken_or_odd() {
        let account =
            |name: &str| Account { uid: Some(7), name: Some(name.to_owned()), ..Account::default() };
        assert_eq!(name_of(&account("bob"), 7, 7, |_| false), "bob");
        assert_eq!(name_of(&account("bob"), 8, 8, |_| false), "8", "somebody else");
        assert_eq!(name_of(&account("bob"), 7, 50, |name| name == "bob"), "50");
        for odd in ["", "a:b", "a\nb", "-x", "a b"] {
            assert_eq!(name_of(&account(odd), 7, 7, |_| false), "7", "{odd:?}");
        }
    }
}
