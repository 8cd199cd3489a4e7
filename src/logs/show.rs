//! What is printed of each entry, and where it goes.

use std::cmp::Ordering;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::error::{Result, Step};
use crate::logs::when::{Bound, canonical, is_canonical, parse};
use crate::logs::{Entry, Name};

/// What of a log is shown, and how.
#[derive(Debug, Clone, Default)]
pub struct Show {
    pub timestamps: bool,
    pub since: Option<Bound>,
    pub until: Option<Bound>,
    /// Before each line: which container it is of.
    pub prefix: String,
    /// After the time: what the container's log says of itself.
    pub details: String,
    /// A colour of the terminal (ECMA-48, SGR 31 to 36).
    pub color: Option<u8>,
}

/// The lines of one container.
pub struct Lines {
    show: Show,
    /// For entries of standard output and standard error: a line is not ended yet, and whether it is shown.
    open: [Option<bool>; 2],
    /// Lines of each that are passed over.
    skip: [u64; 2],
    strange_times: u64,
}

impl Lines {
    pub fn new(show: Show, skip: [u64; 2]) -> Self {
        Self { show, open: [None; 2], skip, strange_times: 0 }
    }

    /// Lines that were left out because nobody can tell when they were written.
    pub fn strange_times(&self) -> u64 {
        self.strange_times
    }

    pub fn entry(&mut self, entry: &Entry<'_>, output: &mut Output) {
        let stream = entry.stream.index();
        let begins = self.open[stream].is_none();
        let shown = self.open[stream].unwrap_or_else(|| self.is_shown(entry));
        self.open[stream] = (!entry.ends_line).then_some(shown);
        if !shown {
            return;
        }
        let text = output.of(entry.stream);
        if let Some(color) = self.show.color {
            text.extend_from_slice(format!("\x1b[{color}m").as_bytes());
        }
        if begins {
            text.extend_from_slice(self.show.prefix.as_bytes());
            if self.show.timestamps {
                if is_canonical(entry.time) {
                    text.extend_from_slice(entry.time);
                } else if let Some(time) = parse(entry.time) {
                    text.extend_from_slice(canonical(time).as_bytes());
                }
                text.push(b' ');
            }
            text.extend_from_slice(self.show.details.as_bytes());
        }
        text.extend_from_slice(&entry.text);
        if self.show.color.is_some() {
            text.extend_from_slice(b"\x1b[0m");
        }
        if entry.ends_line {
            text.push(b'\n');
        }
    }

    /// Whether a line that begins with this entry is shown.
    fn is_shown(&mut self, entry: &Entry<'_>) -> bool {
        let skip = &mut self.skip[entry.stream.index()];
        if *skip > 0 {
            *skip -= 1;
            return false;
        }
        let Show { timestamps, since, until, .. } = &self.show;
        if !timestamps && since.is_none() && until.is_none() {
            return true;
        }
        if !is_canonical(entry.time) && parse(entry.time).is_none() {
            self.strange_times += 1;
            return false;
        }
        since.as_ref().is_none_or(|since| since.compare(entry.time) != Some(Ordering::Less))
            && until.as_ref().is_none_or(|until| until.compare(entry.time) != Some(Ordering::Greater))
    }
}

