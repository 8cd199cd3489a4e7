//! Names of the world.

use super::*;

#[test]
fn forged_answers_are_passed_over() {
    let place = Place::new();
    let forged = |question: &[u8], at: usize| {
        let mut message = answer(question, 5);
        message[at] ^= 1;
        message
    };
    let _upstream = Upstream::start(place, 1, move |question, _| {
        // The number, the name, the type, a question instead of an answer; then scraps; then the truth.
        let mut said: Vec<_> = [0, 13, question.len() - 3].map(|at| forged(question, at)).into();
        said.extend([question.to_vec(), question[..5].to_vec(), Vec::new(), answer(question, 1)]);
        said
    });
    let _responder = place.start();
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(1));
}

#[test]
fn an_answer_from_another_address_is_passed_over() {
    let place = Place::new();
    let asked = UdpSocket::bind((place.ip(9, 1), place.upstream_port)).unwrap();
    let forger = UdpSocket::bind((place.ip(9, 2), place.upstream_port)).unwrap();
    let _responder = place.start();
    let socket = place.socket(3);
    socket.send(&asks("example.org", A, 1)).unwrap();
    let mut buffer = [0; 512];
    let (length, peer) = asked.recv_from(&mut buffer).unwrap();
    forger.send_to(&answer(&buffer[..length], 5), peer).unwrap();
    asked.send_to(&answer(&buffer[..length], 1), peer).unwrap();
    assert_eq!(receive(&socket).unwrap().addresses(), outside(1));
}

#[test]
fn the_next_server_is_asked_where_one_fails() {
    let place = Place::new();
    // 1 is not there, 2 fails, 3 refuses without a question, 4 answers.
    let failing = Upstream::start(place, 2, |question, _| vec![failed(question, 2)]);
    let refusing = Upstream::start(place, 3, |question, _| {
        let mut message = failed(question, 5);
        message.truncate(12);
        message[5] = 0;
        vec![message]
    });
    let answering = Upstream::start(place, 4, |question, _| vec![answer(question, 1)]);
    let _responder = place.start_with(Arc::new(Unrestricted), place.network(), &[1, 2, 3, 4]);
    let start = Instant::now();
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(1));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!([&failing, &refusing, &answering].map(|server| server.heard().len()), [1, 1, 1]);
}

#[test]
fn a_silent_server_is_given_up_and_asked_last_from_then_on() {
    let place = Place::new();
    let silent = Upstream::start(place, 1, |_, _| Vec::new());
    let _answering = Upstream::start(place, 2, |question, _| vec![answer(question, 1)]);
    let _responder = place.start_with(Arc::new(Unrestricted), place.network(), &[1, 2]);
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(1));
    let start = Instant::now();
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(1));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(silent.heard().len(), 1);
}

#[test]
fn where_nobody_answers_the_asker_learns_it_before_it_gives_up() {
    let place = Place::new();
    let silent = Upstream::start(place, 1, |_, _| Vec::new());
    let _responder = place.start();
    let start = Instant::now();
    assert_eq!(place.ask(3, "example.org", A).code(), RCODE::ServerFailure);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(silent.heard().len(), 3, "datagrams get lost: it is asked again");
    drop(silent);
    let start = Instant::now();
    assert_eq!(place.ask(3, "example.org", A).code(), RCODE::ServerFailure);
    assert!(start.elapsed() < Duration::from_secs(1), "nobody listens there: {:?}", start.elapsed());
}

#[test]
fn a_failure_of_the_only_server_is_handed_on() {
    let place = Place::new();
    let _upstream = Upstream::start(place, 1, |question, _| vec![failed(question, 5)]);
    let _responder = place.start();
    assert_eq!(place.ask(3, "example.org", A).code(), RCODE::Refused);
}

#[test]
fn many_addresses_of_a_name_outside_come_over_tcp() {
    let place = Place::new();
    let _upstream = Upstream::start(place, 1, |question, by_tcp| {
        let mut whole = answer(question, 200);
        if !by_tcp {
            whole.truncate(question.len());
            whole[2] |= 2;
            whole[6..8].fill(0);
        }
        vec![whole]
    });
    let _responder = place.start();
    assert!(place.ask(3, "example.org", A).is_cut());
    let heard = place.ask_by_tcp(3, "example.org", A);
    assert_eq!((heard.is_cut(), heard.packet().id(), heard.addresses()), (false, 0x4321, outside(200)));
}

