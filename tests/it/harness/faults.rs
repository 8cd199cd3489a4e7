//! What networks and servers do wrong: a proxy in front of a registry that spoils the answers a test names.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::http::{Message, Server, exchange};

/// What becomes of one answer.
#[derive(Debug, Clone)]
pub enum Fault {
    None,
    /// Another answer; the registry is not asked.
    Answer(Message),
    /// The connection ends in order after so many bytes of the body, of which the head announces all.
    Truncate(usize),
    /// Nothing more comes after so many bytes of the body, for so long.
    Stall(usize, Duration),
    /// The connection is reset after so many bytes of the body.
    Reset(usize),
    /// One byte in the middle of the body is another.
    Corrupt,
    /// The connection is reset before the request is passed on.
    Refuse,
    /// The request is passed on, and the connection reset instead of an answer.
    Lose,
}

impl Fault {
    /// 429 with `Retry-After`.
    pub fn too_many_requests(retry_after: u64) -> Self {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        Self::Answer(Message::answer(429, body).header("Retry-After", retry_after.to_string()))
    }

    /// A redirect to the very same place.
    pub fn redirect_to_itself(request: &Message) -> Self {
        Self::Answer(Message::answer(307, "").header("Location", request.target()))
    }
}

/// The proxy; it ends when it is dropped.
pub struct Faulty {
    server: Server,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    /// Puts a proxy before `backend` (`127.0.0.1:PORT`, http). `fault` is told each request and how many of the
    /// same method and target came before it.
    pub fn before(backend: &str, fault: impl Fn(&Message, usize) -> Fault + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (list, backend) = (seen.clone(), backend.to_owned());
        let server = Server::start(move |request, stream| {
            let line = format!("{} {}", request.method(), request.target());
            let before = {
                let mut list = list.lock().expect("no test panics here");
                let before = list.iter().filter(|known| **known == line).count();
                list.push(line);
                before
            };
            pass(&backend, &request, fault(&request, before), stream);
        });
        Self { server, seen }
    }

    /// `127.0.0.1:PORT`, as it stands at the beginning of a reference.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Method and target of every request so far, in order.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("no test panics here").clone()
    }

    /// How many requests so far have the text in their method and target.
    pub fn count(&self, text: &str) -> usize {
        self.requests().iter().filter(|line| line.contains(text)).count()
    }
}

fn pass(backend: &str, request: &Message, fault: Fault, stream: &mut TcpStream) {
    if let Fault::Refuse = fault {
        return reset(stream);
    }
    if let Fault::Answer(answer) = fault {
        let _ = answer.write(stream, usize::MAX);
        return;
    }
    let Ok(mut answer) = exchange(backend, request) else { return };
    if let Fault::Lose = fault {
        return reset(stream);
    }
    // Whoever asked may be gone: that is for the test to notice.
    let _ = match fault {
        Fault::Truncate(upto) => answer.write(stream, upto),
        Fault::Stall(upto, time) => {
            let written = answer.write(stream, upto);
            thread::sleep(time);
            written
        }
        Fault::Reset(upto) => {
            let written = answer.write(stream, upto);
            // What was written is read before the reset is seen.
            thread::sleep(Duration::from_millis(50));
            reset(stream);
            written
        }
        Fault::Corrupt => {
            let middle = answer.body.len() / 2;
            if let Some(byte) = answer.body.get_mut(middle) {
                *byte ^= 0x20;
            }
            answer.write(stream, usize::MAX)
        }
        _ => answer.write(stream, usize::MAX),
    };
}

/// The close that follows is a reset where the linger is zero (socket(7), SO_LINGER).
fn reset(stream: &mut TcpStream) {
    let _ = stream.flush();
    let _ = rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(address: &str, target: &str) -> std::io::Result<Message> {
        let request = Message { start: format!("GET {target} HTTP/1.1"), ..Message::default() };
        exchange(address, &request.header("Host", address))
    }

    #[test]
    fn each_fault_is_what_it_says() {
        let backend = Server::answering(|_| Message::answer(200, "abcdef"));
        let faulty = Faulty::before(&backend.address(), |request, before| match request.target() {
            "/cut" => Fault::Truncate(2),
            "/reset" => Fault::Reset(2),
            "/other" => Fault::Corrupt,
            "/once" if before == 0 => Fault::too_many_requests(7),
            "/refused" => Fault::Refuse,
            "/loop" => Fault::redirect_to_itself(request),
            _ => Fault::None,
        });
        let address = faulty.address();
        assert_eq!(get(&address, "/").expect("an answer").body, b"abcdef");
        assert_eq!(get(&address, "/other").expect("an answer").body, b"abcDef");
        let cut = get(&address, "/cut").expect_err("the body was cut");
        assert_eq!(cut.kind(), std::io::ErrorKind::UnexpectedEof);
        for target in ["/reset", "/refused"] {
            let reset = get(&address, target).expect_err("the connection was reset");
            assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset, "{target}");
        }
        let limited = get(&address, "/once").expect("an answer");
        assert_eq!((limited.status(), limited.get("Retry-After")), (429, Some("7")));
        assert_eq!(get(&address, "/once").expect("an answer").status(), 200);
        assert_eq!(get(&address, "/loop").expect("an answer").get("Location"), Some("/loop"));
        assert_eq!((faulty.count("/once"), faulty.count("GET ")), (2, 8));
    }
}
