//! What a container asks the name server, and the same bytes as a server's answer: every question gets a message that
//! fits and repeats it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sbx::network::bridge::names::query::{HEADER, Query, Unreadable};
use sbx::network::bridge::names::reply::{LONGEST, complaint, fit};
use sbx::network::bridge::names::verdict::{Verdict, decide};
use sbx::network::bridge::names::{Member, Network, Table, answer, name};

fn table() -> Table {
    let mut table = Table::default();
    table.set_network(Network {
        id: "a".to_owned(),
        name: "net".to_owned(),
        subnets: vec!["10.89.0.0/24".parse().unwrap()],
        has_names: true,
        ..Network::default()
    });
    for last in 2..60 {
        table.join(
            "a",
            Member {
                container: last.to_string(),
                names: vec!["web".to_owned(), format!("c{last}")],
                addresses: vec![[10, 89, 0, last].into(), format!("fd00::{last}").parse().unwrap()],
                ..Member::default()
            },
        );
    }
    table
}

fuzz_target!(|bytes: &[u8]| {
    let asker = [10, 89, 0, 2].into();
    match Query::read(bytes) {
        Ok(query) => {
            assert_eq!(name::read(query.question).unwrap().0, query.name);
            if let Verdict::Reply(reply) = decide(&table(), asker, &query) {
                for room in [query.room(), LONGEST] {
                    let message = reply.write(&query, room);
                    assert!(message.len() <= room.max(HEADER + query.question.len() + 64));
                    assert_eq!(message[..2], bytes[..2]);
                    assert_eq!(&message[HEADER..][..query.question.len()], query.question);
                    assert_eq!(fit(message, query.question.len(), 12)[2] & 2, 2);
                }
            }
        }
        Err(Unreadable::Told(code)) => assert_eq!(complaint(bytes, code).unwrap().len(), HEADER),
        Err(Unreadable::Mute) => {}
    }
    // As an answer: to the question that it repeats, if it does.
    let Some((asked, length)) = bytes.get(HEADER..).and_then(name::read) else { return };
    let Some(question) = bytes.get(HEADER..HEADER + length + 4) else { return };
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let _ = answer::judge(bytes, id, question);
    let _ = answer::addresses(bytes, &asked);
});
