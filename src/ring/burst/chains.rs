//! A burst of chains as a device takes them: flat lists that are used again and again.

use crate::memory::Reach;
use crate::ring::split::device::CHAIN_BYTES_MAX;
use crate::ring::{QUEUE_SIZE_MAX, RingError};
use crate::sys::shared::Place;

/// What names a chain when it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticket {
    /// The head of a split ring's chain, the buffer id of a packed ring's.
    pub id: u16,
    /// Descriptors it takes in the ring.
    pub descriptors: u16,
    /// It has buffers to write to, so that its length says something: it is not returned by a later chain alone.
    pub writable: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry<'m> {
    ticket: Ticket,
    buffers: Buffers<'m>,
}

/// What a chain consists of; nearly always it is one buffer.
#[derive(Debug, Clone, Copy)]
enum Buffers<'m> {
    Readable(Place<'m>),
    Writable(Place<'m>),
    /// These of the list, of which the writable ones come last.
    Several {
        first: u32,
        readable: u32,
        end: u32,
    },
}

/// A burst of chains.
#[derive(Debug, Clone, Default)]
pub struct Chains<'m> {
    entries: Vec<Entry<'m>>,
    /// The buffers of those that have several.
    places: Vec<Place<'m>>,
}

/// One chain of a burst.
#[derive(Debug, Clone, Copy)]
pub struct TakenChain<'c, 'm> {
    /// Its name.
    pub ticket: Ticket,
    /// What the device may read, in order.
    pub readable: &'c [Place<'m>],
    /// What the device may write, in order.
    pub writable: &'c [Place<'m>],
}

impl<'m> Chains<'m> {
    /// An empty burst.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same lists, empty, for another reach: what was allocated is kept.
    #[must_use]
    pub fn emptied<'n>(mut self) -> Chains<'n> {
        self.clear();
        Chains {
            entries: self
                .entries
                .into_iter()
                .map(|_| unreachable!("the list is empty"))
                .collect(),
            places: self
                .places
                .into_iter()
                .map(|_| unreachable!("the list is empty"))
                .collect(),
        }
    }

    /// Number of chains.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The chain at `index`.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<TakenChain<'_, 'm>> {
        self.entries.get(index).map(|entry| self.view(entry))
    }

    /// All chains, in the order they were taken.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = TakenChain<'_, 'm>> {
        self.entries.iter().map(|entry| self.view(entry))
    }

    #[inline(always)]
    fn view<'c>(&'c self, entry: &'c Entry<'m>) -> TakenChain<'c, 'm> {
        let (readable, writable): (&[_], &[_]) = match &entry.buffers {
            Buffers::Readable(place) => (std::slice::from_ref(place), &[]),
            Buffers::Writable(place) => (&[], std::slice::from_ref(place)),
            Buffers::Several { first, readable, end } => {
                let (first, readable, end) = (*first as usize, *readable as usize, *end as usize);
                (
                    self.places.get(first..readable).unwrap_or_default(),
                    self.places.get(readable..end).unwrap_or_default(),
                )
            }
        };
        TakenChain {
            ticket: entry.ticket,
            readable,
            writable,
        }
    }

    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.places.clear();
    }

    #[inline(always)]
    pub(super) fn push_single(&mut self, ticket: Ticket, place: Place<'m>) {
        // asked for now, so that the whole burst is on its way when the first is looked at
        if ticket.writable {
            place.prefetch_header_and_write();
        } else {
            place.prefetch_read();
        }
        let buffers = match ticket.writable {
            false => Buffers::Readable(place),
            true => Buffers::Writable(place),
        };
        self.entries.push(Entry { ticket, buffers });
    }
}

/// Most bytes of an indirect table: that of the largest ring.
const TABLE_BYTES_MAX: u32 = 16 * QUEUE_SIZE_MAX as u32;

/// A chain of several buffers while its descriptors are followed.
pub(super) struct Walk {
    head: u16,
    first: usize,
    readable: usize,
    bytes: u64,
    writes: bool,
}

impl Walk {
    pub(super) fn begin(head: u16, into: &Chains<'_>) -> Self {
        Self {
            head,
            first: into.places.len(),
            readable: 0,
            bytes: 0,
            writes: false,
        }
    }

    /// Takes one buffer up.
    pub(super) fn take<'m>(
        &mut self,
        reach: &'m Reach,
        index: u16,
        addr: u64,
        len: u32,
        writable: bool,
        into: &mut Chains<'m>,
    ) -> Result<(), RingError> {
        let head = self.head;
        self.bytes += u64::from(len);
        if self.bytes > CHAIN_BYTES_MAX || addr.checked_add(u64::from(len)).is_none() {
            return Err(RingError::ChainTooLong { head });
        }
        if self.writes && !writable {
            return Err(RingError::ReadableAfterWritable { head, index });
        }
        reach.places(addr, len, &mut into.places)?;
        self.writes = writable;
        if !writable {
            self.readable = into.places.len() - self.first;
        }
        Ok(())
    }

    pub(super) fn end(self, ticket: Ticket, into: &mut Chains<'_>) {
        into.entries.push(Entry {
            ticket: Ticket {
                writable: self.writes,
                ..ticket
            },
            buffers: Buffers::Several {
                first: self.first as u32,
                readable: (self.first + self.readable) as u32,
                end: into.places.len() as u32,
            },
        });
    }

    pub(super) fn abandon(self, into: &mut Chains<'_>) {
        into.places.truncate(self.first);
    }
}

/// Copies an indirect table, so that the driver cannot change it while it is followed.
pub(super) fn read_table(reach: &Reach, addr: u64, len: u32) -> Result<Vec<u8>, RingError> {
    let mut pieces = Vec::new();
    let len = len.min(TABLE_BYTES_MAX);
    reach.places(addr, len, &mut pieces)?;
    let mut bytes = vec![0; len as usize];
    let mut at = 0;
    for piece in pieces {
        at += piece.copy_out(0, &mut bytes[at..]);
    }
    Ok(bytes)
}
