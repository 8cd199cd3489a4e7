//! The caller's side of a container: terminal, streams, signals, exit code.
//!
//! By the time a client runs its threads the monitor has been forked; the client itself forks no more.

mod signals;
mod streams;
mod terminal;

use crate::error::{Error, Result, Step};
use crate::monitor::Connection;
use crate::monitor::message::ToClient;

pub use terminal::caller_size;

/// What the caller wants of the container's streams.
pub struct Options {
    pub stdin: bool,
    pub terminal: bool,
    /// Forward signals to the container (`--sig-proxy`).
    pub signal_proxy: bool,
}

/// Serves the container until it ends; its exit code.
///
/// # Errors
/// Why it never started, or that its monitor was killed.
pub fn serve(connection: Connection, options: &Options) -> Result<u8> {
    let Connection { monitor, control, stdin, stdout, stderr } = connection;
    let control = std::sync::Arc::new(control);
    signals::forward(&control, options)?;
    let mut outputs = Vec::new();
    if let Some(stdout) = stdout {
        outputs.push(streams::copy_out(stdout, rustix::stdio::stdout()));
    }
    if let Some(stderr) = stderr {
        outputs.push(streams::copy_out(stderr, rustix::stdio::stderr()));
    }
    if let Some(stdin) = stdin {
        streams::copy_in(stdin);
    }
    let mut raw = None;
    let outcome = loop {
        let message = control.receive().step(|| "cannot talk to the container's monitor")?;
        match message {
            Some((ToClient::Started { .. }, _)) => {}
            Some((ToClient::Terminal, Some(master))) => {
                raw = terminal::take_over(master, options.stdin)?;
            }
            Some((ToClient::Terminal, None)) => {}
            Some((ToClient::Notice(notice), _)) => log::warn!("{notice}"),
            Some((ToClient::Failed(error), _)) => break Err(error),
            Some((ToClient::Exited { code, error }, _)) => {
                if let Some(error) = error {
                    log::warn!("the container ended, but not all could be put in order: {error}");
                }
                break Ok(u8::try_from(code).unwrap_or(crate::error::EXIT_SBX));
            }
            None => {
                break Err(Error::new("the monitor of the container was killed")
                    .because("it ended without saying how the container did")
                    .hint("the container is ended; the next command of sbx cleans up after it"));
            }
        }
    };
    for output in outputs {
        let _ = output.join();
    }
    drop(raw);
    // What the monitor has said last it says at its end.
    let _ = crate::sys::process::wait_for(monitor);
    outcome
}