/// Standard output and standard error, with what is to go there next.
pub struct Output {
    pending: Vec<u8>,
    stream: Name,
    /// Nobody reads any more.
    gone: bool,
    failed: Option<Errno>,
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Output {
    pub fn new() -> Self {
        Self { pending: Vec::new(), stream: Name::Stdout, gone: false, failed: None }
    }

    /// The text that is pending for a stream; that for the other is written first, so that their order is kept.
    fn of(&mut self, stream: Name) -> &mut Vec<u8> {
        if stream != self.stream {
            self.write();
            self.stream = stream;
        }
        &mut self.pending
    }

    /// Writes what is pending; breaks off where nobody reads any more.
    pub fn flush(&mut self) -> ControlFlow<()> {
        self.write();
        if self.gone || self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// # Errors
    /// Why not everything could be written, other than a closed pipe.
    pub fn finish(mut self) -> Result<()> {
        self.write();
        match self.failed {
            Some(error) => Err(io::Error::from(error)).step(|| "cannot write the log to the caller"),
            None => Ok(()),
        }
    }

    fn write(&mut self) {
        let to = match self.stream {
            Name::Stdout => rustix::stdio::stdout(),
            Name::Stderr => rustix::stdio::stderr(),
        };
        if !self.gone && self.failed.is_none() {
            match write_whole(to, &self.pending) {
                Ok(()) => {}
                Err(Errno::PIPE) => self.gone = true,
                Err(error) => self.failed = Some(error),
            }
        }
        self.pending.clear();
    }
}

/// Also to a descriptor that somebody made non-blocking.
fn write_whole(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use jiff::Timestamp;

    use super::*;
    use crate::logs::when::{Span, bound};

    /// What is pending of entries of standard output at 03:04:05 and the seconds after.
    fn shown(show: Show, skip: u64, entries: &[(&str, bool)]) -> String {
        let mut lines = Lines::new(show, [skip, 0]);
        let mut output = Output::new();
        for (at, (text, ends_line)) in entries.iter().enumerate() {
            let time = format!("2026-01-02T03:04:{:02}.000000000Z", 5 + at);
            let text = Cow::Borrowed(text.as_bytes());
            let entry = Entry { time: time.as_bytes(), stream: Name::Stdout, text, ends_line: *ends_line };
            lines.entry(&entry, &mut output);
        }
        String::from_utf8(std::mem::take(&mut output.pending)).unwrap()
    }

    const ENTRIES: &[(&str, bool)] = &[("a", true), ("b", false), ("c", true), ("d", false)];

    #[test]
    fn pieces_are_joined_and_dressed_once() {
        assert_eq!(shown(Show::default(), 0, ENTRIES), "a\nbc\nd");
        let prefix = "web ".to_owned();
        let show = Show { timestamps: true, prefix, details: "tag=x ".to_owned(), ..Show::default() };
        let time = "2026-01-02T03:04";
        assert_eq!(
            shown(show, 0, ENTRIES),
            format!(
                "web {time}:05.000000000Z tag=x a\nweb {time}:06.000000000Z tag=x bc\nweb {time}:08.000000000Z tag=x d"
            )
        );
        assert_eq!(shown(Show::default(), 2, ENTRIES), "d");
        let colored = shown(Show { color: Some(32), ..Show::default() }, 0, &[("a", true)]);
        assert_eq!(colored, "\x1b[32ma\x1b[0m\n");
    }

    #[test]
    fn a_line_belongs_to_the_time_when_it_began() {
        let at = |text: &str| Some(bound("--since", text, Timestamp::UNIX_EPOCH, Span::Ago).unwrap());
        let since = |text: &str| Show { since: at(text), ..Show::default() };
        let until = |text: &str| Show { until: at(text), ..Show::default() };
        assert_eq!(shown(since("2026-01-02T03:04:06Z"), 0, ENTRIES), "bc\nd");
        assert_eq!(shown(since("2026-01-02T03:04:07Z"), 0, ENTRIES), "d");
        assert_eq!(shown(until("2026-01-02T03:04:06Z"), 0, ENTRIES), "a\nbc\n");
        assert_eq!(shown(until("2026-01-02T03:04:04Z"), 0, ENTRIES), "");
    }

    #[test]
    fn times_that_are_none_are_not_printed() {
        let mut lines = Lines::new(Show { timestamps: true, ..Show::default() }, [0; 2]);
        let mut output = Output::new();
        for time in ["\x1b[2J", "2026-01-02T04:04:05.5+01:00"] {
            let text = Cow::Borrowed(&b"x"[..]);
            lines.entry(
                &Entry { time: time.as_bytes(), stream: Name::Stdout, text, ends_line: true },
                &mut output,
            );
        }
        assert_eq!(lines.strange_times(), 1);
        assert_eq!(std::mem::take(&mut output.pending), b"2026-01-02T03:04:05.500000000Z x\n");
    }
}
