//! Connections, floods, and what comes and goes meanwhile.

use super::*;

#[test]
fn who_floods_does_not_starve_the_others() {
    let place = Place::new();
    let _upstream = Upstream::start(place, 1, |question, _| match question[13] {
        b'x' => Vec::new(),
        _ => vec![answer(question, 1)],
    });
    let _responder = place.start();
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let (stop, socket) = (stop.clone(), place.socket(3));
        thread::spawn(move || {
            let mut sent: u32 = 0;
            while !stop.load(Ordering::Relaxed) {
                let _ = socket.send(&asks(&format!("x{sent}"), A, sent as u16));
                sent += 1;
            }
            sent
        })
    };
    thread::sleep(Duration::from_millis(300));
    let socket = place.socket(2);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answered = 0;
    for n in 0..20 {
        let name = if n % 2 == 0 { "db" } else { "example.org" };
        // Datagrams get lost where the queue is full: as a C library does, it asks again.
        answered += usize::from((0..8).any(|_| {
            socket.send(&asks(name, A, n)).unwrap();
            receive(&socket).is_some_and(|heard| !heard.addresses().is_empty())
        }));
    }
    stop.store(true, Ordering::Relaxed);
    let sent = flood.join().unwrap();
    assert_eq!(answered, 20, "beside {sent} questions");
}

#[test]
fn several_questions_go_over_one_connection_also_when_no_more_will_come() {
    let place = Place::new();
    let _upstream = Upstream::start(place, 1, |question, _| vec![answer(question, 1)]);
    let _responder = place.start();
    let mut stream = place.connect(3);
    let mut ids: HashSet<u16> = (0..100).collect();
    for id in &ids {
        let message = asks(if id % 2 == 0 { "web" } else { "example.org" }, A, *id);
        stream.write_all(&framed(&message)).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    while let Some(heard) = hear(&mut stream) {
        let id = heard.packet().id();
        let expected = if id % 2 == 0 { vec![place.ip(0, 2)] } else { outside(1) };
        assert_eq!(heard.addresses(), expected);
        assert!(ids.remove(&id), "answered twice: {id}");
    }
    assert!(ids.is_empty(), "not answered: {ids:?}");
}

#[test]
fn the_longest_message_is_taken_piece_by_piece() {
    let place = Place::new();
    let _responder = place.start();
    let mut stream = place.connect(3);
    let mut message = asks("web", A, 0x0102);
    message.resize(65_535, 0);
    for piece in framed(&message).chunks(1000) {
        stream.write_all(piece).unwrap();
    }
    assert_eq!(hear(&mut stream).unwrap().0[..4], [1, 2, 0x81, 0x81], "malformed");
    stream.write_all(&framed(&asks("web", A, 5))).unwrap();
    assert_eq!(hear(&mut stream).unwrap().addresses(), [place.ip(0, 2)]);
}

#[test]
fn idle_connections_are_limited() {
    let place = Place::new();
    let _responder = place.start();
    let mut held: Vec<TcpStream> = (0..40).map(|_| place.connect(3)).collect();
    for stream in &mut held {
        let _ = stream.write_all(&[0]);
    }
    let is_closed = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        match stream.read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    assert!(held[32..].iter_mut().all(is_closed));
    assert!(!is_closed(&mut held[0]) && !is_closed(&mut held[31]));
    assert_eq!(place.ask_by_tcp(2, "web", A).addresses(), [place.ip(0, 2)], "the others are served");
    drop(held);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(place.ask_by_tcp(3, "web", A).addresses(), [place.ip(0, 2)]);
}

#[test]
fn who_has_left_hears_nothing_more() {
    let place = Place::new();
    let upstream = Upstream::start(place, 1, |question, _| {
        thread::sleep(Duration::from_millis(200));
        vec![answer(question, 1)]
    });
    let responder = place.start();
    let socket = place.socket(3);
    socket.send(&asks("example.org", A, 1)).unwrap();
    while upstream.heard().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    responder.update(|table| {
        table.leave("a", "id-3");
        table.join("a", Member { container: "another".to_owned(), ..place.member(3, "new") });
    });
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(receive(&socket).is_none());
    assert_eq!(place.ask(3, "new", A).addresses(), [place.ip(0, 3)]);
    assert_eq!(place.ask(2, "db", A).code(), RCODE::NoError, "asked outside");
}

#[test]
fn a_network_that_goes_frees_its_address() {
    let place = Place::new();
    let responder = place.start();
    responder.silence("other");
    assert_eq!(place.ask(3, "web", A).addresses(), [place.ip(0, 2)]);
    for _ in 0..20 {
        assert_eq!(place.ask_by_tcp(3, "web", A).addresses(), [place.ip(0, 2)]);
        responder.silence("a");
        assert!(place.ask_message(3, &asks("web", A, 1)).is_none());
        responder.listen("a", &[place.ip(0, 1)]).unwrap();
    }
    assert!(responder.listen("b", &[place.ip(0, 1)]).is_err(), "one at a time");
}
