//! What a question deserves: an answer from the table, one from outside, or a refusal. Nothing is done here.

use std::net::IpAddr;
use std::sync::Arc;

use super::name;
use super::query::{Code, Query, class, kind};
use super::reply::{Reason, Record, Reply};
use super::table::{Table, View};

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The addresses are in no particular order.
    Reply(Reply),
    /// Somebody outside may know.
    Forward {
        /// The asking container's ID.
        container: Arc<str>,
        /// Who is to be asked; empty: the responder's own servers.
        servers: Vec<IpAddr>,
    },
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Types that are no wish for data: OPT, TKEY, TSIG, and transfers of zones.
const NOT_FOR_US: [u16; 6] = [0, kind::OPT, 249, 250, 251, 252];

/// Decides on a question from `asker`.
pub fn decide(table: &Table, asker: IpAddr, query: &Query<'_>) -> Verdict {
    let Some(view) = table.view(asker) else { return Reply::error(Code::Refused).into() };
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Reply::error(Code::BadVers).into();
    }
    if ![class::IN, class::ANY].contains(&query.class) || NOT_FOR_US.contains(&query.kind) {
        return Reply::error(Code::Refused).into();
    }
    if let Some(addresses) = view.addresses(&query.name) {
        let wanted = |address: &IpAddr| match query.kind {
            kind::A => address.is_ipv4(),
            kind::AAAA => address.is_ipv6(),
            kind => kind == kind::ANY,
        };
        let records = addresses.into_iter().filter(wanted).map(Record::Address).collect();
        return Reply { code: Code::NoError, records, reason: None }.into();
    }
    if let Some(reply) = name::reversed(&query.name).and_then(|address| reverse(&view, address, query.kind)) {
        return reply.into();
    }
    if view.is_ours_alone(&query.name) {
        return Reply::error(Code::NxDomain).into();
    }
    if !view.reaches_outside() {
        return Reply::error(Code::NxDomain).because(Reason::INTERNAL).into();
    }
    Verdict::Forward { container: view.container.clone(), servers: view.servers() }
}

/// None: the address is not one of the container's networks.
fn reverse(view: &View<'_>, address: IpAddr, kind: u16) -> Option<Reply> {
    match view.name(address) {
        Some(name) => {
            let asked = [kind::PTR, kind::ANY].contains(&kind);
            let records = asked.then(|| Record::Name(name.to_owned())).into_iter().collect();
            Some(Reply { code: Code::NoError, records, reason: None })
        }
        None => view.covers(address).then(|| Reply::error(Code::NxDomain)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::bridge::names::table::{Member, Network};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Network `a` with `web` (both families) and `db`; network `in`, internal, with `db` and `lone`.
    fn table() -> Table {
        let mut table = Table::default();
        for (id, subnet, internal) in [("a", "10.89.0.0/24", false), ("in", "10.89.1.0/24", true)] {
            table.set_network(Network {
                id: id.to_owned(),
                name: id.to_owned(),
                subnets: vec![subnet.parse().unwrap()],
                internal,
                has_names: true,
                servers: Vec::new(),
            });
        }
        for (network, name, addresses) in [
            ("a", "web", &["10.89.0.2", "fd00::2"][..]),
            ("a", "db", &["10.89.0.3"]),
            ("in", "db", &["10.89.1.3"]),
            ("in", "lone", &["10.89.1.4"]),
        ] {
            let member = Member {
                container: format!("id-{name}"),
                names: vec![name.to_owned()],
                addresses: addresses.iter().map(|text| ip(text)).collect(),
                servers: Vec::new(),
            };
            table.join(network, member);
        }
        table
    }

    fn asked(asker: &str, asked: &str, kind: u16) -> Verdict {
        asked_in_class(asker, asked, kind, class::IN)
    }

    fn asked_in_class(asker: &str, asked: &str, kind: u16, class: u16) -> Verdict {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        name::write(asked, &mut message);
        message.extend(kind.to_be_bytes());
        message.extend(class.to_be_bytes());
        decide(&table(), ip(asker), &Query::read(&message).unwrap())
    }

    fn addresses(list: &[&str]) -> Verdict {
        let records = list.iter().map(|text| Record::Address(ip(text))).collect();
        Reply { code: Code::NoError, records, reason: None }.into()
    }

    const NO_DATA: &[&str] = &[];

    #[test]
    fn a_known_name_has_its_addresses_of_the_wanted_family() {
        assert_eq!(asked("10.89.0.3", "WEB", kind::A), addresses(&["10.89.0.2"]));
        assert_eq!(asked("10.89.0.3", "web", kind::AAAA), addresses(&["fd00::2"]));
        assert_eq!(asked("10.89.0.3", "web", kind::ANY), addresses(&["10.89.0.2", "fd00::2"]));
        assert_eq!(asked("10.89.0.2", "db", kind::AAAA), addresses(NO_DATA));
        assert_eq!(asked("10.89.0.2", "db", 65), addresses(NO_DATA), "HTTPS");
        assert_eq!(
            asked("10.89.1.4", "db", kind::A),
            addresses(&["10.89.1.3"]),
            "of the common network alone"
        );
    }

    #[test]
    fn addresses_have_names_in_their_own_networks() {
        let named = |name: &str| {
            let records = vec![Record::Name(name.to_owned())];
            Verdict::Reply(Reply { code: Code::NoError, records, reason: None })
        };
        assert_eq!(asked("10.89.0.2", "3.0.89.10.in-addr.arpa", kind::PTR), named("db"));
        assert_eq!(asked("10.89.0.2", "3.0.89.10.in-addr.arpa", kind::A), addresses(NO_DATA));
        assert_eq!(
            asked("10.89.0.2", "9.0.89.10.in-addr.arpa", kind::PTR),
            Reply::error(Code::NxDomain).into()
        );
        assert!(matches!(asked("10.89.0.2", "4.1.89.10.in-addr.arpa", kind::PTR), Verdict::Forward { .. }));
    }

    #[test]
    fn other_names_are_asked_outside_unless_all_networks_are_internal() {
        let forward = |container: &str| Verdict::Forward { container: container.into(), servers: Vec::new() };
        assert_eq!(asked("10.89.0.2", "example.org", kind::A), forward("id-web"));
        assert_eq!(asked("10.89.1.3", "example.org", 99), forward("id-db"));
        let refused = Reply::error(Code::NxDomain).because(Reason::INTERNAL);
        assert_eq!(asked("10.89.1.4", "example.org", kind::A), refused.into());
        assert_eq!(asked("10.89.0.2", "nobody.dns.podman", kind::A), Reply::error(Code::NxDomain).into());
    }

    #[test]
    fn strangers_and_strange_wishes_are_refused() {
        let refused = || Verdict::Reply(Reply::error(Code::Refused));
        assert_eq!(asked("10.89.0.99", "web", kind::A), refused());
        assert_eq!(asked("10.89.0.99", "example.org", kind::A), refused());
        assert_eq!(asked("10.89.0.2", "db", 252), refused(), "AXFR");
        assert_eq!(asked_in_class("10.89.0.2", "version.bind", 16, 3), refused());
        assert_eq!(asked_in_class("10.89.0.3", "web", kind::A, class::ANY), addresses(&["10.89.0.2"]));
    }
}
