//! The container's terminal: a pair on its own devpts, whose master goes to the monitor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::mount_bind;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{Result, Step};
use crate::sandbox::inroot::{InRoot, descriptor_path};

pub struct Terminal {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens the pair on /dev/pts of the root, sets its size (rows, columns), and shows it as /dev/console.
pub fn open(root: &InRoot, size: Option<(u16, u16)>) -> Result<Terminal> {
    let failed = || "cannot open a terminal for the container";
    let ptmx = root.find(Path::new("/dev/pts/ptmx")).step(failed)?;
    let master = rustix::fs::open(
        descriptor_path(&ptmx),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(failed)?;
    rustix::pty::unlockpt(&master).step(failed)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .step(failed)?;
    if let Some((rows, columns)) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).step(failed)?;
    }
    let name = rustix::pty::ptsname(&master, Vec::new()).step(failed)?;
    let node = Path::new(std::ffi::OsStr::new(name.to_str().unwrap_or("/dev/pts/0"))).to_owned();
    let console = root.ensure_file(Path::new("/dev/console"))?;
    let node = root.find(&node).step(failed)?;
    mount_bind(descriptor_path(&node), descriptor_path(&console)).step(|| "cannot bind /dev/console")?;
    Ok(Terminal { master, slave })
}

/// Makes the slave the controlling terminal and the three standard streams of the calling session leader.
pub fn attach(slave: &OwnedFd) -> Result<()> {
    let failed = || "cannot attach the terminal";
    crate::sys::terminal::make_controlling(slave.as_fd()).step(failed)?;
    rustix::stdio::dup2_stdin(slave).step(failed)?;
    rustix::stdio::dup2_stdout(slave).step(failed)?;
    rustix::stdio::dup2_stderr(slave).step(failed)
}
