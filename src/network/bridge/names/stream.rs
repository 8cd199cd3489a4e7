//! Messages over TCP, each behind its length in two bytes (RFC 1035, section 4.2.2).

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Bytes taken from one stream before the others have their turn.
const TURN: usize = 1 << 16;
const CHUNK: usize = 4096;

/// One end of a connection that never waits.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    received: Vec<u8>,
    to_send: Vec<u8>,
}

impl Stream {
    /// `socket` does not block.
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, received: Vec::new(), to_send: Vec::new() }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Takes what has arrived. False: nothing more will.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn receive(&mut self) -> io::Result<bool> {
        let mut chunk = [0; CHUNK];
        let mut taken = 0;
        while taken < TURN {
            match self.socket.read(&mut chunk) {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    self.received.extend(&chunk[..length]);
                    taken += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// The next message, if all of it is there.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.received.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let message = rest.get(..length)?.to_vec();
        self.received.drain(..2 + length);
        Some(message)
    }

    /// Bytes received that are not taken yet.
    pub fn waiting(&self) -> usize {
        self.received.len()
    }

    /// Puts a message of at most 65535 bytes behind what is to be sent.
    pub fn push(&mut self, message: &[u8]) {
        self.to_send.extend((message.len() as u16).to_be_bytes());
        self.to_send.extend(message);
    }

    /// Sends as much as is taken. True: nothing is left.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self) -> io::Result<bool> {
        while !self.to_send.is_empty() {
            match self.socket.write(&self.to_send) {
                Ok(length) => drop(self.to_send.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Bytes that nobody has taken yet.
    pub fn unsent(&self) -> usize {
        self.to_send.len()
    }
}
