//! The reading of what a container sends: any bytes.
//!
//! Only the question and the EDNS record are understood, so that questions of any type can be passed on as they are.

use super::name;

/// The fixed part of a message (RFC 1035, section 4.1.1).
pub const HEADER: usize = 12;
/// No honest question is longer.
const LONGEST: usize = 4096;
/// What fits into a datagram for whoever says nothing about it (RFC 1035, section 4.2.1), and the most that anybody is
/// sent.
const LEAST_ROOM: u16 = 512;
const MOST_ROOM: u16 = 4096;

pub mod kind {
    pub const A: u16 = 1;
    pub const PTR: u16 = 12;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const ANY: u16 = 255;
}

pub mod class {
    pub const IN: u16 = 1;
    pub const ANY: u16 = 255;
}

/// Response codes (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Code {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    BadVers = 16,
}

/// One question.
#[derive(Debug)]
pub struct Query<'a> {
    /// All of the message.
    pub message: &'a [u8],
    /// The asked name, type and class, as they stand in the message.
    pub question: &'a [u8],
    /// In canonical form.
    pub name: String,
    pub kind: u16,
    pub class: u16,
    pub edns: Option<Edns>,
}

/// What the OPT record says (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Bytes of a datagram that the asker takes.
    pub room: u16,
    pub version: u8,
    /// Signatures are wanted (DO).
    pub signatures: bool,
}

/// Why something is no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing may be said: it is too short for a header, or an answer.
    Mute,
    /// The asker is told.
    Told(Code),
}

impl<'a> Query<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// It holds no question, or not one alone, or more than a question may hold.
    pub fn read(message: &'a [u8]) -> Result<Self, Unreadable> {
        let malformed = Unreadable::Told(Code::FormErr);
        let header = message.get(..HEADER).ok_or(Unreadable::Mute)?;
        if header[2] & 0x80 != 0 {
            return Err(Unreadable::Mute);
        }
        if header[2] & 0x78 != 0 {
            return Err(Unreadable::Told(Code::NotImp));
        }
        if message.len() > LONGEST || header[4..10] != [0, 1, 0, 0, 0, 0] {
            return Err(malformed);
        }
        let (name, length) = name::read(&message[HEADER..]).ok_or(malformed)?;
        let end = HEADER + length + 4;
        let question = message.get(HEADER..end).ok_or(malformed)?;
        let (kind, class) = (number(question, length), number(question, length + 2));
        let records = number(header, 10);
        let edns = additional(&message[end..], records).ok_or(malformed)?;
        Ok(Self { message, question, name, kind, class, edns })
    }

    /// Bytes that an answer in a datagram may have.
    pub fn room(&self) -> usize {
        self.edns.map_or(LEAST_ROOM, |edns| edns.room.clamp(LEAST_ROOM, MOST_ROOM)).into()
    }
}

/// Goes through the records behind the question, to the very end of the message. Inner none: no EDNS.
fn additional(mut bytes: &[u8], records: u16) -> Option<Option<Edns>> {
    let mut edns = None;
    for _ in 0..records {
        let name = name_length(bytes)?;
        let fixed = bytes.get(name..name + 10)?;
        let end = name + 10 + usize::from(number(fixed, 8));
        if number(fixed, 0) == kind::OPT {
            let found = Edns { room: number(fixed, 2), version: fixed[5], signatures: fixed[6] & 0x80 != 0 };
            if name != 1 || edns.replace(found).is_some() {
                return None;
            }
        }
        bytes = bytes.get(end..)?;
    }
    bytes.is_empty().then_some(edns)
}

/// The number of bytes that a name takes where it stands; a pointer ends it.
fn name_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            192.. => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The number in two bytes at `at`, which are there.
pub fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKS: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Web\x00\x00\x01\x00\x01";

    fn with_records(records: &[&[u8]]) -> Vec<u8> {
        let mut message = ASKS.to_vec();
        message[11] = records.len() as u8;
        message.extend(records.concat());
        message
    }

    #[test]
    fn a_question_is_read() {
        let query = Query::read(ASKS).unwrap();
        assert_eq!((query.name.as_str(), query.kind, query.class), ("web", kind::A, class::IN));
        assert_eq!((query.question, query.edns, query.room()), (&ASKS[12..], None, 512));
    }

    #[test]
    fn edns_says_what_fits() {
        let room = |bytes: [u8; 2]| {
            let message = with_records(&[&[&[0, 0, 41][..], &bytes, &[0, 0, 0x80, 0, 0, 2, 9, 9]].concat()]);
            let query = Query::read(&message).unwrap();
            assert!(query.edns.unwrap().signatures);
            query.room()
        };
        assert_eq!(room([0x04, 0xd0]), 1232);
        assert_eq!(room([0, 0]), 512);
        assert_eq!(room([0xff, 0xff]), 4096);
    }

    #[test]
    fn answers_and_scraps_get_no_word() {
        let mut answer = ASKS.to_vec();
        answer[2] |= 0x80;
        for bytes in [&answer[..], b"", &ASKS[..11]] {
            assert_eq!(Query::read(bytes).unwrap_err(), Unreadable::Mute);
        }
    }

    #[test]
    fn what_is_not_one_question_is_refused() {
        let changed = |at: usize, byte: u8| {
            let mut message = ASKS.to_vec();
            message[at] = byte;
            Query::read(&message).err()
        };
        let malformed = Some(Unreadable::Told(Code::FormErr));
        assert_eq!(changed(2, 0x28), Some(Unreadable::Told(Code::NotImp)), "an update");
        assert_eq!(changed(5, 0), malformed, "no question");
        assert_eq!(changed(5, 2), malformed, "two questions");
        assert_eq!(changed(7, 1), malformed, "an answer record that is not there");
        assert_eq!(changed(11, 1), malformed, "an additional record that is not there");
        assert_eq!(changed(12, 0xc0), malformed, "a pointer as name");
        for end in 12..ASKS.len() {
            assert_eq!(Query::read(&ASKS[..end]).err(), malformed, "cut at {end}");
        }
        let longer = [ASKS, b"more"].concat();
        assert_eq!(Query::read(&longer).err(), malformed, "something behind the end");
        let opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
        assert_eq!(Query::read(&with_records(&[&opt, &opt])).err(), malformed, "EDNS twice");
        let elsewhere = [1, b'a', 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
        assert_eq!(Query::read(&with_records(&[&elsewhere])).err(), malformed, "EDNS of a name");
        let padding = vec![0; 5000];
        let padded = [&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0x13, 0x88][..], &padding].concat();
        assert_eq!(Query::read(&with_records(&[&padded])).err(), malformed, "5000 bytes");
    }
}
