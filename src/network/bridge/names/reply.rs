//! The writing of answers of our own.

use std::net::IpAddr;

use super::name;
use super::query::{Code, HEADER, Query, class, kind};

/// Seconds for which an answer may be kept: a container that starts again has other addresses.
const LIFETIME: u32 = 10;
/// What we say that we take in one datagram.
const OUR_ROOM: u16 = 4096;
/// The longest message over TCP (RFC 1035, section 4.2.2).
pub const LONGEST: usize = u16::MAX as usize;
/// EDNS option with the reason for an error (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// What is known of the asked name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Address(IpAddr),
    /// The name of an address, in canonical form.
    Name(String),
}

/// Why there is no answer, for whoever reads extended errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// RFC 8914, section 4.
    code: u16,
    text: &'static str,
}

impl Reason {
    pub const INTERNAL: Self = Self { code: 20, text: "the network is internal" };
    pub const NOT_ALLOWED: Self = Self { code: 18, text: "not in --net-allow" };
    pub const UNREACHABLE: Self = Self { code: 22, text: "no name server answers" };
    pub const TOO_MANY: Self = Self { code: 0, text: "too many questions at once" };
}

/// An answer that needs nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: Code,
    pub records: Vec<Record>,
    pub reason: Option<Reason>,
}

impl Reply {
    pub fn error(code: Code) -> Self {
        Self { code, records: Vec::new(), reason: None }
    }

    pub fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The message, with as many records as fit into `room` bytes; where some do not, the asker is told to come again
    /// over TCP.
    pub fn write(&self, query: &Query<'_>, room: usize) -> Vec<u8> {
        let end = self.end(query);
        let mut message = Vec::with_capacity(HEADER + query.question.len() + end.len() + 64);
        message.extend(header(query.message, self.code));
        message.extend(query.question);
        let mut count: u16 = 0;
        for record in &self.records {
            let before = message.len();
            write_record(record, &mut message);
            if message.len() + end.len() > room {
                message.truncate(before);
                message[2] |= 0x02;
                break;
            }
            count += 1;
        }
        message[4..6].copy_from_slice(&1_u16.to_be_bytes());
        message[6..8].copy_from_slice(&count.to_be_bytes());
        message[10..12].copy_from_slice(&u16::from(!end.is_empty()).to_be_bytes());
        message.extend(end);
        message
    }

    /// The OPT record, for whoever sent one (RFC 6891, section 6).
    fn end(&self, query: &Query<'_>) -> Vec<u8> {
        let Some(edns) = query.edns else { return Vec::new() };
        let mut options = Vec::new();
        if let Some(reason) = self.reason {
            options.extend(EXTENDED_ERROR.to_be_bytes());
            options.extend((reason.text.len() as u16 + 2).to_be_bytes());
            options.extend(reason.code.to_be_bytes());
            options.extend(reason.text.as_bytes());
        }
        let mut record = vec![0];
        record.extend(kind::OPT.to_be_bytes());
        record.extend(OUR_ROOM.to_be_bytes());
        record.extend([(self.code as u16 >> 4) as u8, 0, u8::from(edns.signatures) << 7, 0]);
        record.extend((options.len() as u16).to_be_bytes());
        record.extend(options);
        record
    }
}

/// The answer to a message that is no question: a header alone. None: it is too short for one.
pub fn complaint(message: &[u8], code: Code) -> Option<Vec<u8>> {
    (message.len() >= HEADER).then(|| header(message, code).to_vec())
}

/// The header for an answer to a message: its ID, operation and wish for recursion; nothing counted yet.
fn header(message: &[u8], code: Code) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&message[..2]);
    header[2] = 0x80 | message[2] & 0x79;
    header[3] = 0x80 | message[3] & 0x10 | (code as u16 & 0x0f) as u8;
    header
}

