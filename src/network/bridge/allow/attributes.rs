//! Messages of the kernel's packet filter (linux/netfilter/nfnetlink.h), read and written. Lengths are checked
//! everywhere: in them are packets of containers.

use netlink_packet_core::{NetlinkBuffer, NlasIterator};

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const GENERAL: usize = 4;
/// NLA_F_NESTED of linux/netlink.h.
const NESTED: u16 = 0x8000;

/// One message: its subsystem and type, its flags, and its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    pub subsystem: u8,
    pub kind: u8,
    pub flags: u16,
    /// AF_INET or AF_INET6, where the message is about one.
    pub family: u8,
    pub attributes: &'a [u8],
}

/// The messages of a datagram, as far as it is well-formed.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(rest).ok()?.length() as usize;
        let message = NetlinkBuffer::new(rest.get(..length)?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let [kind, subsystem] = message.message_type().to_le_bytes();
        Some((subsystem, kind, message.flags(), message.payload()))
    })
    .filter_map(|(subsystem, kind, flags, payload)| {
        let attributes = payload.get(GENERAL..)?;
        Some(Message { subsystem, kind, flags, family: payload[0], attributes })
    })
}

/// The value of the first attribute of a type.
pub fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == kind)
        .map(|attribute| attribute.into_inner())
        .and_then(|whole| {
            let length = usize::from(u16::from_ne_bytes(*whole.first_chunk()?));
            whole.get(4..length)
        })
}

/// The value at the end of a path of nested attributes.
pub fn at<'a>(attributes: &'a [u8], path: &[u16]) -> Option<&'a [u8]> {
    path.iter().try_fold(attributes, |attributes, kind| attribute(attributes, *kind))
}

/// A request to the kernel, with the flags of netlink(7).
pub fn request(subsystem: u8, kind: u8, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + GENERAL + attributes.len());
    message.extend(((HEADER + GENERAL + attributes.len()) as u32).to_ne_bytes());
    message.extend(u16::from_le_bytes([kind, subsystem]).to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(attributes);
    message
}

/// Appends an attribute.
pub fn put(attributes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    attributes.extend(((4 + value.len()) as u16).to_ne_bytes());
    attributes.extend(kind.to_ne_bytes());
    attributes.extend(value);
    attributes.resize(attributes.len().next_multiple_of(4), 0);
}

/// Appends one that has others in it.
pub fn put_nested(attributes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    put(attributes, kind | NESTED, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        put(&mut inner, 7, &[1, 2, 3]);
        put(&mut outer, 1, &[]);
        put_nested(&mut outer, 2, &inner);
        let two = [request(4, 1, 5, 2, 9, &outer), request(1, 2, 0, 0, 0, &[])].concat();
        let found: Vec<_> = messages(&two).collect();
        assert_eq!((found[0].subsystem, found[0].kind, found[0].flags, found[0].family), (4, 1, 5, 2));
        assert_eq!(at(found[0].attributes, &[2, 7]), Some(&[1, 2, 3][..]));
        assert_eq!(at(found[0].attributes, &[1]), Some(&[][..]));
        assert_eq!(at(found[0].attributes, &[2, 8]), None);
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_cut_off_is_not_read_beyond() {
        let mut attributes = Vec::new();
        put(&mut attributes, 1, &[9; 6]);
        let whole = request(4, 0, 0, 2, 0, &attributes);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
        let mut lies = whole;
        lies[20] = 200; // the attribute's length
        assert_eq!(messages(&lies).next().and_then(|message| attribute(message.attributes, 1)), None);
    }
}
