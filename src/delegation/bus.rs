//! Just enough of a D-Bus client (dbus.freedesktop.org, specification 0.42) to ask systemd for something and to wait
//! until it is done: blocking, without threads, and gone when that is over. The wire format is zbus's.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::ser::SerializeStruct;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{DynamicType, LE, to_bytes};
use zbus::{ObjectPath, Signature, Str, Type, Variant};

use crate::error::{Error, Result, Step};
use crate::host::userns;

/// How long systemd may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// The specification allows 128 MiB; nobody who is asked here says much.
const LONGEST: usize = 1 << 20;
/// Bytes of a header before its fields.
const FIXED: usize = 16;

/// Message types.
const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
/// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

type Header<F> = (u8, u8, u8, u8, u32, u32, Vec<(u8, F)>);

/// A header field as it is written. Several arguments are a structure without its parentheses, which is no signature of
/// one value.
#[derive(Type)]
#[zbus(signature = "v")]
enum Field<'f> {
    Value(Variant<'f>),
    Arguments(String),
}

impl Serialize for Field<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Arguments(text) => {
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &Signature::Signature)?;
                variant.serialize_field("value", text)?;
                variant.end()
            }
        }
    }
}

/// Where a bus listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    File(PathBuf),
    Abstract(Vec<u8>),
}

/// The bus of the caller's systemd: the user's, for root the machine's.
pub fn address() -> Option<Address> {
    let uid = userns::machine_user();
    let of_file = |path: PathBuf| path.exists().then_some(Address::File(path));
    if uid == 0 {
        // Root's own session bus is mostly not there, and the machine's systemd does as it is told.
        let booted = std::path::Path::new("/run/systemd/system").is_dir();
        return of_file("/run/dbus/system_bus_socket".into()).filter(|_| booted);
    }
    if let Some(listed) = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|text| !text.is_empty()) {
        return parse(&listed).filter(|address| match address {
            Address::File(path) => path.exists(),
            Address::Abstract(_) => true,
        });
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|runtime| PathBuf::from(runtime).join("bus"));
    runtime.and_then(of_file).or_else(|| of_file(format!("/run/user/{uid}/bus").into()))
}

/// The first address of a list that can be reached from here (Server Addresses).
fn parse(listed: &str) -> Option<Address> {
    listed.split(';').find_map(|address| {
        let pairs = address.strip_prefix("unix:")?;
        pairs.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", path) => Some(Address::File(String::from_utf8(unescaped(path)?).ok()?.into())),
            ("abstract", name) => unescaped(name).map(Address::Abstract),
            _ => None,
        })
    })
}

/// `%2f` is a byte.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(bytes)
}

/// What came in.
#[derive(Debug)]
pub enum Message {
    /// The answer to the call with this number.
    Answer {
        to: u32,
        outcome: Result<Body, Refusal>,
    },
    Signal {
        member: String,
        body: Body,
    },
}

/// An error of the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub name: String,
    pub text: String,
}

/// The arguments of a message.
#[derive(Debug)]
pub struct Body {
    data: Data<'static, 'static>,
    signature: String,
}

impl Body {
    /// # Errors
    /// They are others.
    pub fn read<'b, T: serde::Deserialize<'b> + Type>(&'b self) -> Result<T> {
        let failed = "cannot read what systemd said";
        if T::SIGNATURE.to_string_no_parens() != self.signature {
            return Err(Error::new(failed).because(format!("it is `{}`", self.signature)));
        }
        self.data.deserialize().map(|(value, _)| value).step(|| failed)
    }
}

/// What is asked of whom.
pub struct Call<'c> {
    pub destination: &'c str,
    pub path: &'c str,
    pub interface: &'c str,
    pub member: &'c str,
}

