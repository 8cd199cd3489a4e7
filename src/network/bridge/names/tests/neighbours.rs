//! Names of containers.

use super::*;

#[test]
fn names_are_answered_by_udp_and_tcp() {
    let place = Place::new();
    let _responder = place.start();
    for heard in [place.ask(3, "WEB", A), place.ask_by_tcp(3, "web.", A), place.ask(2, "web.a", A)] {
        assert_eq!((heard.code(), heard.addresses()), (RCODE::NoError, vec![place.ip(0, 2)]));
    }
    let none = place.ask(3, "web", AAAA);
    assert_eq!((none.code(), none.addresses()), (RCODE::NoError, vec![]));
    let reverse = place.ask(2, &format!("3.0.{}.127.in-addr.arpa", place.net), PTR);
    assert!(matches!(&reverse.packet().answers[0].rdata, RData::PTR(ptr) if ptr.0.to_string() == "db"));
}

#[test]
fn strangers_learn_nothing() {
    let place = Place::new();
    let upstream = Upstream::start(place, 1, |question, _| vec![answer(question, 1)]);
    let _responder = place.start();
    for name in ["web", "example.org"] {
        let heard = place.ask(9, name, A);
        assert_eq!((heard.code(), heard.addresses()), (RCODE::Refused, vec![]));
    }
    let malformed = place.ask_message(9, &asks("web", A, 1)[..15]).unwrap();
    assert_eq!(malformed.code(), RCODE::Refused);
    assert!(hear(&mut place.connect(9)).is_none(), "the connection is closed");
    assert_eq!(upstream.heard(), []);
}

#[test]
fn what_is_no_question_is_told_or_passed_over() {
    let place = Place::new();
    let _responder = place.start();
    let heard = place
        .ask_message(3, b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01")
        .unwrap();
    assert_eq!(heard.0, b"\x12\x34\x81\x81\x00\x00\x00\x00\x00\x00\x00\x00");
    let socket = place.socket(3);
    let mut reply = asks("web", A, 1);
    reply[2] |= 0x80;
    for message in [&reply[..], b"", b"\x12"] {
        socket.send(message).unwrap();
    }
    socket.send(&asks("web", A, 7)).unwrap();
    assert_eq!(receive(&socket).unwrap().packet().id(), 7, "the others get no answer");
}

#[test]
fn other_names_are_asked_outside_under_a_number_and_port_of_their_own() {
    let place = Place::new();
    let upstream = Upstream::start(place, 1, |question, _| vec![answer(question, 2)]);
    let _responder = place.start();
    for n in 0..8 {
        let heard = place.ask_message(3, &asks("Example.org", 1, n)).unwrap();
        assert_eq!((heard.packet().id(), heard.addresses()), (n, outside(2)));
        assert_eq!(heard.packet().questions[0].qname.to_string(), "Example.org");
    }
    // A type that nobody knows.
    assert_eq!(place.ask(3, "example.org", 65_280).0[..4], [0x12, 0x34, 0x81, 0x80]);
    let heard = upstream.heard();
    let ports: HashSet<u16> = heard.iter().map(|(port, _)| *port).collect();
    let ids: HashSet<&[u8]> = heard.iter().map(|(_, message)| &message[..2]).collect();
    assert!(heard.len() == 9 && ports.len() > 6 && ids.len() > 6, "{heard:?}");
}

#[test]
fn many_containers_of_one_name_come_over_tcp_and_in_any_order() {
    let place = Place::new();
    let responder = place.start();
    responder.update(|table| (100..200).for_each(|last| table.join("a", place.member(last, "many"))));
    let few = place.ask(3, "many", A);
    assert!(few.is_cut() && few.0.len() <= 512 && few.addresses().len() > 25, "{few:?}");
    let all = place.ask_by_tcp(3, "many", A);
    let expected: Vec<IpAddr> = (100..200).map(|last| place.ip(0, last)).collect();
    assert_eq!((all.is_cut(), all.addresses()), (false, expected));
    let order = |heard: &Heard| heard.0[40..].to_vec();
    assert_ne!(order(&all), order(&place.ask_by_tcp(3, "many", A)));
}
