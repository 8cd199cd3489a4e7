//! HTTP of the tests' own, on loopback: a server for handlers in the test, and one plain request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request that was read to its end, or the answer to one.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// `GET /v2/ HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn answer(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { start: format!("HTTP/1.1 {status} Test"), headers: Vec::new(), body: body.into() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn read(stream: &mut impl BufRead, has_body: impl Fn(&Self) -> bool) -> io::Result<Option<Self>> {
        // A handshake of TLS has no line that would end.
        if stream.fill_buf()?.first() == Some(&0x16) {
            return Ok(None);
        }
        let mut start = String::new();
        if stream.read_line(&mut start)? == 0 {
            return Ok(None);
        }
        let mut message = Self { start: start.trim_end().to_owned(), ..Self::default() };
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            message.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if !has_body(&message) {
            return Ok(Some(message));
        }
        if message.get("Transfer-Encoding").is_some_and(|value| value.contains("chunked")) {
            loop {
                let mut line = String::new();
                stream.read_line(&mut line)?;
                let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk)?;
                if size == 0 {
                    break;
                }
                message.body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = message.get("Content-Length") {
            message.body = vec![0; length.parse().map_err(io::Error::other)?];
            stream.read_exact(&mut message.body)?;
        } else if message.start.starts_with("HTTP/") {
            stream.read_to_end(&mut message.body)?;
        }
        Ok(Some(message))
    }

    /// The head with the length of the body, then as much of the body as `upto` allows.
    pub fn write(&self, stream: &mut impl Write, upto: usize) -> io::Result<()> {
        let mut head = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            let framing = ["content-length", "transfer-encoding", "connection"];
            if !framing.contains(&name.to_ascii_lowercase().as_str()) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        // The answer to HEAD has the length of what it does not have.
        let length = match self.get("Content-Length") {
            Some(length) if self.body.is_empty() => length.to_owned(),
            _ => self.body.len().to_string(),
        };
        head.push_str(&format!("Content-Length: {length}\r\nConnection: close\r\n\r\n"));
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body[..upto.min(self.body.len())])?;
        stream.flush()
    }
}

/// One request to `address` on a connection of its own, and its answer.
pub fn exchange(address: &str, request: &Message) -> io::Result<Message> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    request.write(&mut stream, usize::MAX)?;
    let head = request.method() == "HEAD";
    let has_body = |answer: &Message| !head && !matches!(answer.status(), 204 | 304);
    Message::read(&mut BufReader::new(stream), has_body)?
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// A server on a free port of loopback; each connection carries one request. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `serve` answers a request on its stream, in a thread of its own.
    pub fn start(serve: impl Fn(Message, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen on loopback");
        let address = listener.local_addr().expect("a listener has an address");
        let ended = Arc::new(AtomicBool::new(false));
        let (serve, over) = (Arc::new(serve), ended.clone());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                let serve = serve.clone();
                thread::spawn(move || {
                    let reader = stream.try_clone().map(BufReader::new);
                    let request = reader.and_then(|mut reader| Message::read(&mut reader, |_| true));
                    if let Ok(Some(request)) = request {
                        serve(request, &mut stream);
                    }
                });
            }
        });
        Self { address, ended, thread: Some(thread) }
    }

    /// A server whose answers are values.
    pub fn answering(answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> Self {
        Self::start(move |request, stream| {
            // Whoever asked may be gone: that is for the test to notice.
            let _ = answer(&request).write(stream, usize::MAX);
        })
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the one that waits for connections.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