pub struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connects, as the caller.
    ///
    /// # Errors
    /// Nobody listens, or takes the caller for who it is.
    pub fn connect(address: &Address) -> io::Result<Self> {
        let mut stream = match address {
            Address::File(path) => UnixStream::connect(path)?,
            Address::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let uid = userns::machine_user().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let said = line(&mut stream)?;
        if !said.starts_with("OK ") {
            return Err(io::Error::other(format!("the bus does not let us in: {said}")));
        }
        stream.write_all(b"BEGIN\r\n")?;
        Ok(Self { stream, serial: 0 })
    }

    /// Sends a call, and returns its number.
    ///
    /// # Errors
    /// The bus is gone.
    pub fn call<T: Serialize + DynamicType>(&mut self, call: &Call<'_>, body: Option<&T>) -> Result<u32> {
        self.serial += 1;
        let message = encode(self.serial, call, body).step(|| "cannot write to systemd")?;
        self.stream.write_all(&message).step(|| "cannot write to the bus")?;
        Ok(self.serial)
    }

    /// Waits for the next message that somebody here waits for.
    ///
    /// # Errors
    /// The bus is gone, or silent for too long.
    pub fn next(&mut self) -> Result<Message> {
        loop {
            let read = self.read().map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::new("systemd does not answer")
                    .because(format!("{} s are over", PATIENCE.as_secs())),
                _ => Error::new("cannot read what systemd said").because(error),
            })?;
            if let Some(message) = read {
                return Ok(message);
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Message>> {
        let mut head = [0_u8; FIXED];
        self.stream.read_exact(&mut head)?;
        let little = match head[0] {
            b'l' => true,
            b'B' => false,
            _ => return Err(io::Error::other("it is no message")),
        };
        let number = |at: usize| {
            let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
            (if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }) as usize
        };
        let (body, fields) = (number(4), number(12));
        if body > LONGEST || fields > LONGEST {
            return Err(io::Error::other("it is too long"));
        }
        let header = (FIXED + fields).next_multiple_of(8);
        let mut message = vec![0_u8; header + body];
        message[..FIXED].copy_from_slice(&head);
        self.stream.read_exact(&mut message[FIXED..])?;
        decode(message, little, header)
    }
}

fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut said = Vec::new();
    let mut byte = [0_u8];
    while !said.ends_with(b"\r\n") && said.len() < 4096 {
        stream.read_exact(&mut byte)?;
        said.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&said).trim_end().to_owned())
}

fn encode<T: Serialize + DynamicType>(
    serial: u32,
    call: &Call<'_>,
    body: Option<&T>,
) -> zbus::wire::Result<Vec<u8>> {
    let arguments = body.map(|body| to_bytes(Context::new(LE, 0), body)).transpose()?;
    let arguments: &[u8] = arguments.as_deref().unwrap_or_default();
    let text = |text| Field::Value(Variant::from(Str::from(text)));
    let mut fields = vec![
        (PATH, Field::Value(Variant::from(ObjectPath::try_from(call.path)?))),
        (INTERFACE, text(call.interface)),
        (MEMBER, text(call.member)),
        (DESTINATION, text(call.destination)),
    ];
    if let Some(body) = body {
        fields.push((SIGNATURE, Field::Arguments(body.signature().to_string_no_parens())));
    }
    let length = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
    let header: Header<Field<'_>> = (b'l', CALL, 0, 1, length, serial, fields);
    let mut message = to_bytes(Context::new(LE, 0), &header)?.to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend_from_slice(arguments);
    Ok(message)
}

