//! What holds on a host as users have them, and takes one to show: systemd as PID 1, control groups version 2, a lingering
//! user. `scripts/vm-test` runs these, in a virtual machine: here as that user, in a service with Delegate=yes.

mod as_root;
mod bundles;
mod host;
mod jobs;
mod kernel;
mod limits;
mod login;
mod networks;
mod reboot;

use std::path::PathBuf;

use crate::harness::{Run, Sbx, sbx, sbx_binary};

/// Which of the virtual hosts this is: `uml` or `qemu`.
#[track_caller]
fn vm() -> String {
    std::env::var("SBX_TEST_HOST")
        .expect("this test states what holds on a host with systemd: run `scripts/vm-test` as root")
}

#[track_caller]
fn world() -> Sbx {
    vm();
    sbx()
}

/// The user's own home, store, runtime directory and service manager, not those of one test.
struct Account {
    home: PathBuf,
    uid: u32,
}

impl Account {
    #[track_caller]
    fn own() -> Self {
        vm();
        let user =
            nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("a user database").expect("a user");
        Self { home: user.dir, uid: user.uid.as_raw() }
    }

    /// A script in which `sbx` is the binary under test.
    fn sh<'w>(&self, world: &'w Sbx, script: &str) -> Run<'w> {
        let runtime = format!("/run/user/{}", self.uid);
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin",
            sbx_binary().parent().expect("a directory").display()
        );
        world
            .program("sh")
            .args(["-ec", script])
            .env("HOME", &self.home)
            .env_remove("XDG_DATA_HOME")
            .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={runtime}/bus"))
            .env("XDG_RUNTIME_DIR", runtime)
            .env("PATH", path)
            .directory(&self.home)
    }
}
