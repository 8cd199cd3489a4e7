//! Connections, as the kernel's connection tracking tells of them (linux/netfilter/nfnetlink_conntrack.h).

use std::net::IpAddr;

use super::attributes::{Message, at, attribute, put_nested, request};
use super::refused::Target;

/// NFNL_SUBSYS_CTNETLINK, and its messages IPCTNL_MSG_CT_NEW, _GET and _DELETE.
const SUBSYSTEM: u8 = 1;
const NEW: u8 = 0;
const GET: u8 = 1;
const DELETE: u8 = 2;
/// Groups of events, as bits: NFNLGRP_CONNTRACK_NEW, _UPDATE and _DESTROY.
pub const GROUPS: u32 = 1 | 1 << 1 | 1 << 2;
/// NLM_F_REQUEST, and NLM_F_CREATE, which tells a new connection from a change of one (netlink(7)).
const REQUEST: u16 = 1;
const CREATE: u16 = 0x400;
/// CTA_TUPLE_ORIG, CTA_PROTOINFO, CTA_COUNTERS_ORIG, CTA_COUNTERS_REPLY.
const ORIGINAL: u16 = 1;
const INFORMATION: u16 = 4;
const SENT: u16 = 9;
const RECEIVED: u16 = 10;
/// In a tuple: CTA_TUPLE_IP with CTA_IP_V4_SRC and so on, CTA_TUPLE_PROTO with CTA_PROTO_NUM and CTA_PROTO_DST_PORT.
const IP: u16 = 1;
const PROTOCOL: u16 = 2;
const NUMBER: u16 = 1;
const PORT: u16 = 3;
/// CTA_PROTOINFO_TCP and CTA_PROTOINFO_TCP_STATE.
const TCP: u16 = 1;
const STATE: u16 = 1;
/// TCP_CONNTRACK_TIME_WAIT and TCP_CONNTRACK_CLOSE of linux/netfilter/nf_conntrack_tcp.h: nothing more is sent.
const OVER: [u8; 2] = [7, 8];
/// CTA_COUNTERS_BYTES.
const BYTES: u16 = 2;

/// Something happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub what: What,
    /// Who opened it.
    pub source: IpAddr,
    pub target: Target,
    /// What tells it from all others, in the kernel's own form: that of CTA_TUPLE_ORIG.
    pub tuple: Vec<u8>,
    pub family: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Opened,
    /// Both sides have closed it, or one has reset it.
    Over,
    /// The kernel forgets it, or was asked for it; with bytes as the opener sees them, headers included, where the
    /// kernel has counted.
    Counted {
        sent: Option<u64>,
        received: Option<u64>,
        gone: bool,
    },
}

/// Reads a message; none: it is about something else, or of no interest.
pub fn read(message: &Message<'_>) -> Option<Event> {
    if message.subsystem != SUBSYSTEM {
        return None;
    }
    let tuple = attribute(message.attributes, ORIGINAL)?;
    let counted =
        |kind| at(message.attributes, &[kind, BYTES]).and_then(|bytes| bytes.first_chunk().copied());
    let (sent, received) = (counted(SENT).map(u64::from_be_bytes), counted(RECEIVED).map(u64::from_be_bytes));
    let what = match message.kind {
        DELETE => What::Counted { sent, received, gone: true },
        NEW if message.flags & CREATE != 0 => What::Opened,
        NEW if sent.is_some() => What::Counted { sent, received, gone: false },
        NEW => {
            let state = at(message.attributes, &[INFORMATION, TCP, STATE])?.first()?;
            OVER.contains(state).then_some(What::Over)?
        }
        _ => return None,
    };
    let protocol = *at(tuple, &[PROTOCOL, NUMBER])?.first()?;
    let port = at(tuple, &[PROTOCOL, PORT]).and_then(|port| port.first_chunk().copied());
    let port = port.map(u16::from_be_bytes);
    let source = address(tuple, 1, 3)?;
    let target = Target { protocol, address: address(tuple, 2, 4)?, port };
    Some(Event { what, source, target, tuple: tuple.to_vec(), family: message.family })
}

/// The address of a tuple: under one type for IPv4, under another for IPv6.
fn address(tuple: &[u8], four: u16, six: u16) -> Option<IpAddr> {
    let four = at(tuple, &[IP, four]).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
    four.or_else(|| {
        at(tuple, &[IP, six]).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from)
    })
}

/// Asks for one connection and its counters. The answer is an event, or an error where it is gone.
pub fn ask(family: u8, tuple: &[u8]) -> Vec<u8> {
    let mut attributes = Vec::new();
    put_nested(&mut attributes, ORIGINAL, tuple);
    request(SUBSYSTEM, GET, REQUEST, family, 0, &attributes)
}

#[cfg(test)]
mod tests {
    use super::super::attributes::{messages, put};
    use super::*;

    fn event(kind: u8, flags: u16, rest: &[u8]) -> Vec<u8> {
        let (mut ip, mut protocol, mut tuple, mut all) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        put(&mut ip, 1, &[10, 0, 0, 1]);
        put(&mut ip, 2, &[192, 0, 2, 7]);
        put(&mut protocol, NUMBER, &[6]);
        put(&mut protocol, PORT, &443_u16.to_be_bytes());
        put_nested(&mut tuple, IP, &ip);
        put_nested(&mut tuple, PROTOCOL, &protocol);
        put_nested(&mut all, ORIGINAL, &tuple);
        all.extend(rest);
        request(SUBSYSTEM, kind, flags, 2, 0, &all)
    }

    fn what(bytes: &[u8]) -> Option<What> {
        messages(bytes).next().and_then(|message| read(&message)).map(|event| event.what)
    }

    #[test]
    fn events_are_read() {
        let opened = event(NEW, CREATE, &[]);
        let found = messages(&opened).next().and_then(|message| read(&message)).unwrap();
        assert_eq!(found.what, What::Opened);
        assert_eq!(found.source.to_string(), "10.0.0.1");
        assert_eq!((found.target.address.to_string(), found.target.port), ("192.0.2.7".into(), Some(443)));
        let mut counters = Vec::new();
        for (kind, bytes) in [(SENT, 12_u64), (RECEIVED, 34)] {
            let mut inner = Vec::new();
            put(&mut inner, BYTES, &bytes.to_be_bytes());
            put_nested(&mut counters, kind, &inner);
        }
        let counted = |gone| Some(What::Counted { sent: Some(12), received: Some(34), gone });
        assert_eq!(what(&event(DELETE, 0, &counters)), counted(true));
        assert_eq!(what(&event(NEW, 0, &counters)), counted(false));
        let state = |state: u8| {
            let (mut tcp, mut information, mut all) = (Vec::new(), Vec::new(), Vec::new());
            put(&mut tcp, STATE, &[state]);
            put_nested(&mut information, TCP, &tcp);
            put_nested(&mut all, INFORMATION, &information);
            what(&event(NEW, 0, &all))
        };
        assert_eq!((state(7), state(3)), (Some(What::Over), None));
    }

    #[test]
    fn what_is_cut_off_is_no_event() {
        let whole = event(DELETE, 0, &[]);
        for length in 20..whole.len() {
            let mut cut = whole[..length].to_vec();
            cut[..4].copy_from_slice(&(length as u32).to_ne_bytes());
            assert_eq!(what(&cut), None, "{length}");
        }
    }
}