#[test]
fn containers_of_internal_networks_alone_hear_that_there_is_no_such_name() {
    let place = Place::new();
    let upstream = Upstream::start(place, 1, |question, _| vec![answer(question, 1)]);
    let internal = Network { internal: true, ..place.network() };
    let responder = place.start_with(Arc::new(Unrestricted), internal, &[1]);
    assert_eq!(place.ask(3, "example.org", A).code(), RCODE::NameError);
    assert_eq!(place.ask(3, "web", A).addresses(), [place.ip(0, 2)]);
    assert_eq!(upstream.heard(), []);
    responder.update(|table| {
        table.set_network(Network { id: "b".to_owned(), subnets: Vec::new(), ..place.network() });
        table.join("b", Member { addresses: vec![place.ip(1, 3)], ..place.member(3, "db") });
    });
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(1), "the other network leads outside");
}

#[test]
fn servers_of_the_container_come_before_those_of_the_network_and_of_the_host() {
    let place = Place::new();
    let servers: Vec<Upstream> =
        (1..=3).map(|last| Upstream::start(place, last, move |q, _| vec![answer(q, last.into())])).collect();
    let responder = place.start();
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(1));
    responder.update(|table| table.set_network(Network { servers: vec![place.ip(9, 2)], ..place.network() }));
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(2));
    let own = Member { servers: vec![place.ip(9, 3)], ..place.member(3, "db") };
    responder.update(|table| table.join("a", own));
    assert_eq!(place.ask(3, "example.org", A).addresses(), outside(3));
    assert_eq!(place.ask(2, "example.org", A).addresses(), outside(2));
    responder.set_servers(vec![place.ip(9, 3)]);
    responder.update(|table| table.set_network(place.network()));
    assert_eq!(place.ask(2, "example.org", A).addresses(), outside(3));
    drop(servers);
}

/// Restricts `id-3` to names below `allowed`, and takes its time to note what it is told.
#[derive(Default)]
struct Slow {
    told: Mutex<Vec<(Asker, Found)>>,
}

impl Policy for Slow {
    fn restricts(&self, container: &str) -> bool {
        container == "id-3"
    }

    fn allows(&self, _asker: &Asker, name: &str) -> bool {
        name.ends_with("allowed")
    }

    fn answered(&self, asker: &Asker, found: &Found) {
        thread::sleep(Duration::from_millis(300));
        self.told.lock().unwrap().push((asker.clone(), found.clone()));
    }
}

#[test]
fn the_policy_knows_of_an_answer_before_the_container_does() {
    let place = Place::new();
    let upstream = Upstream::start(place, 1, |question, _| vec![answer(question, 2)]);
    let policy = Arc::new(Slow::default());
    let _responder = place.start_with(policy.clone(), place.network(), &[1]);
    let socket = place.socket(3);
    socket.send(&asks("Is.Allowed", A, 1)).unwrap();
    let start = Instant::now();
    // Meanwhile the others have theirs.
    assert_eq!(place.ask(2, "is.allowed", A).addresses(), outside(2));
    assert_eq!(place.ask(3, "web", A).addresses(), [place.ip(0, 2)]);
    assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!(receive(&socket).unwrap().addresses(), outside(2));
    let asker = Asker { container: "id-3".into(), address: place.ip(0, 3) };
    let addresses = outside(2).into_iter().map(|address| (address, 60)).collect();
    assert_eq!(*policy.told.lock().unwrap(), [(asker, Found { name: "is.allowed".to_owned(), addresses })]);

    assert_eq!(place.ask(3, "forbidden", A).code(), RCODE::NameError);
    assert_eq!(place.ask(3, "forbidden", 16).code(), RCODE::NameError, "of no type at all");
    assert_eq!(place.ask(2, "forbidden", A).addresses(), outside(2));
    assert_eq!(upstream.heard().len(), 3);
}
