//! A terminal for tests of `-t`: type on it, wait for what appears, change its size.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::leftovers::Leftovers;
use super::prerequisites::patience;
use super::world::Sbx;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A command whose controlling terminal is ours.
pub struct Pty<'w> {
    world: &'w Sbx,
    child: Child,
    master: File,
    /// Held, so that the terminal and its modes outlive the command.
    terminal: OwnedFd,
    seen: Vec<u8>,
    /// How far [`Pty::expect`] has read.
    read: usize,
}

impl<'w> Pty<'w> {
    pub fn start(world: &'w Sbx, argv: &[OsString]) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("cannot open a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("cannot unlock the terminal");
        let terminal = ioctl_tiocgptpeer(&master, flags).expect("cannot open the terminal's other side");
        tcsetwinsize(&master, size_of(24, 80)).expect("cannot set the terminal's size");
        let end = || Stdio::from(terminal.try_clone().expect("cannot duplicate a descriptor"));
        // setsid(1) makes the terminal the controlling one and becomes the command.
        let mut command = world.command(OsStr::new("setsid"));
        command.arg("--ctty").args(argv).stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start setsid {argv:?}: {error}"));
        drop(command);
        Self { world, child, master: File::from(master), terminal, seen: Vec::new(), read: 0 }
    }

    /// Any program on a terminal of 24 rows and 80 columns.
    pub fn of(world: &'w Sbx, argv: &[&str]) -> Self {
        Self::start(world, &argv.iter().map(OsString::from).collect::<Vec<_>>())
    }

    /// Closes the window: the terminal is gone for the command, which gets SIGHUP.
    pub fn hang_up(&mut self) {
        let null = File::open("/dev/null").expect("/dev/null");
        self.master = null.try_clone().expect("a descriptor");
        self.terminal = null.into();
    }

    /// Types `text`; `\r` is the Enter key, `\x03` is control-C.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("cannot write to the terminal");
    }

    pub fn send_line(&mut self, text: &str) {
        self.send(&format!("{text}\r"));
    }

    /// Waits until `text` appears after what was expected before; returns what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + patience(TIMEOUT);
        loop {
            let fresh = &self.seen[self.read..];
            if let Some(at) = fresh.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = String::from_utf8_lossy(&fresh[..at]).into_owned();
                self.read += at + text.len();
                return before;
            }
            if !self.read_more(deadline) {
                panic!("the terminal never showed {text:?}; all of it:\n{}", self.screen());
            }
        }
    }

    /// Everything that the terminal showed so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Changes the size, as a window manager does: the foreground process group gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size_of(rows, columns)).expect("cannot set the terminal's size");
    }

    /// Whether the terminal passes keys on one by one and unechoed, as it does while a `-t` container runs.
    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).expect("cannot read the terminal's modes").local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for the command's end: its exit code, 128+N for signal N.
    #[track_caller]
    pub fn finish(&mut self) -> i32 {
        let deadline = Instant::now() + patience(TIMEOUT);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("cannot wait for a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "still running; the terminal showed:\n{}", self.screen());
            self.read_more(Instant::now() + Duration::from_millis(5));
        };
        while self.read_more(Instant::now()) {}
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }

    /// Reads what is there, waiting until `deadline`; false when nothing came.
    fn read_more(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if poll(&mut descriptors, timeout) != Ok(1) {
            return false;
        }
        let mut buffer = [0; 4096];
        match self.master.read(&mut buffer) {
            Ok(count @ 1..) => {
                self.seen.extend_from_slice(&buffer[..count]);
                true
            }
            _ => false,
        }
    }
}

fn size_of(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Drop for Pty<'_> {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            Leftovers::find(self.world).end();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sbx;
    use super::*;

    fn shell(world: &Sbx) -> Pty<'_> {
        Pty::start(world, &["sh".into(), "-c".into(), "echo ready; exec sh".into()])
    }

    #[test]
    fn a_shell_on_a_terminal_answers() {
        let world = sbx();
        let mut pty = shell(&world);
        pty.expect("ready");
        pty.send_line("tty -s && echo is a $((40 + 2))");
        pty.expect("is a 42");
        pty.resize(33, 99);
        pty.send_line("stty size");
        pty.expect("33 99");
        pty.send_line("exit 5");
        assert_eq!(pty.finish(), 5);
    }

    #[test]
    fn control_c_reaches_the_foreground() {
        let world = sbx();
        let script = "trap 'exit 9' INT; echo set; while :; do sleep 0.01; done";
        let mut pty = Pty::start(&world, &["sh".into(), "-c".into(), script.into()]);
        pty.expect("set");
        pty.send("\x03");
        assert_eq!(pty.finish(), 9);
    }

    #[test]
    fn raw_mode_shows() {
        let world = sbx();
        let mut pty = shell(&world);
        pty.expect("ready");
        assert!(!pty.is_raw());
        pty.send_line("stty raw -echo; echo now-$((1 + 1))");
        pty.expect("now-2");
        assert!(pty.is_raw());
        pty.send("stty sane; exit 0\n");
        assert_eq!(pty.finish(), 0);
        assert!(!pty.is_raw());
    }
}
