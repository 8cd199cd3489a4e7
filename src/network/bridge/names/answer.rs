//! The reading of what a server outside answers: any bytes, too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::Packet;
use simple_dns::rdata::RData;

use super::name;
use super::query::{Code, HEADER, number};

/// Aliases from the asked name to the one with addresses; more are a loop, or a joke.
const LONGEST_CHAIN: usize = 16;

/// What a message from a server is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// No answer to our question: somebody guesses, or it came too late.
    Nothing,
    /// The server cannot tell; another may.
    Failure,
    /// There is more than fits into a datagram.
    Cut,
    Answer,
}

/// Judges a message that came from the server that was asked, for `question` (name, type and class as they stand in
/// the message that it was sent) under the number `id`.
pub fn judge(message: &[u8], id: u16, question: &[u8]) -> Worth {
    if message.len() < HEADER || number(message, 0) != id || message[2] & 0xf8 != 0x80 {
        return Worth::Nothing;
    }
    let code = u16::from(message[3] & 0x0f);
    let is_error = ![Code::NoError as u16, Code::NxDomain as u16].contains(&code);
    let asked = message.get(HEADER..HEADER + question.len());
    let is_same = number(message, 4) == 1 && asked.is_some_and(|asked| same(asked, question));
    // Some repeat no question where they fail.
    let is_bare = is_error && number(message, 4) == 0;
    match (is_same || is_bare, is_error) {
        (false, _) => Worth::Nothing,
        (true, true) => Worth::Failure,
        (true, false) if message[2] & 0x02 != 0 => Worth::Cut,
        (true, false) => Worth::Answer,
    }
}

/// Names are compared without regard to case, type and class exactly.
fn same(asked: &[u8], question: &[u8]) -> bool {
    let name = question.len() - 4;
    asked[..name].eq_ignore_ascii_case(&question[..name]) && asked[name..] == question[name..]
}

/// The addresses that an answer gives to `name` (in canonical form), over its aliases, each with the seconds for which
/// the whole chain holds. Records of other names do not count, and what cannot be read gives none.
pub fn addresses(message: &[u8], name: &str) -> Vec<(IpAddr, u32)> {
    let Ok(packet) = Packet::parse(message) else { return Vec::new() };
    let mut aliases = HashMap::new();
    let mut found: HashMap<String, Vec<(IpAddr, u32)>> = HashMap::new();
    let mut give = |owner: String, address: IpAddr, ttl| found.entry(owner).or_default().push((address, ttl));
    for record in &packet.answers {
        let owner = name::of_labels(record.name.as_bytes());
        match &record.rdata {
            RData::CNAME(target) => {
                aliases.insert(owner, (name::of_labels(target.0.as_bytes()), record.ttl));
            }
            RData::A(a) => give(owner, Ipv4Addr::from(a.address).into(), record.ttl),
            RData::AAAA(a) => give(owner, Ipv6Addr::from(a.address).into(), record.ttl),
            _ => {}
        }
    }
    let (mut at, mut lifetime) = (name, u32::MAX);
    for _ in 0..LONGEST_CHAIN {
        if let Some(addresses) = found.get(at) {
            return addresses.iter().map(|&(address, ttl)| (address, ttl.min(lifetime))).collect();
        }
        let Some((target, ttl)) = aliases.get(at) else { break };
        (at, lifetime) = (target, lifetime.min(*ttl));
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::{A, AAAA, CNAME, TXT};
    use simple_dns::{CLASS, Name, Question, RCODE, ResourceRecord};

    use super::*;

    const QUESTION: &[u8] = b"\x03web\x07example\x00\x00\x01\x00\x01";

    fn packet(records: Vec<(&'static str, u32, RData<'static>)>) -> Packet<'static> {
        let mut packet = Packet::new_reply(7);
        let kind = simple_dns::TYPE::A.into();
        packet.questions.push(Question::new(
            Name::new_unchecked("WEB.example"),
            kind,
            CLASS::IN.into(),
            false,
        ));
        for (name, ttl, data) in records {
            packet.answers.push(ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, ttl, data));
        }
        packet
    }

    fn a(last: u32) -> RData<'static> {
        RData::A(A { address: 0x5db8_d800 + last })
    }

    fn alias(target: &'static str) -> RData<'static> {
        RData::CNAME(CNAME(Name::new_unchecked(target)))
    }

    fn bytes(packet: &Packet<'_>) -> Vec<u8> {
        packet.build_bytes_vec_compressed().unwrap()
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let good = bytes(&packet(vec![("web.example", 60, a(1))]));
        assert_eq!(judge(&good, 7, QUESTION), Worth::Answer);
        assert_eq!(judge(&good, 8, QUESTION), Worth::Nothing, "another number");
        assert_eq!(
            judge(&good, 7, b"\x03wex\x07example\x00\x00\x01\x00\x01"),
            Worth::Nothing,
            "another name"
        );
        assert_eq!(
            judge(&good, 7, b"\x03web\x07example\x00\x00\x1c\x00\x01"),
            Worth::Nothing,
            "another type"
        );
        let changed = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            judge(&message, 7, QUESTION)
        };
        assert_eq!(changed(2, 0x00), Worth::Nothing, "a question");
        assert_eq!(changed(5, 0), Worth::Nothing, "no question repeated");
        assert_eq!(changed(2, 0x82), Worth::Cut);
        assert_eq!(
            (changed(3, 2), changed(3, 5), changed(3, 3)),
            (Worth::Failure, Worth::Failure, Worth::Answer)
        );
        for end in 0..HEADER + QUESTION.len() {
            assert_eq!(judge(&good[..end], 7, QUESTION), Worth::Nothing, "cut at {end}");
        }
    }

    #[test]
    fn a_failure_may_come_without_the_question() {
        let mut reply = Packet::new_reply(7);
        *reply.rcode_mut() = RCODE::ServerFailure;
        assert_eq!(judge(&bytes(&reply), 7, QUESTION), Worth::Failure);
    }

    #[test]
    fn aliases_are_followed_to_the_addresses() {
        let message = bytes(&packet(vec![
            ("Web.Example", 30, alias("cdn.example.net")),
            ("cdn.example.net", 300, alias("edge.example.net")),
            ("edge.example.net", 60, a(1)),
            ("edge.example.net", 10, a(2)),
            ("edge.example.net", 60, RData::AAAA(AAAA { address: 1 })),
            ("edge.example.net", 60, RData::TXT(TXT::new().with_string("text").unwrap())),
            ("other.example.net", 60, a(9)),
        ]));
        let mut found = addresses(&message, "web.example");
        found.sort_unstable();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(found, [(ip("93.184.216.1"), 30), (ip("93.184.216.2"), 10), (ip("::1"), 30)]);
    }

    #[test]
    fn addresses_of_other_names_do_not_count() {
        let smuggled = bytes(&packet(vec![("bank.example", 60, a(1))]));
        assert_eq!(addresses(&smuggled, "web.example"), []);
        let loops = bytes(&packet(vec![("web.example", 60, alias("b")), ("b", 60, alias("web.example"))]));
        assert_eq!(addresses(&loops, "web.example"), []);
        assert_eq!(addresses(&smuggled[..40], "bank.example"), []);
    }
}
