//! The way out of a private network namespace: a userspace helper and /dev/net/tun; what bridge networks need besides.

use std::io;
use std::path::PathBuf;

use super::{Check, Situation};
use crate::host::tun;
use crate::network::programs;

const STOPS: &str = "containers with a private network that reaches the world, and published ports; \
                     `--net none` and `--net host` work";

pub(super) fn checks(situation: &Situation) -> Vec<Check> {
    vec![
        helper(tun::slirp4netns(), tun::pasta(), situation),
        device(tun::device()),
        rules(programs::find("nft"), situation),
    ]
}

fn rules(nft: Option<PathBuf>, situation: &Situation) -> Check {
    let check = |found: String| Check::ok("nft", "nft", found);
    match nft {
        Some(path) => check(path.display().to_string()),
        None => check("not found".to_owned()).warn(
            "bridge networks (`sbx network create`, `--network bridge`) and `--net-allow`",
            situation.packages.install("nft"),
        ),
    }
}

fn helper(slirp4netns: Option<PathBuf>, pasta: Option<PathBuf>, situation: &Situation) -> Check {
    let check = |found: String| Check::ok("network-helper", "slirp4netns or pasta", found);
    let found: Vec<_> = slirp4netns.into_iter().chain(pasta).map(|path| path.display().to_string()).collect();
    if found.is_empty() {
        return check("neither found".to_owned()).warn(STOPS, situation.packages.install("slirp4netns"));
    }
    check(found.join(", "))
}

fn device(opened: io::Result<()>) -> Check {
    let check = |found: String| Check::ok("dev-net-tun", tun::DEVICE, found);
    match opened {
        Ok(()) => check("can be opened".to_owned()),
        Err(error) => {
            check(refused(&error)).warn(STOPS, super::layers::device_mend(&error, tun::DEVICE, "tun"))
        }
    }
}

pub(super) fn refused(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "not there".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "there, but you may not open it for reading and writing".to_owned()
        }
        _ => format!("there, but the kernel has no driver for it ({})", error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::super::packages::PackageManager;
    use super::*;
    use crate::host::paths::Surroundings;

    #[test]
    fn one_helper_is_enough_and_none_is_told() {
        let surroundings = Surroundings::current();
        let packages = PackageManager::Dnf;
        let situation = Situation { surroundings, root: None, privileged: false, packages };
        let pasta = Some(PathBuf::from("/usr/bin/pasta"));
        assert_eq!(helper(None, pasta, &situation).found, "/usr/bin/pasta");
        let check = helper(None, None, &situation);
        assert_eq!(check.status, Status::Warning);
        assert_eq!(check.mend.as_deref(), Some("sudo dnf install slirp4netns"));
        let check = rules(None, &situation);
        assert_eq!(check.mend.as_deref(), Some("sudo dnf install nftables"));
        assert_eq!(rules(Some("/usr/sbin/nft".into()), &situation).status, Status::Ok);
    }

    #[test]
    fn a_missing_and_a_forbidden_device_have_different_mends() {
        let with = |errno| device(Err(io::Error::from_raw_os_error(errno)));
        assert_eq!(with(libc::EACCES).mend.as_deref(), Some("sudo chmod 0666 /dev/net/tun"));
        assert!(with(libc::ENOENT).mend.unwrap().contains("--device /dev/net/tun"));
        assert!(with(libc::ENODEV).found.contains("no driver"));
        assert_eq!(device(Ok(())).status, Status::Ok);
    }
}