fn write_record(record: &Record, message: &mut Vec<u8>) {
    // The name is a pointer to that of the question.
    message.extend([0xc0, HEADER as u8]);
    let (kind, data) = match record {
        Record::Address(IpAddr::V4(address)) => (kind::A, address.octets().to_vec()),
        Record::Address(IpAddr::V6(address)) => (kind::AAAA, address.octets().to_vec()),
        Record::Name(name) => {
            let mut data = Vec::with_capacity(name.len() + 2);
            name::write(name, &mut data);
            (kind::PTR, data)
        }
    };
    message.extend(kind.to_be_bytes());
    message.extend(class::IN.to_be_bytes());
    message.extend(LIFETIME.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
}

/// Cuts an answer from elsewhere that is longer than `room`: its question stays, and the asker is told to come again
/// over TCP.
pub fn fit(mut message: Vec<u8>, question: usize, room: usize) -> Vec<u8> {
    if message.len() > room {
        message.truncate(HEADER + question);
        message[2] |= 0x02;
        message[6..HEADER].fill(0);
    }
    message
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::RData;
    use simple_dns::{Packet, PacketFlag, RCODE};

    use super::*;

    const ASKS: &[u8] = b"\x12\x34\x01\x10\x00\x01\x00\x00\x00\x00\x00\x00\x03Web\x00\x00\x01\x00\x01";

    fn with_edns() -> Vec<u8> {
        let mut message = [ASKS, &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]].concat();
        message[11] = 1;
        message
    }

    fn many(count: u32) -> Reply {
        let records =
            (0..count).map(|n| Record::Address(IpAddr::from((0x0a59_0000 + n).to_be_bytes()))).collect();
        Reply { code: Code::NoError, records, reason: None }
    }

    #[test]
    fn addresses_and_names_are_written_as_others_read_them() {
        let query = Query::read(ASKS).unwrap();
        let records = vec![
            Record::Address("10.89.0.2".parse().unwrap()),
            Record::Address("fd00::2".parse().unwrap()),
            Record::Name("web.example".to_owned()),
        ];
        let bytes = Reply { code: Code::NoError, records, reason: None }.write(&query, 512);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.id(), packet.rcode()), (0x1234, RCODE::NoError));
        assert!(packet.has_flags(
            PacketFlag::RESPONSE
                | PacketFlag::RECURSION_DESIRED
                | PacketFlag::RECURSION_AVAILABLE
                | PacketFlag::CHECKING_DISABLED
        ));
        assert!(!packet.has_flags(PacketFlag::TRUNCATION) && packet.opt().is_none());
        assert_eq!(packet.questions[0].qname.to_string(), "Web", "as it was typed");
        assert!(
            packet.answers.iter().all(|answer| answer.name.to_string() == "Web" && answer.ttl == LIFETIME)
        );
        let [a, aaaa, ptr] = &packet.answers[..] else { panic!("other records: {packet:?}") };
        assert!(matches!(&a.rdata, RData::A(a) if a.address == 0x0a59_0002));
        assert!(matches!(&aaaa.rdata, RData::AAAA(aaaa) if aaaa.address == 0xfd << 120 | 2));
        assert!(matches!(&ptr.rdata, RData::PTR(ptr) if ptr.0.to_string() == "web.example"));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_said() {
        for message in [ASKS.to_vec(), with_edns()] {
            let query = Query::read(&message).unwrap();
            let bytes = many(100).write(&query, query.room());
            let packet = Packet::parse(&bytes).unwrap();
            assert!(bytes.len() <= query.room() && bytes.len() + 16 > query.room(), "{}", bytes.len());
            assert!(packet.has_flags(PacketFlag::TRUNCATION) && packet.answers.len() < 100);
            let whole = many(100).write(&query, LONGEST);
            let packet = Packet::parse(&whole).unwrap();
            assert!(!packet.has_flags(PacketFlag::TRUNCATION));
            assert_eq!(packet.answers.len(), 100);
        }
    }

    #[test]
    fn edns_is_answered_with_the_reason() {
        let message = with_edns();
        let query = Query::read(&message).unwrap();
        let bytes = Reply::error(Code::BadVers).because(Reason::INTERNAL).write(&query, 512);
        // simple-dns looks for code and version at the wrong end of their field (RFC 6891, section 6.1.3).
        let opt = &bytes[HEADER + query.question.len()..];
        assert_eq!(opt[..5], [0, 0, 41, 0x10, 0], "the root, OPT, 4096 bytes");
        assert_eq!((bytes[3] & 0x0f, opt[5]), (0, 1), "BADVERS is 16");
        assert_eq!(opt[6..9], [0, 0x80, 0], "version 0, and DO is copied");
        assert_eq!(opt[9..11], [0, 29]);
        assert_eq!(opt[11..], *b"\0\x0f\0\x19\0\x14the network is internal");
    }

    #[test]
    fn an_answer_from_elsewhere_is_cut_behind_its_question() {
        let query = Query::read(ASKS).unwrap();
        let whole = many(100).write(&query, LONGEST);
        assert_eq!(fit(whole.clone(), query.question.len(), 4096), whole);
        let cut = fit(whole, query.question.len(), 512);
        let packet = Packet::parse(&cut).unwrap();
        assert!(packet.has_flags(PacketFlag::TRUNCATION));
        assert_eq!((packet.questions.len(), packet.answers.len()), (1, 0));
    }
}
