//! The file of events: appended to by whoever does something, without a lock; read by `sbx events`.
//!
//! When it has grown, it becomes the `.old` one, whose predecessor goes; who had it open still writes to it, and
//! readers look there, too. So nothing is lost but what is old.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Event;
use super::event::LONGEST_LINE;
use crate::host::paths;

/// Bytes after which the file becomes the old one.
const LARGEST: u64 = 1 << 20;
/// Bytes that are read of a file at most: one that is not ours may have no end.
const LARGEST_READ: u64 = 16 << 20;

/// `events-DEVICE-INODE` of the store's directory: a store is the same under any path, and two of one user are two.
fn path(store: &Path, runtime: &Path) -> io::Result<PathBuf> {
    let found = fs::metadata(store)?;
    Ok(runtime.join(format!("events-{:x}-{:x}", found.dev(), found.ino())))
}

fn old(path: &Path) -> PathBuf {
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    old.into()
}

pub(super) fn append(store: &Path, runtime: &Path, event: &Event) -> io::Result<()> {
    let path = path(store, runtime)?;
    let line = event.line()?;
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let mut file = match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            paths::create_runtime(runtime, rustix::process::geteuid().as_raw()).map_err(io::Error::other)?;
            options.open(&path)?
        }
        opened => opened?,
    };
    file.write_all(&line)?;
    if file.stream_position()? > LARGEST {
        retire(&file, &path)?;
    }
    Ok(())
}

/// Renames the file, if nobody did it already: who holds the lock of the file that has the name may change the name.
fn retire(file: &File, path: &Path) -> io::Result<()> {
    if file.try_lock().is_err() {
        return Ok(());
    }
    let own = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) if (own.dev(), own.ino()) == (named.dev(), named.ino()) => fs::rename(path, old(path))?,
        Ok(_) => {}
        // Somebody has just renamed it, and nobody has written since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.unlock()
}

/// Reads the events of a store, those that there are and those that come.
pub struct Follower {
    path: PathBuf,
    /// The file that had the name before: somebody may still write to it.
    before: Option<Tail>,
    current: Option<Tail>,
}

impl Follower {
    /// A store that is not there has no events yet.
    pub fn new(store: &Path, runtime: &Path) -> io::Result<Self> {
        let path = match path(store, runtime) {
            // Its number is not known before it is made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                paths::create_store(store).map_err(io::Error::other)?;
                self::path(store, runtime)?
            }
            found => found?,
        };
        let before = Tail::open(&old(&path));
        let current = Tail::open(&path);
        Ok(Self { path, before, current })
    }

    /// The file, which need not be there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Passes over all that there is now.
    pub fn skip_to_end(&mut self) {
        self.before.iter_mut().chain(&mut self.current).for_each(Tail::skip_to_end);
    }

    /// What has come since the last call, the oldest first.
    pub fn read_new(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if let Some(before) = &mut self.before {
            before.read(&mut events);
        }
        if let Some(current) = &mut self.current {
            current.read(&mut events);
        }
        if let Some(mut newer) = Tail::open(&self.path).filter(|found| !self.knows(found)) {
            let between = Tail::open(&old(&self.path)).filter(|found| !self.knows(found));
            if let Some(mut between) = between {
                between.read(&mut events);
                self.before = Some(between);
            } else if let Some(current) = self.current.take() {
                self.before = Some(current);
            }
            newer.read(&mut events);
            self.current = Some(newer);
        }
        // Two writers may come to the file in another order than they looked at the clock.
        events.sort_by_key(|event| event.time);
        events
    }

    fn knows(&self, found: &Tail) -> bool {
        self.before.iter().chain(&self.current).any(|tail| tail.id == found.id)
    }
}

