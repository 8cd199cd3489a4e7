//! A bundle made of an image: its files, copied, and a `config.json` of its configuration.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::container::capabilities::{CapSet, Capability};
use crate::container::user;
use crate::error::{Error, Result, Step};
use crate::identity::{self, Caller, Host, Identity};
use crate::image::{Config, Resolved, Source};
use crate::layers;
use crate::layers::copy;
use crate::oci::config::FILE;
use crate::oci::template::{self, Command, Users};
use crate::sandbox::inroot::InRoot;
use crate::sandbox::userns;

/// What becomes of the changes that a container makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They are made in the bundle's root.
    Writable,
    ReadOnly,
    /// They go to a directory beside it, by overlays over each directory of the image: the root itself no `config.json`
    /// can mount.
    Overlay,
}

/// Makes the bundle.
///
/// # Errors
/// The directory is there and not empty, or the files cannot be copied.
pub fn make(store: &Path, image: &Resolved, directory: &Path, kind: Kind) -> Result<()> {
    let Source::Image(unpacked) = &image.source else {
        return Err(Error::new("cannot make a bundle of directories").because("it is made of an image"));
    };
    let failed = || format!("cannot make the bundle `{}`", directory.display());
    let identity = identity::plan(&identity::Request::default(), &Caller::current(&Host::system())?)?;
    fs::create_dir_all(directory).step(failed)?;
    if fs::read_dir(directory).step(failed)?.next().is_some() {
        return Err(Error::new(failed()).because("the directory is not empty").hint("name a new one"));
    }
    let directory = fs::canonicalize(directory).step(failed)?;
    let text = directory.to_str().filter(|text| kind != Kind::Overlay || !text.contains([':', ',', '\\']));
    let text = text.ok_or_else(|| {
        Error::new(failed()).because("its path has characters that options of mounts cannot have")
    })?;
    let lowers = layers::unpacked(store, &unpacked.key, &unpacked.stacked.layers);
    let files = directory.join(if kind == Kind::Overlay { "image" } else { "rootfs" });
    make_directory(&files)?;
    let mut names = Vec::new();
    inside(&identity, || {
        copy::merge(&lowers, &files)?;
        // Who is not mapped outside walks through it, too.
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).step(failed)
    })?;
    if kind == Kind::Overlay {
        names = skeleton(&directory, &files, &identity)?;
    }
    let mut config = config(&image.config, &files, &identity, kind)?;
    if let Some(mounts) = config["mounts"].as_array_mut() {
        let overlays = names.iter().map(|name| {
            let option = |option: &str, place: &str| format!("{option}={text}/{place}/{name}");
            json!({
                "destination": format!("/{name}"),
                "type": "overlay",
                "source": "overlay",
                "options": [
                    option("lowerdir", "image"), option("upperdir", "upper"), option("workdir", "work"), "userxattr",
                ],
            })
        });
        mounts.splice(0..0, overlays);
    }
    let text = serde_json::to_string_pretty(&config).step(failed)? + "\n";
    fs::write(directory.join(FILE), text).step(failed)
}

fn make_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new().mode(0o755).create(path).step(|| format!("cannot make `{}`", path.display()))
}

/// Does something as the root of the user's containers, in a process of its own.
fn inside(identity: &Identity, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let failed = || "cannot work on the files of the bundle";
    let mut said =
        File::from(rustix::fs::memfd_create(c"sbx-bundle", rustix::fs::MemfdFlags::CLOEXEC).step(failed)?);
    let mut copy = said.try_clone().step(failed)?;
    let code = userns::run_in(identity, move || match work() {
        Ok(()) => 0,
        Err(error) => {
            let _ = serde_json::to_vec(&error).map(|text| copy.write_all(&text));
            1
        }
    })?;
    if code == 0 {
        return Ok(());
    }
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.read_to_end(&mut text).map(drop)).step(failed)?;
    Err(serde_json::from_slice(&text).unwrap_or_else(|_| Error::new(failed()).because("it was killed")))
}

/// A root with the directories of the image, empty, and what else lies in its root. Gives their names.
fn skeleton(directory: &Path, files: &Path, identity: &Identity) -> Result<Vec<String>> {
    let failed = || "cannot prepare the overlays of the bundle";
    let rootfs = directory.join("rootfs");
    for name in ["rootfs", "upper", "work"] {
        make_directory(&directory.join(name))?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(files).step(failed)? {
        let entry = entry.step(failed)?;
        let kind = entry.file_type().step(failed)?;
        let name = entry.file_name().into_string().ok().filter(|name| !name.contains([':', ',', '\\']));
        let name = name.ok_or_else(|| {
            Error::new(failed()).because(format!("no overlay can be made over `{}`", entry.path().display()))
        })?;
        let place = rootfs.join(&name);
        if kind.is_dir() {
            make_directory(&place)?;
            // Those get file systems of the kernel's.
            if !matches!(name.as_str(), "proc" | "sys" | "dev") {
                names.push(name);
            }
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).step(failed)?, &place).step(failed)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &place).step(failed)?;
        }
    }
    names.sort();
    inside(identity, || {
        for name in &names {
            // The directory of the upper is what the container sees.
            let lower = fs::metadata(files.join(name)).step(failed)?;
            for place in ["upper", "work"] {
                let place = directory.join(place).join(name);
                make_directory(&place)?;
                fs::set_permissions(&place, lower.permissions()).step(failed)?;
                use std::os::unix::fs::MetadataExt;
                std::os::unix::fs::chown(&place, Some(lower.uid()), Some(lower.gid())).step(failed)?;
            }
        }
        Ok(())
    })?;
    Ok(names)
}

fn config(image: &Config, files: &Path, identity: &Identity, kind: Kind) -> Result<serde_json::Value> {
    let root = InRoot::open(files)?;
    let read = |path: &str| root.read(&PathBuf::from(path), user::MAX_FILE as u64).unwrap_or_default();
    let found = user::resolve(image.user.as_deref(), &[], &read("/etc/passwd"), &read("/etc/group"), None)?;
    let mut args: Vec<String> = image.entrypoint.iter().chain(&image.command).cloned().collect();
    if args.is_empty() {
        args.push("sh".to_owned());
    }
    let mut env = image.env.clone();
    // An image may hold what no runtime takes.
    env.retain(|entry| entry.find('=').is_some_and(|place| place > 0));
    crate::container::env::set_default(
        &mut env,
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    crate::container::env::set_default(&mut env, "HOME", &found.home);
    let users = match rustix::process::geteuid().is_root() {
        true => Users::Host,
        false => Users::Canonical(identity),
    };
    // Where the caller maps its own group alone, nobody can set others.
    let groups: Vec<u32> =
        found.groups.iter().copied().filter(|gid| *gid != found.gid && !identity.deny_setgroups).collect();
    // Devices are kept from root's containers by that alone.
    let capabilities = match users {
        Users::Host => CapSet::DEFAULT.without(CapSet::EMPTY.with(Capability::MKNOD)),
        _ => CapSet::DEFAULT,
    };
    let command = Command {
        args: &args,
        env: &env,
        cwd: image.working_dir.as_deref().unwrap_or("/"),
        terminal: false,
        uid: found.uid,
        gid: found.gid,
        groups: &groups,
        capabilities: &capabilities.names(),
        no_new_privileges: false,
    };
    Ok(template::config(&command, &users, kind != Kind::Writable))
}
