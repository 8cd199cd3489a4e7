//! The Debian package and the archive that `scripts/package` makes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::as_other;
use crate::in_vm::world;

const HELPER: &str = "/usr/libexec/sbx/newuidmap-shim";

#[track_caller]
fn packed(suffix: &str) -> PathBuf {
    let directory = std::env::var_os("SBX_TEST_PACKAGE").expect("the packages: run `scripts/vm-test`");
    let entries = fs::read_dir(&directory).expect("the packages: `scripts/package` makes them").flatten();
    let mut found = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(suffix));
    found.next().unwrap_or_else(|| panic!("nothing ends with {suffix}"))
}

fn helper_mode() -> u32 {
    fs::metadata(HELPER).expect(HELPER).permissions().mode() & 0o7777
}

#[test]
fn the_package_is_installed_used_and_removed_without_a_trace() {
    let world = world();
    let package = packed(".deb");
    let dpkg = |words: &[&str]| world.program("dpkg").args(words);
    let install = || dpkg(&["--install"]).arg(&package).expect_code(0);
    install();
    assert_eq!(helper_mode(), 0o755, "the helper has privileges that nobody gave it");
    for file in [
        "/usr/share/bash-completion/completions/sbx",
        "/usr/share/zsh/vendor-completions/_sbx",
        "/usr/share/fish/vendor_completions.d/sbx.fish",
        "/usr/share/sbx/apparmor/sbx",
        "/usr/share/doc/sbx/copyright",
        "/usr/share/doc/sbx/third-party-licences.gz",
        "/usr/share/doc/sbx/README.Debian",
        "/usr/share/man/man1/sbx-run.1.gz",
    ] {
        assert!(Path::new(file).is_file(), "{file}");
    }
    // No parser of this release knows the profile.
    assert!(!Path::new("/etc/apparmor.d/sbx").exists());
    world.program("man").args(["-w", "sbx-run"]).expect_code(0);
    let run = "PATH=/usr/bin:/bin; command -v sbx; sbx run --rm --quiet --net none host sh -c 'id -u; wc -l </proc/self/uid_map'";
    as_other(&world, run).expect_code(0).stdout_is("/usr/bin/sbx\n0\n2\n");

    // As README.Debian says; an upgrade keeps it.
    let says = fs::read_to_string("/usr/share/doc/sbx/README.Debian").expect("README.Debian");
    let give = "dpkg-statoverride --update --add root root 4755 /usr/libexec/sbx/newuidmap-shim";
    let take = "dpkg-statoverride --remove /usr/libexec/sbx/newuidmap-shim\n    chmod 0755 /usr/libexec/sbx/newuidmap-shim\n";
    assert!(says.contains(give) && says.contains(take), "{says}");
    world.program("sh").args(["-ec", give]).expect_code(0);
    install();
    assert_eq!(helper_mode(), 0o4755);
    let traced = "PATH=/usr/bin:/bin:/usr/sbin; sbx --log-level debug run --rm --net none host true 2>&1 | grep -c newuidmap-shim || true";
    as_other(&world, traced).expect_code(0);
    as_other(&world, run).expect_code(0).stdout_is("/usr/bin/sbx\n0\n2\n");
    world.program("sh").args(["-ec", take]).expect_code(0);
    assert_eq!(helper_mode(), 0o755);

    let paths = dpkg(&["--listfiles", "sbx"]).succeed();
    dpkg(&["--purge", "sbx"]).expect_code(0);
    let left: Vec<&str> =
        paths.lines().filter(|path| path.contains("sbx") && Path::new(path).exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_profile_is_installed_where_the_parser_knows_it() {
    let world = world();
    let package = packed(".deb");
    let profile = Path::new("/etc/apparmor.d/sbx");
    // The mark of such a release. The parser of this one refuses the profile, which must not break the installation.
    let prepare = "mkdir -p /etc/apparmor.d/abi; touch /etc/apparmor.d/abi/4.0";
    world.program("sh").args(["-ec", prepare]).expect_code(0);
    world.program("dpkg").arg("--install").arg(&package).expect_code(0);
    let text = fs::read_to_string(profile).expect("the profile");
    assert!(text.starts_with("# Installed by the package sbx") && text.contains("\n  userns,\n"), "{text}");
    // An administrator's own stays, over an upgrade and the removal.
    fs::write(profile, "# mine\n").expect("a profile");
    world.program("dpkg").arg("--install").arg(&package).expect_code(0);
    world.program("dpkg").args(["--purge", "sbx"]).expect_code(0);
    assert_eq!(fs::read_to_string(profile).expect("the profile"), "# mine\n");
    fs::remove_file(profile).expect("the profile");
    world.program("dpkg").arg("--install").arg(&package).expect_code(0);
    world.program("dpkg").args(["--purge", "sbx"]).expect_code(0);
    assert!(!profile.exists());
    world.program("rm").arg("/etc/apparmor.d/abi/4.0").expect_code(0);
}

#[test]
fn the_archive_is_unpacked_anywhere_and_runs() {
    let world = world();
    let archive = packed("-static.tar.gz");
    let script = format!(
        "mkdir -p ~/sbx; tar -C ~/sbx --strip-components=1 -xzf {}
        PATH=$HOME/sbx/bin:/usr/bin:/bin; command -v sbx; ldd ~/sbx/bin/sbx 2>&1 | tr -d '\\t'
        sbx run --rm --quiet --net none host id -u; rm -r ~/sbx",
        archive.display()
    );
    as_other(&world, &script)
        .expect_code(0)
        .stdout_is("/home/sbxother/sbx/bin/sbx\nnot a dynamic executable\n0\n");
}