/// One file and how far it was read.
struct Tail {
    file: File,
    id: (u64, u64),
    at: u64,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> Option<Self> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
        let found = file.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Self { file, id: (found.dev(), found.ino()), at: 0, rest: Vec::new() })
    }

    fn skip_to_end(&mut self) {
        self.at = self.file.metadata().map_or(0, |found| found.len());
    }

    fn read(&mut self, events: &mut Vec<Event>) {
        let end = self.at.saturating_add(LARGEST_READ);
        let mut chunk = [0_u8; 16 << 10];
        while self.at < end {
            match self.file.read_at(&mut chunk, self.at) {
                Ok(0) => return,
                Ok(read) => {
                    self.at += read as u64;
                    self.rest.extend_from_slice(&chunk[..read]);
                    lines(&mut self.rest, events);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Takes the whole lines out of `text`. What is no event is passed over, also where it has no end.
pub(super) fn lines(text: &mut Vec<u8>, events: &mut Vec<Event>) {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    events.extend(text[..whole].split(|byte| *byte == b'\n').filter_map(Event::parse));
    text.drain(..whole);
    if text.len() > LONGEST_LINE {
        text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Action, Kind};

    fn world() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (store, runtime) = (folder.path().join("store"), folder.path().join("run"));
        fs::create_dir(&store).unwrap();
        (folder, store, runtime)
    }

    fn event(name: &str) -> Event {
        Event::new(Kind::Volume, Action::Create, "id", name)
    }

    fn names(follower: &mut Follower) -> Vec<String> {
        follower.read_new().into_iter().map(|event| event.name).collect()
    }

    #[test]
    fn what_is_appended_is_read_once() {
        let (_folder, store, runtime) = world();
        append(&store, &runtime, &event("a")).unwrap();
        let mut follower = Follower::new(&store, &runtime).unwrap();
        assert_eq!(names(&mut follower), ["a"]);
        append(&store, &runtime, &event("b")).unwrap();
        append(&store, &runtime, &event("c")).unwrap();
        assert_eq!(names(&mut follower), ["b", "c"]);
        assert!(names(&mut follower).is_empty());
        let mut late = Follower::new(&store, &runtime).unwrap();
        late.skip_to_end();
        append(&store, &runtime, &event("d")).unwrap();
        assert_eq!(names(&mut late), ["d"]);
    }

    #[test]
    fn a_reader_may_come_before_the_first_event() {
        let (_folder, store, runtime) = world();
        let mut follower = Follower::new(&store, &runtime).unwrap();
        assert!(names(&mut follower).is_empty());
        append(&store, &runtime, &event("first")).unwrap();
        assert_eq!(names(&mut follower), ["first"]);
        fs::remove_dir_all(&runtime).unwrap();
        append(&store, &runtime, &event("second")).unwrap();
        assert_eq!(names(&mut follower), ["second"]);
    }

    #[test]
    fn nothing_is_lost_when_the_file_is_cut_back() {
        let (_folder, store, runtime) = world();
        let mut follower = Follower::new(&store, &runtime).unwrap();
        let long = "x".repeat(10_000);
        let mut seen = Vec::new();
        // Some five files' worth.
        for number in 0..500 {
            append(&store, &runtime, &event(&format!("{number}")).with("long", &long)).unwrap();
            if number % 20 == 0 {
                seen.extend(names(&mut follower));
            }
        }
        seen.extend(names(&mut follower));
        assert_eq!(seen, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
        let kept: u64 =
            fs::read_dir(&runtime).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!((LARGEST..3 * LARGEST).contains(&kept), "{kept} bytes are kept");
        let late = Follower::new(&store, &runtime).unwrap().read_new();
        assert!(late.len() >= 100 && late.last().unwrap().name == "499");
    }

    #[test]
    fn many_writers_lose_nothing() {
        let (_folder, store, runtime) = world();
        let mut follower = Follower::new(&store, &runtime).unwrap();
        let long = "y".repeat(4000);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (store, runtime, long) = (&store, &runtime, &long);
                scope.spawn(move || {
                    for number in 0..100 {
                        let event = event(&format!("{writer}.{number}")).with("long", long);
                        append(store, runtime, &event).unwrap();
                    }
                });
            }
        });
        assert_eq!(names(&mut follower).len(), 400);
    }

    #[test]
    fn lines_that_are_no_events_are_passed_over() {
        let (_folder, store, runtime) = world();
        append(&store, &runtime, &event("a")).unwrap();
        let path = path(&store, &runtime).unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"\n\xff\xfe{\"time\"\n{\"time\":1}\n[]\n").unwrap();
        append(&store, &runtime, &event("b")).unwrap();
        file.write_all(&vec![b'z'; 2 * LONGEST_LINE]).unwrap();
        file.write_all(b"\n").unwrap();
        append(&store, &runtime, &event("c")).unwrap();
        let mut follower = Follower::new(&store, &runtime).unwrap();
        assert_eq!(names(&mut follower), ["a", "b", "c"]);
        // A line that comes in two pieces.
        let line = event("d").line().unwrap();
        file.write_all(&line[..10]).unwrap();
        assert!(names(&mut follower).is_empty());
        file.write_all(&line[10..]).unwrap();
        assert_eq!(names(&mut follower), ["d"]);
    }

    #[test]
    fn what_lies_there_instead_is_not_followed() {
        let (folder, store, runtime) = world();
        let target = folder.path().join("target");
        fs::write(&target, "").unwrap();
        paths::create_runtime(&runtime, rustix::process::geteuid().as_raw()).unwrap();
        let path = path(&store, &runtime).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(append(&store, &runtime, &event("a")).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert!(Follower::new(&store, &runtime).unwrap().read_new().is_empty());
    }
}
