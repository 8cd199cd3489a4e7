//! What those who are connected ask of the monitor.

use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Error, Result};
use crate::events::{Action, Event};
use crate::logs::Name;
use crate::monitor::message::{Request, Standard, ToClient, ToMonitor};
use crate::monitor::run::{Asked, Monitor};
use crate::monitor::sessions::Role;
use crate::monitor::wires::{give_stdin, pipe};
use crate::sys::process::send_signal;

impl Monitor<'_> {
    /// A session has something to say, or is gone.
    pub(super) fn serve(&mut self, id: u64) {
        let Some(session) = self.sessions.get(id) else { return };
        if session.role == Role::New {
            match session.channel.receive::<Request>() {
                Ok(Some((request, descriptor))) => self.answer(id, &request, descriptor),
                _ => self.sessions.remove(id),
            }
            return;
        }
        if session.role == Role::Exec {
            let message = session.channel.receive().ok().flatten().map(|(message, _)| message);
            return self.serve_exec(id, message);
        }
        match session.channel.receive::<ToMonitor>() {
            Ok(Some((ToMonitor::Signal(signal), _))) => self.forward(signal),
            Ok(Some((ToMonitor::Detach, _))) => self.let_go(id),
            Ok(Some((ToMonitor::Deaf(_), _))) => {}
            // A client that goes without a word was killed, and a foreground container goes with it.
            _ => {
                let owner = session.role == Role::Client { owner: true };
                self.let_go(id);
                if owner {
                    self.stop(None, None);
                }
            }
        }
    }

    fn let_go(&mut self, id: u64) {
        self.sessions.remove(id);
        for stream in self.life.iter_mut().flat_map(|life| &mut life.streams) {
            stream.disconnect(id);
        }
    }

    fn forward(&self, signal: i32) {
        if let Some(life) = &self.life {
            let _ = send_signal(life.sandbox.pid, signal);
        }
    }

    fn answer(&mut self, id: u64, request: &Request, descriptor: Option<OwnedFd>) {
        match *request {
            Request::Stop { timeout, signal } => {
                self.sessions.set_role(id, Role::Stopper);
                self.stop(signal, timeout);
            }
            Request::Kill { signal } => {
                let answer = match self.kill(signal) {
                    Ok(()) => {
                        self.tell(Event::container(Action::Kill, self.spec).with("signal", signal));
                        ToClient::Done
                    }
                    Err(error) => ToClient::Failed(error),
                };
                self.sessions.dismiss(id, &answer);
            }
            Request::Restart { timeout } => {
                self.sessions.set_role(id, Role::Starter);
                self.asked = Asked::Restart;
                self.end_life(None, timeout);
            }
            Request::Pause => self.pause(id),
            Request::Unpause => self.unpause(id),
            Request::Wait => self.sessions.set_role(id, Role::Waiter),
            Request::Health => self.check_health(id),
            Request::NetworkConnect(ref wanted) => self.network_connect(id, wanted),
            Request::NetworkDisconnect { ref network } => self.network_disconnect(id, network),
            Request::NetworkReload => self.network_reload(id),
            Request::NetworkRename => self.network_rename(id),
            Request::Exec(ref request) => self.exec(id, request, descriptor),
            Request::Attach { stdin, stdout, stderr } => {
                if let Err(error) = self.attach(id, stdin, stdout, stderr) {
                    self.let_go_with(id, &ToClient::Failed(error));
                }
            }
        }
    }

    pub(super) fn let_go_with(&mut self, id: u64, answer: &ToClient) {
        self.sessions.dismiss(id, answer);
        self.let_go(id);
    }

    fn kill(&mut self, signal: i32) -> Result<()> {
        if self.life.is_none() {
            return Err(self.down_now("cannot send a signal to"));
        }
        if signal == libc::SIGKILL || signal == self.spec.stop_signal {
            // Who ends it by hand does not want it back (docker-kill(1)).
            self.asked = Asked::Kill;
            self.let_go_on();
        }
        let Some(life) = &self.life else { return Ok(()) };
        send_signal(life.sandbox.pid, signal).map_err(|error| {
            Error::new(format!("cannot send signal {signal} to container {}", self.spec.name)).because(error)
        })
    }

    pub(super) fn down_now(&self, tried: &str) -> Error {
        Error::new(format!("{tried} container {}", self.spec.name))
            .because("it is down, and its restart policy will start it again")
    }

    /// Gives a client its ends of the streams.
    fn attach(&mut self, id: u64, stdin: bool, stdout: bool, stderr: bool) -> Result<()> {
        let down = self.down_now("cannot attach to");
        let Some(life) = &mut self.life else { return Err(down) };
        let Some(session) = self.sessions.get(id) else { return Ok(()) };
        if life.streams.is_empty() {
            return Err(Error::new(format!("cannot attach to container {}", self.spec.name))
                .because("its output goes straight to the one who started it (`--log-driver`)"));
        }
        let terminal = life.terminal.as_ref();
        for stream in &mut life.streams {
            let (wanted, standard) = match stream.name() {
                Name::Stdout => (stdout || terminal.is_some(), Standard::Output),
                Name::Stderr => (stderr, Standard::Error),
            };
            if wanted {
                let (theirs, ours) = pipe()?;
                stream.connect(id, ours)?;
                session.tell_with(&ToClient::Stream(standard), theirs.as_fd());
            }
        }
        if let Some(master) = terminal {
            session.tell_with(&ToClient::Terminal, master.as_fd());
        } else if stdin && let Some(end) = give_stdin(&mut life.stdin, self.spec)? {
            session.tell_with(&ToClient::Stream(Standard::Input), end.as_fd());
        }
        session.tell(&ToClient::Started { pid: life.sandbox.pid });
        self.sessions.set_role(id, Role::Client { owner: false });
        self.tell(Event::container(Action::Attach, self.spec));
        Ok(())
    }
}
