//! OpenSSH's server on loopback, for the user of the tests and one key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::inetd::Inetd;
use super::require;
use super::world::Sbx;

pub struct SshServer {
    server: Inetd,
    directory: PathBuf,
}

impl SshServer {
    pub fn start(world: &Sbx) -> Self {
        let directory = world.directory().join("sshd");
        fs::create_dir(&directory).expect("a directory");
        for name in ["host", "client"] {
            let keygen = world.program(require("ssh-keygen")).args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            keygen.arg(directory.join(name)).expect_code(0);
        }
        let program = super::clients::program("sshd");
        let shown = directory.display().to_string();
        let server = Inetd::start(move || {
            let mut command = Command::new(&program);
            command.args(["-i", "-f", "/dev/null", "-h", &format!("{shown}/host")]);
            command.args(["-o", &format!("AuthorizedKeysFile={shown}/client.pub")]);
            command.args(["-o", "UsePAM=no", "-o", "StrictModes=no"]);
            command
        });
        let started = Self { server, directory };
        started.make_known();
        started.write_client();
        started
    }

    /// `HOST:PORT`
    pub fn address(&self) -> String {
        self.server.address().to_string()
    }

    fn known_hosts(&self) -> PathBuf {
        self.directory.join("known")
    }

    fn make_known(&self) {
        let public = fs::read_to_string(self.directory.join("host.pub")).expect("a key");
        let address = self.server.address();
        let line = format!("[{}]:{} {public}", address.ip(), address.port());
        fs::write(self.known_hosts(), line).expect("a file");
    }

    /// The client does not know the server any more.
    pub fn forget(&self) {
        fs::write(self.known_hosts(), "").expect("a file");
    }

    /// ssh(1) reads the files of the account, whatever HOME is: other ones go on its command line.
    fn write_client(&self) {
        let (shown, config) = (self.directory.display(), self.directory.join("config"));
        let text = format!(
            "IdentityFile {shown}/client\nIdentitiesOnly yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile none\n",
            self.known_hosts().display()
        );
        fs::write(&config, text).expect("a file");
        fs::create_dir(self.programs()).expect("a directory");
        let script = self.programs().join("ssh");
        let text = format!("#!/bin/sh\nexec {} -F {} \"$@\"\n", require("ssh").display(), config.display());
        fs::write(&script, text).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    /// The directory with the client.
    pub fn programs(&self) -> PathBuf {
        self.directory.join("programs")
    }

    pub fn key(&self) -> PathBuf {
        self.directory.join("client")
    }

    /// PATH with the client before all others.
    pub fn path(&self) -> String {
        format!("{}:/usr/local/bin:/usr/bin:/bin", self.programs().display())
    }
}
