//! What takes root to set the stage for, one test at a time.

mod logout;
mod on_qemu;
mod package;
mod restricted;

use crate::harness::{Run, Sbx, sbx_binary};

/// The other user, who has never a session of its own here but those that a test gives it.
const OTHER: &str = "sbxother";

/// A script of the other user's, without a session: as cron or a batch system runs it.
fn as_other<'w>(world: &'w Sbx, script: &str) -> Run<'w> {
    as_other_through(world, &["env"], script)
}

/// The same through a program of root's that executes the rest of its words.
fn as_other_through<'w>(world: &'w Sbx, through: &[&str], script: &str) -> Run<'w> {
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin",
        sbx_binary().parent().expect("a directory").display()
    );
    let home = format!("/home/{OTHER}");
    let user = ["setpriv", "--reuid", OTHER, "--regid", OTHER, "--init-groups", "--inh-caps=-all"];
    world
        .program(through[0])
        .args(&through[1..])
        .args(user)
        .args(["env", "-i", "LANG=C.UTF-8"])
        .args([
            format!("HOME={home}"),
            format!("USER={OTHER}"),
            format!("LOGNAME={OTHER}"),
            format!("PATH={path}"),
        ])
        .args(["sh", "-ec", script])
        .directory("/")
}
