//! Things that events of the kernel name by number. A number is never used twice: an event that waited while its
//! thing went away finds nothing.

/// Names one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(super) fn insert(&mut self, thing: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            (self.slots.len() - 1) as u32
        });
        let (generation, slot) = &mut self.slots[index as usize];
        *slot = Some(thing);
        Key { index, generation: *generation }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let (generation, slot) = self.slots.get(key.index as usize)?;
        slot.as_ref().filter(|_| *generation == key.generation)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, slot) = self.slots.get_mut(key.index as usize)?;
        slot.as_mut().filter(|_| *generation == key.generation)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, slot) = self.slots.get_mut(key.index as usize)?;
        let thing = if *generation == key.generation { slot.take() } else { None }?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        Some(thing)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, slot))| {
            slot.as_ref().map(|thing| (Key { index: index as u32, generation: *generation }, thing))
        })
    }

    /// The keys of those for which `condition` holds.
    pub(super) fn keys(&self, condition: impl Fn(&T) -> bool) -> Vec<Key> {
        self.iter().filter(|(_, thing)| condition(thing)).map(|(key, _)| key).collect()
    }
}

/// What an event is about, as the kernel keeps it: 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Commands wait.
    Wake,
    /// A listening socket for TCP.
    Tcp(Key),
    /// A host's socket for UDP.
    Udp(Key),
    /// The client's side of a connection.
    Client(Key),
    /// The container's side of a connection.
    Inside(Key),
    /// The container's side of a client that sends datagrams.
    Conversation(Key),
}

/// Bits of the kind; the rest of the lower half is the index.
const KIND: u32 = 3;

impl Token {
    pub(super) fn bits(self) -> u64 {
        let (kind, key) = match self {
            Self::Wake => return 0,
            Self::Tcp(key) => (1, key),
            Self::Udp(key) => (2, key),
            Self::Client(key) => (3, key),
            Self::Inside(key) => (4, key),
            Self::Conversation(key) => (5, key),
        };
        u64::from(key.generation) << 32 | u64::from(key.index) << KIND | kind
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        let key = Key { index: bits as u32 >> KIND, generation: (bits >> 32) as u32 };
        match bits & ((1 << KIND) - 1) {
            1 => Self::Tcp(key),
            2 => Self::Udp(key),
            3 => Self::Client(key),
            4 => Self::Inside(key),
            5 => Self::Conversation(key),
            _ => Self::Wake,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_used_again() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.index, first.index);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.keys(|_| true), [second]);
    }

    #[test]
    fn the_kernel_gives_back_what_it_was_given() {
        let key = Key { index: (1 << 29) - 1, generation: u32::MAX - 1 };
        for token in [
            Token::Wake,
            Token::Tcp(key),
            Token::Udp(key),
            Token::Client(key),
            Token::Inside(key),
            Token::Conversation(key),
        ] {
            assert_eq!(Token::from_bits(token.bits()), token);
        }
    }
}