/// None: nobody here waits for it.
fn decode(message: Vec<u8>, little: bool, body_at: usize) -> io::Result<Option<Message>> {
    let endian = if little { LE } else { zbus::wire::BE };
    let wrong = |error: zbus::wire::Error| io::Error::other(error.to_string());
    let data = Data::new(message, Context::new(endian, 0));
    let (header, _): (Header<Variant<'_>>, usize) = data.deserialize().map_err(wrong)?;
    let field = |code: u8| header.6.iter().find(|(own, _)| *own == code).map(|(_, value)| value);
    let text = |code: u8| match field(code) {
        Some(Variant::Str(text)) => text.as_str().to_owned(),
        _ => String::new(),
    };
    let to = match field(REPLY_SERIAL) {
        Some(Variant::U32(serial)) => *serial,
        _ => 0,
    };
    let kind = header.1;
    let signature = match field(SIGNATURE) {
        Some(Variant::Signature(signature)) => signature.to_string_no_parens(),
        _ => String::new(),
    };
    let body = || Body {
        data: Data::new(data.bytes()[body_at..].to_vec(), Context::new(endian, 0)),
        signature: signature.clone(),
    };
    Ok(match kind {
        ANSWER => Some(Message::Answer { to, outcome: Ok(body()) }),
        ERROR => {
            let said = body().read::<&str>().map(str::to_owned).unwrap_or_default();
            Some(Message::Answer { to, outcome: Err(Refusal { name: text(ERROR_NAME), text: said }) })
        }
        SIGNAL => Some(Message::Signal { member: text(MEMBER), body: body() }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn addresses_are_lists_with_escapes() {
        let file = |path: &str| Some(Address::File(path.into()));
        assert_eq!(parse("unix:path=/run/user/7/bus"), file("/run/user/7/bus"));
        assert_eq!(parse("tcp:host=x;unix:guid=5,path=/a%20b"), file("/a b"));
        assert_eq!(parse("unix:abstract=/tmp/x"), Some(Address::Abstract(b"/tmp/x".to_vec())));
        for none in ["", "unix:", "unix:path", "unix:path=%2", "unix:path=%zz", "autolaunch:"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    const CALL_OF_TESTS: Call<'_> =
        Call { destination: "org.example.A", path: "/a/b", interface: "org.example.I", member: "Do" };

    /// The text of a message with its strings, for looking at.
    fn shown(message: &[u8]) -> String {
        String::from_utf8_lossy(message).replace('\0', " ")
    }

    #[test]
    fn a_call_names_its_arguments_one_by_one() {
        let body = ("name", "fail", vec![("Delegate", Variant::from(true))]);
        let message = encode(7, &CALL_OF_TESTS, Some(&body)).unwrap();
        assert_eq!(&message[..4], b"l\x01\0\x01");
        assert_eq!(message[8..12], 7_u32.to_le_bytes());
        let text = shown(&message);
        assert!(text.contains("ssa(sv) ") && !text.contains("(ssa"), "{text}");
        assert!(text.contains("org.example.A") && text.contains("Delegate"), "{text}");
        let length = u32::from_le_bytes(message[4..8].try_into().unwrap()) as usize;
        assert_eq!((message.len() - length) % 8, 0);
    }

    /// A bus that says what it is told to, after it has let the client in.
    fn bus(said: Vec<u8>, lets_in: bool) -> (tempfile::TempDir, Address, thread::JoinHandle<String>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut auth = String::new();
            reader.read_line(&mut auth).unwrap();
            stream.write_all(if lets_in { b"OK 1234\r\n" } else { b"REJECTED EXTERNAL\r\n" }).unwrap();
            if lets_in {
                reader.read_line(&mut auth).unwrap();
                stream.write_all(&said).unwrap();
            }
            auth
        });
        (directory, Address::File(path), server)
    }

    fn answer(kind: u8, fields: Vec<(u8, Field<'_>)>, body: &[u8]) -> Vec<u8> {
        let header: Header<Field<'_>> = (b'l', kind, 0, 1, body.len() as u32, 9, fields);
        let mut message = to_bytes(Context::new(LE, 0), &header).unwrap().to_vec();
        message.resize(message.len().next_multiple_of(8), 0);
        message.extend_from_slice(body);
        message
    }

    #[test]
    fn answers_errors_and_signals_are_told_apart() {
        let serial = || (REPLY_SERIAL, Field::Value(Variant::from(3_u32)));
        let text = |text: &'static str| Field::Value(Variant::from(text));
        let arguments = |text: &str| (SIGNATURE, Field::Arguments(text.to_owned()));
        let body = to_bytes(Context::new(LE, 0), &("sorry",)).unwrap().to_vec();
        let job = to_bytes(Context::new(LE, 0), &(5_u32, "unit", "done")).unwrap().to_vec();
        let mut said = answer(ANSWER, vec![serial()], &[]);
        said.extend(answer(ERROR, vec![serial(), (ERROR_NAME, text("org.x.No")), arguments("s")], &body));
        said.extend(answer(SIGNAL, vec![(MEMBER, text("JobRemoved")), arguments("uss")], &job));
        let (_directory, address, server) = bus(said, true);
        let mut bus = Bus::connect(&address).unwrap();
        assert!(matches!(bus.next().unwrap(), Message::Answer { to: 3, outcome: Ok(_) }));
        match bus.next().unwrap() {
            Message::Answer { to: 3, outcome: Err(refusal) } => {
                assert_eq!(refusal, Refusal { name: "org.x.No".to_owned(), text: "sorry".to_owned() });
            }
            other => panic!("{other:?}"),
        }
        match bus.next().unwrap() {
            Message::Signal { member, body } if member == "JobRemoved" => {
                assert_eq!(body.read::<(u32, &str, &str)>().unwrap(), (5, "unit", "done"));
                assert!(body.read::<(u32, u32, u32, u32)>().is_err());
            }
            other => panic!("{other:?}"),
        }
        assert!(bus.next().is_err());
        assert!(server.join().unwrap().starts_with("\0AUTH EXTERNAL "));
    }

    #[test]
    fn nonsense_and_refusals_are_errors() {
        for nonsense in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"l\x02\0\x01\xff\xff\xff\x7f\0\0\0\0\xff\xff\xff\x7f",
            b"l\x02\0\x01",
        ] {
            let (_directory, address, _server) = bus(nonsense.to_vec(), true);
            assert!(Bus::connect(&address).unwrap().next().is_err());
        }
        let (_directory, address, _server) = bus(Vec::new(), false);
        assert!(Bus::connect(&address).is_err_and(|error| error.to_string().contains("REJECTED")));
        assert!(Bus::connect(&Address::File("/nowhere/bus".into())).is_err());
    }
}
