//! A container that runs in the background for as long as a test looks at it.

use super::command::Run;
use super::pty::Pty;
use super::rootfs::rootfs;
use super::world::Sbx;

/// Removed by force when it goes.
pub struct Background<'w> {
    world: &'w Sbx,
    /// Its whole ID.
    pub id: String,
}

impl<'w> Background<'w> {
    /// `sbx run -d FLAGS… --rootfs … sh -c SCRIPT` on the small root file system, without a network unless a flag
    /// asks for one.
    #[track_caller]
    pub fn start(world: &'w Sbx, flags: &[&str], script: &str) -> Self {
        let root = rootfs().to_str().expect("a path in UTF-8");
        Self::start_all(world, flags, &["--rootfs", root, "sh", "-c", script])
    }

    /// The same with all words after the options.
    #[track_caller]
    pub fn start_all(world: &'w Sbx, flags: &[&str], words: &[&str]) -> Self {
        let has_network = flags.iter().any(|flag| flag.starts_with("--net"));
        let network: &[&str] = if has_network { &[] } else { &["--net", "none"] };
        let started = world.run(["-d"]).args(flags).args(network).args(words).expect_code(0);
        Self { world, id: started.stdout().trim().to_owned() }
    }

    /// `sbx exec FLAGS… ID COMMAND…`
    pub fn exec(&self, flags: &[&str], command: &[&str]) -> Run<'w> {
        self.world.sbx(["exec"]).args(flags).arg(&self.id).args(command)
    }

    /// The same with a script.
    pub fn sh(&self, flags: &[&str], script: &str) -> Run<'w> {
        self.exec(flags, &["sh", "-c", script])
    }

    /// The same on a terminal.
    pub fn pty(&self, flags: &[&str], command: &[&str]) -> Pty<'w> {
        self.world.pty(["exec"].iter().chain(flags).chain(&[self.id.as_str()]).chain(command))
    }

    /// A field of `sbx inspect`.
    #[track_caller]
    pub fn inspect(&self, template: &str) -> String {
        self.world.sbx(["inspect", "--format", template]).arg(&self.id).succeed()
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        // A test may have removed it.
        drop(self.world.sbx(["rm", "-f", "-t", "0"]).arg(&self.id).spawn().finish());
    }
}
