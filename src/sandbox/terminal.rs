//! Terminals of the container: pairs on its own devpts, whose masters go to the monitor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::mount::mount_bind;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Result, Step};
use crate::sandbox::inroot::{InRoot, descriptor_path};

/// Both sides of a terminal.
pub struct Terminal {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens a pair on /dev/pts of the root and sets its size (rows, columns).
pub fn open(root: &InRoot, size: Option<(u16, u16)>) -> Result<Terminal> {
    let failed = || "cannot open a terminal for the container";
    // By no link of /proc: in a container that runs already, that may be anything.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK;
    let master = root.open_file(Path::new("/dev/pts/ptmx"), flags).step(failed)?;
    rustix::pty::unlockpt(&master).step(failed)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .step(failed)?;
    rustix::fs::fcntl_setfl(&master, OFlags::RDWR).step(failed)?;
    if let Some((rows, columns)) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).step(failed)?;
    }
    Ok(Terminal { master, slave })
}

/// Shows the terminal as /dev/console.
pub fn show_as_console(root: &InRoot, terminal: &Terminal) -> Result<()> {
    let failed = || "cannot open a terminal for the container";
    let name = rustix::pty::ptsname(&terminal.master, Vec::new()).step(failed)?;
    let node = Path::new(std::ffi::OsStr::new(name.to_str().unwrap_or("/dev/pts/0"))).to_owned();
    let console = root.ensure_file(Path::new("/dev/console"))?;
    let node = root.find(&node).step(failed)?;
    mount_bind(descriptor_path(&node), descriptor_path(&console)).step(|| "cannot bind /dev/console")
}

/// Makes the slave the controlling terminal and the three standard streams of the calling session leader.
pub fn attach(slave: &OwnedFd) -> Result<()> {
    let failed = || "cannot attach the terminal";
    crate::sys::terminal::make_controlling(slave.as_fd()).step(failed)?;
    rustix::stdio::dup2_stdin(slave).step(failed)?;
    rustix::stdio::dup2_stdout(slave).step(failed)?;
    rustix::stdio::dup2_stderr(slave).step(failed)
}
