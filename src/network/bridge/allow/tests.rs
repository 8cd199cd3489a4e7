//! Allow-lists in the kernel: this test program once more, in the shared namespace of a laboratory, obeys commands.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::network::bridge::rules::Nft;
use crate::network::bridge::rules::tests::{Lab, endpoint, enter, network, uplinks};

/// Set for the program in the namespace: the list, with blanks between the items.
const INSIDE: &str = "SBX_TEST_ALLOWED";
const CONTAINER: &str = "c1";

/// One line to standard output that the test framework does not keep for itself.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n> {text}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn serve(list: &str) {
    let rules = Arc::new(Mutex::new(Rules::new(Nft::find().unwrap(), uplinks())));
    {
        let mut rules = rules.lock().unwrap();
        rules.add_network(network(0));
        rules.add_network(network(1));
        (1..=3).for_each(|number| rules.add_endpoint(endpoint(number)));
    }
    let allowances = Allowances::new(rules.clone());
    let items: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
    let member = || Member {
        container: CONTAINER.to_owned(),
        bridge: "b0".to_owned(),
        addresses: endpoint(1).addresses,
        gateways: network(0).gateways,
        list: List::parse(&items).unwrap(),
        report: Box::new(|line| say(&line)),
    };
    allowances.add(member()).unwrap();
    say("ready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["allows", name] => say(&format!("allows {}", allowances.may_ask(CONTAINER, name))),
            ["answered", name, address, seconds] => {
                let found = [(address.parse().unwrap(), seconds.parse().unwrap())];
                allowances.learned(CONTAINER, name, &found);
                say("ready");
            }
            ["remove"] => {
                allowances.remove(CONTAINER);
                rules.lock().unwrap().commit().unwrap();
                say("ready");
            }
            ["add"] => {
                allowances.add(member()).unwrap();
                say("ready");
            }
            _ => panic!("{line}"),
        }
    }
}

struct Served {
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
    records: Vec<Record>,
}

impl Served {
    fn new(lab: &Lab, test: &str, list: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let test = format!("network::bridge::allow::tests::{test}");
        let mut command: Command = enter(lab.holder.id(), &[program.to_str().unwrap(), "--exact", &test]);
        let mut child =
            command.env(INSIDE, list).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("> ")
                    && sender.send(line.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let commands = child.stdin.take().unwrap();
        let mut served = Self { child, commands, lines, records: Vec::new() };
        assert_eq!(served.answer(), "ready");
        served
    }

    /// The next line that is no record.
    fn answer(&mut self) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("an answer");
            match serde_json::from_str(&line) {
                Ok(record) => self.records.push(record),
                Err(_) => return line,
            }
        }
    }

    fn command(&mut self, words: &str) -> String {
        writeln!(self.commands, "{words}").unwrap();
        self.answer()
    }

    /// The next record, without its time.
    fn record(&mut self) -> String {
        while self.records.is_empty() {
            let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("a record");
            self.records.push(serde_json::from_str(&line).expect(&line));
        }
        let shown = self.records.remove(0).to_string();
        shown.split_once(' ').unwrap().1.to_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of a record's end, which depend on the kernel's segments, made 1 where they are there.
fn rounded(record: &str) -> String {
    let words = record.split(' ').map(|word| match word.split_once('=') {
        Some((name @ ("sent" | "received"), bytes)) if bytes.parse::<u64>().unwrap() > 40 => {
            format!("{name}=1")
        }
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_a_container_tries_is_enforced_and_told() {
    if let Ok(list) = std::env::var(INSIDE) {
        return serve(&list);
    }
    let lab = Lab::new();
    let test = "what_a_container_tries_is_enforced_and_told";
    let mut served = Served::new(&lab, test, "example.org:80/tcp *.example.org 203.0.113.1:81");
    let connect = |address: &str, port: &str| {
        let mut outcome = String::new();
        lab.heard(Some("world"), &["tcp", "::", port], |lab| outcome = lab.connect("one", address, port));
        outcome
    };
    assert_eq!(connect("203.0.113.1", "80"), "refused");
    assert_eq!(served.record(), "refused tcp 203.0.113.1:80");
    assert_eq!(connect("2001:db8::1", "80"), "refused");
    assert_eq!(served.record(), "refused tcp [2001:db8::1]:80");

    assert_eq!(served.command("allows other.net"), "allows false");
    assert_eq!(served.record(), "refused dns other.net");
    assert_eq!(served.command("allows example.org"), "allows true");
    assert_eq!(served.command("allows www.example.org"), "allows true");

    assert_eq!(served.command("answered other.net 203.0.113.1 5"), "ready");
    assert_eq!(connect("203.0.113.1", "80"), "refused", "what is on no list lets nothing through");
    assert_eq!(served.command("answered example.org 203.0.113.1 5"), "ready");
    let set = lab.sh("nft list set inet sbx to_b0_0_4");
    assert!(set.contains("203.0.113.1 timeout 1m30s"), "a short time is made longer: {set}");
    assert_eq!(connect("203.0.113.1", "80"), "connected");
    assert_eq!(served.record(), "allowed tcp example.org 203.0.113.1:80");
    assert_eq!(rounded(&served.record()), "closed tcp example.org 203.0.113.1:80 sent=1 received=1");
    assert_eq!(connect("203.0.113.1", "81"), "connected");
    assert_eq!(served.record(), "allowed tcp example.org 203.0.113.1:81", "the name is the last answer's");
    assert_eq!(rounded(&served.record()), "closed tcp example.org 203.0.113.1:81 sent=1 received=1");

    let questions = lab.heard(None, &["udp", "10.88.0.1", "53"], |lab| {
        lab.python("one", &["datagram", "10.88.0.1", "53", "question"]);
        lab.python("one", &["datagram", "203.0.113.1", "53", "question"]);
        lab.python("one", &["datagram", "10.88.0.1", "5353", "question"]);
    });
    assert_eq!(questions, ["10.88.0.2"], "the name server is asked, unrecorded");
    assert_eq!(served.record(), "refused udp example.org 203.0.113.1:53");
    assert_eq!(served.record(), "refused udp 10.88.0.1:5353");

    let _open = lab.heard(Some("world"), &["udp", "203.0.113.1", "81"], |lab| {
        lab.python("one", &["datagram", "203.0.113.1", "81", "x"]);
    });
    assert_eq!(served.record(), "allowed udp example.org 203.0.113.1:81");
    assert_eq!(served.command("remove"), "ready");
    let last: Vec<String> = std::mem::take(&mut served.records).iter().map(ToString::to_string).collect();
    let has = |end: &str| last.iter().any(|line| line.contains(end));
    assert!(has("closed udp example.org 203.0.113.1:81 sent=29 received=0"), "{last:?}");
    assert!(has("refused tcp 203.0.113.1:80"), "what was counted is told at the end: {last:?}");
    assert_eq!(connect("2001:db8::1", "80"), "connected", "the list is gone");
    assert_eq!(served.command("add"), "ready");
    assert_eq!(connect("2001:db8::1", "80"), "refused");
    assert_eq!(served.record(), "refused tcp [2001:db8::1]:80", "the next container's are told again");
}
