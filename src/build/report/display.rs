//! The steps that run, at the bottom of the terminal, each with the last lines of its output; what is done goes up as
//! one line. Drawn by a process of its own, since the stages are built by several.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use super::shown;
use crate::error::{Result, Step};
use crate::sys::channel::Channel;
use crate::sys::process::{Fork, die_with_parent, exit_now, fork, wait_for};

/// How often times are drawn anew.
const PAUSE: Duration = Duration::from_millis(100);
/// Lines of output that are shown of a step.
const LINES: usize = 6;

const GREEN: &str = "32";
const RED: &str = "31";
const FAINT: &str = "2";

/// What the processes of a build tell. Steps have numbers; texts hold nothing that commands a terminal.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    Begin(u64, String),
    Output(u64, Vec<String>),
    Done(u64, String),
    /// With its last lines.
    Failed(u64, String, Vec<String>),
    Line(String),
    Stop,
}

/// The process that draws.
pub struct Display {
    channel: Channel,
    pid: i32,
}

impl Display {
    /// # Errors
    /// There can be no process.
    pub fn start() -> Result<Self> {
        let failed = || "cannot start a process";
        let (channel, theirs) = Channel::pair().step(failed)?;
        let parent = std::process::id();
        match fork().step(failed)? {
            Fork::Parent(pid) => Ok(Self { channel, pid }),
            Fork::Child => {
                drop(channel);
                let _ = die_with_parent(parent);
                draw(&theirs);
                exit_now(0)
            }
        }
    }

    /// Whoever draws may be gone; the build goes on.
    pub fn tell(&self, event: &Event) {
        let _ = self.channel.send(event);
    }

    /// Waits until everything is drawn.
    pub fn stop(self) {
        self.tell(&Event::Stop);
        let _ = wait_for(self.pid);
    }
}

/// A step that runs.
struct Running {
    text: String,
    started: Instant,
    head: ProgressBar,
    /// As many as there are lines.
    below: Vec<ProgressBar>,
    lines: VecDeque<String>,
}

struct Screen {
    bars: MultiProgress,
    running: BTreeMap<u64, Running>,
    coloured: bool,
}

fn draw(channel: &Channel) {
    let target = ProgressDrawTarget::stderr_with_hz(10);
    // no-color.org: any value but an empty one.
    let coloured = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen =
        Screen { bars: MultiProgress::with_draw_target(target), running: BTreeMap::new(), coloured };
    let pause = Timespec::try_from(PAUSE).ok();
    loop {
        let mut polled = [PollFd::new(channel, PollFlags::IN)];
        let _ = poll(&mut polled, pause.as_ref());
        if !polled[0].revents().is_empty() {
            match channel.receive::<Event>() {
                Ok(Some((Event::Stop, _))) | Ok(None) | Err(_) => break,
                Ok(Some((event, _))) => screen.take(event),
            }
        }
        screen.tick();
    }
    let _ = screen.bars.clear();
}

impl Screen {
    fn take(&mut self, event: Event) {
        match event {
            Event::Begin(id, text) => {
                let head = self.bar();
                let started = Instant::now();
                self.running
                    .insert(id, Running { text, started, head, below: Vec::new(), lines: VecDeque::new() });
            }
            Event::Output(id, lines) => self.output(id, lines),
            Event::Done(id, text) => {
                self.remove(id);
                self.line(&format!("{} {text}", self.paint(GREEN, "=>")));
            }
            Event::Failed(id, text, lines) => {
                self.remove(id);
                self.line(&self.paint(RED, &format!("=> ERROR {text}")));
                lines.iter().for_each(|line| self.line(&format!("   {line}")));
            }
            Event::Line(text) => self.line(&text),
            Event::Stop => {}
        }
    }

    fn output(&mut self, id: u64, lines: Vec<String>) {
        let Some(running) = self.running.get_mut(&id) else { return };
        running.lines.extend(lines);
        let many = running.lines.len().saturating_sub(LINES);
        running.lines.drain(..many);
        while running.below.len() < running.lines.len() {
            let last = running.below.last().unwrap_or(&running.head);
            let bar = self.bars.insert_after(last, ProgressBar::new_spinner().with_style(style()));
            running.below.push(bar);
        }
        for (bar, line) in running.below.iter().zip(&running.lines) {
            let line = format!("   {line}");
            bar.set_message(if self.coloured { format!("\x1b[{FAINT}m{line}\x1b[0m") } else { line });
        }
    }

    fn tick(&self) {
        for running in self.running.values() {
            running.head.set_message(format!("=> {} {}", running.text, shown(running.started.elapsed())));
        }
    }

    fn remove(&mut self, id: u64) {
        let Some(running) = self.running.remove(&id) else { return };
        for bar in running.below.iter().chain([&running.head]) {
            bar.finish_and_clear();
            self.bars.remove(bar);
        }
    }

    fn bar(&self) -> ProgressBar {
        self.bars.add(ProgressBar::new_spinner().with_style(style()))
    }

    fn line(&self, text: &str) {
        let _ = self.bars.println(text);
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Cut at the terminal's width.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_sound() {
        assert!(ProgressStyle::with_template("{wide_msg}").is_ok());
    }
}
