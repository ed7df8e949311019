//! The table of rules.

use super::chain::{Chain, Flaw};
use super::rule::{Rule, Sight, Standing, Trace};
use crate::judge::monitor::{Bound, Finding, Setting};

/// Every rule: first those of the device, then those of the driver.
pub const RULES: &[Rule] = &[
    Rule {
        id: "used-ahead",
        party: Bound::Back,
        section: "2.7.8",
        requirements: &["VU-RING-06"],
        text: "The used index never passes the available index.",
        trace: Trace::Moment,
        check: |sight| match *sight {
            Sight::Indices { size, avail, used } if is_behind(avail, used) && avail.wrapping_sub(used) > size => {
                let over = used.wrapping_sub(avail);
                Finding::new(
                    format!("a used index up to {avail}, the available index"),
                    format!("a used index of {used}, {over} past it"),
                )
            }
            _ => None,
        },
    },
    Rule {
        id: "used-back",
        party: Bound::Back,
        section: "2.7.8",
        requirements: &["VU-RING-06"],
        text: "The used index moves by one for each chain that is returned, and never back.",
        trace: Trace::Lap,
        check: |sight| match *sight {
            Sight::Moved { from, to, out } => Finding::new(
                format!("a used index from {from} on, by {out} at most"),
                format!("a used index of {to}"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "chain-returned-twice",
        party: Bound::Back,
        section: "2.7.8, 2.8",
        requirements: &["VU-RING-06"],
        text: "A chain is returned once each time that it was made available.",
        trace: Trace::Lap,
        check: |sight| match *sight {
            Sight::Returned {
                id,
                size,
                standing: Standing::Back,
                ..
            } if id < u32::from(size) => Finding::new(
                "a chain that the device has",
                format!("chain {id} is returned once more than it was made available"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "chain-never-available",
        party: Bound::Back,
        section: "2.7.8, 2.8",
        requirements: &["VU-RING-06"],
        text: "Only chains that were made available are returned.",
        trace: Trace::Lap,
        check: |sight| match *sight {
            Sight::Returned {
                id,
                size,
                standing: Standing::Never,
                ..
            } if id < u32::from(size) => Finding::new(
                "a chain that the device has",
                format!("chain {id} is returned, which was never made available"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "used-id-out-of-range",
        party: Bound::Back,
        section: "2.7.8",
        requirements: &["VU-RING-06"],
        text: "A used element names a descriptor of the ring.",
        trace: Trace::Lap,
        check: |sight| match *sight {
            Sight::Returned { id, size, .. } if id >= u32::from(size) => {
                Finding::new(format!("an id below {size}"), format!("the id {id:#x}"))
            }
            _ => None,
        },
    },
    Rule {
        id: "used-length",
        party: Bound::Back,
        section: "2.7.8.2, 2.8",
        requirements: &["VU-RING-06"],
        text: "The length of a returned chain is at most the bytes that the device could write to it.",
        trace: Trace::Held,
        check: |sight| match sight {
            Sight::Returned {
                id,
                length,
                chain: Some(chain),
                ..
            } if chain.flaw.is_none() && u64::from(*length) > chain.writable => Finding::new(
                format!("at most {} bytes written to chain {id}", chain.writable),
                format!("{length} bytes"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "used-in-order",
        party: Bound::Back,
        section: "2.7.9, 2.8.8",
        requirements: &["VU-RING-06"],
        text: "With IN_ORDER, chains are returned in the order in which they were made available.",
        trace: Trace::Moment,
        check: |sight| match *sight {
            Sight::Overtaken { id } => Finding::new(
                "the chains that were made available first, or the last of several of them",
                format!("chain {id} is returned, out of turn"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "wrote-outside-memory",
        party: Bound::Back,
        section: "",
        requirements: &["VU-MEM-10"],
        text: "The device writes only to guest memory: a chain is not returned as written where it has no memory.",
        trace: Trace::Held,
        check: |sight| match sight {
            Sight::Returned {
                id,
                length,
                chain: Some(chain),
                ..
            } if chain.writable_inside.is_some_and(|inside| u64::from(*length) > inside) => Finding::new(
                "bytes written inside the memory table",
                format!("chain {id} came back with {length} bytes written, and not all of them are in guest memory"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "used-while-stopped",
        party: Bound::Back,
        section: "",
        requirements: &["VU-RING-01", "VU-VRB-02", "VU-RING-10", "VU-RING-11"],
        text: "A stopped ring is left alone: nothing is written to its used ring from the reply to GET_VRING_BASE on.",
        trace: Trace::Lasting,
        check: |sight| match sight {
            Sight::Late { what } => Finding::new("a used ring that stays as it is", what),
            _ => None,
        },
    },
    Rule {
        id: "stopped-undrained",
        party: Bound::Back,
        section: "",
        requirements: &["VU-VRB-05"],
        text: "What was taken from a ring is returned before GET_VRING_BASE is answered.",
        trace: Trace::Moment,
        check: |sight| match *sight {
            Sight::Stopped {
                base,
                left,
                may_leave: false,
                half,
                ..
            } if left > 0 => Finding::new(
                format!("every chain before the base {base} returned"),
                format!("{left} not returned"),
            )
            .map(|finding| match half {
                true => finding.unless(Setting::PackedBaseHalf),
                false => finding,
            }),
            _ => None,
        },
    },
    Rule {
        id: "base-outside-ring",
        party: Bound::Back,
        section: "",
        requirements: &["VU-VRB-01"],
        text: "The base that GET_VRING_BASE answers lies between what is used and what is available.",
        trace: Trace::Moment,
        check: |sight| match *sight {
            Sight::Stopped {
                base,
                indices: Some((avail, used)),
                ..
            } if base.wrapping_sub(used) > avail.wrapping_sub(used) => {
                Finding::new(format!("a base from {used} to {avail}"), format!("a base of {base}"))
            }
            _ => None,
        },
    },
    Rule {
        id: "served-while-disabled",
        party: Bound::Back,
        section: "",
        requirements: &["VU-RING-03", "VU-RING-04", "VU-RING-18", "VU-RST-02"],
        text: "A chain that was made available on a disabled ring comes back, if at all, with nothing written to it.",
        trace: Trace::Lap,
        check: |sight| match *sight {
            Sight::Returned {
                id,
                length,
                disabled: true,
                receives,
                ..
            } if length > 0 => Finding::new(
                if receives {
                    "no packet on a receive ring that is disabled"
                } else {
                    "no side effects of a ring that is disabled"
                },
                format!("chain {id} came back with {length} bytes written"),
            )
            .map(|finding| finding.unless(Setting::DisabledServed)),
            _ => None,
        },
    },
    Rule {
        id: "buffer-unlogged",
        party: Bound::Back,
        section: "",
        requirements: &["VU-LOG-04", "VU-LOG-07", "VU-LOG-10"],
        text: "While VHOST_F_LOG_ALL is on, every page of a buffer that was written is marked in the dirty log.",
        trace: Trace::Held,
        check: |sight| match *sight {
            Sight::Unlogged { address, used: false } => Finding::new(
                "the bit of every page that was written",
                format!("the page of {address:#x} is written and not marked"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "used-unlogged",
        party: Bound::Back,
        section: "",
        requirements: &["VU-LOG-05", "VU-LOG-12", "VU-LOG-13"],
        text: "While VHOST_F_LOG_ALL and the ring's log flag are on, writes to the used ring are marked at its log address.",
        trace: Trace::Held,
        check: |sight| match *sight {
            Sight::Unlogged { address, used: true } => Finding::new(
                "the bit of the used ring's page",
                format!("the used ring was written and the page of {address:#x} is not marked"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "device-flags",
        party: Bound::Back,
        section: "2.7.10, 2.8.10",
        requirements: &["VU-RING-06"],
        text: "The device's notification flags have a value that virtio gives them: 0 or 1, and 2 in a packed ring with EVENT_IDX.",
        trace: Trace::Moment,
        check: |sight| flags(sight, Bound::Back),
    },
    Rule {
        id: "driver-flags",
        party: Bound::Front,
        section: "2.7.7, 2.8.10",
        requirements: &[],
        text: "The driver's notification flags have a value that virtio gives them: 0 or 1, and 2 in a packed ring with EVENT_IDX.",
        trace: Trace::Moment,
        check: |sight| flags(sight, Bound::Front),
    },
    Rule {
        id: "available-too-far",
        party: Bound::Front,
        section: "2.7.6",
        requirements: &[],
        text: "No more chains are available than the ring has slots.",
        trace: Trace::Moment,
        check: |sight| match *sight {
            Sight::Indices { size, avail, used } if !is_behind(avail, used) && avail.wrapping_sub(used) > size => {
                Finding::new(
                    format!("an available index at most {size} past {used}"),
                    format!("an available index of {avail}"),
                )
            }
            _ => None,
        },
    },
    Rule {
        id: "head-out-of-range",
        party: Bound::Front,
        section: "2.7.6",
        requirements: &[],
        text: "An available element names a descriptor of the ring.",
        trace: Trace::Lap,
        check: |sight| match *sight {
            Sight::Offered { id, size, .. } if id >= size => {
                Finding::new(format!("a head below {size}"), format!("the head {id}"))
            }
            _ => None,
        },
    },
    Rule {
        id: "chain-available-twice",
        party: Bound::Front,
        section: "2.7.13, 2.8",
        requirements: &[],
        text: "A chain that the device has is not made available again.",
        trace: Trace::Lap,
        check: |sight| match *sight {
            Sight::Offered { id, size, is_out: true } if id < size => Finding::new(
                "a chain that the device does not have",
                format!("chain {id} is made available once more"),
            ),
            _ => None,
        },
    },
    Rule {
        id: "next-out-of-range",
        party: Bound::Front,
        section: "2.7.5",
        requirements: &[],
        text: "The next descriptor is one of the table.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::NextOutOfRange { next, size }) => Finding::new(
                format!("a next descriptor below {size}"),
                format!("chain {} goes on at {next}", chain.id),
            ),
            _ => None,
        },
    },
    Rule {
        id: "chain-endless",
        party: Bound::Front,
        section: "2.7.5.1, 2.8.6",
        requirements: &[],
        text: "A chain ends: it has no loop and no more descriptors than its table.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::Endless { size }) => Finding::new(
                format!("a chain of at most {size} descriptors"),
                format!("chain {} goes on after them", chain.id),
            ),
            _ => None,
        },
    },
    Rule {
        id: "chain-too-long",
        party: Bound::Front,
        section: "2.7.5",
        requirements: &[],
        text: "The buffers of a chain have 4 GiB at most together, and end inside the address space.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::TooLong) => Finding::new("at most 4 GiB of buffers", format!("chain {} has more", chain.id)),
            _ => None,
        },
    },
    Rule {
        id: "readable-after-writable",
        party: Bound::Front,
        section: "2.7.4.2, 2.8",
        requirements: &[],
        text: "What the device reads comes before what it writes.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::ReadableAfterWritable) => Finding::new(
                "readable buffers, then writable ones",
                format!("chain {} has a readable one after a writable one", chain.id),
            ),
            _ => None,
        },
    },
    Rule {
        id: "indirect-unnegotiated",
        party: Bound::Front,
        section: "2.7.5.3.1, 2.8.7",
        requirements: &[],
        text: "Indirect tables are used only if INDIRECT_DESC was negotiated.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::IndirectUnnegotiated) => {
                Finding::new("no indirect table", format!("chain {} has one", chain.id))
            }
            _ => None,
        },
    },
    Rule {
        id: "indirect-in-chain",
        party: Bound::Front,
        section: "2.7.5.3.1, 2.8.7",
        requirements: &[],
        text: "A descriptor of an indirect table has no NEXT; in a packed ring it is alone.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::IndirectInChain) => Finding::new(
                "an indirect descriptor that ends its chain",
                format!(
                    "chain {} goes on after one, or has others before it in a packed ring",
                    chain.id
                ),
            ),
            _ => None,
        },
    },
    Rule {
        id: "indirect-in-table",
        party: Bound::Front,
        section: "2.7.5.3.1",
        requirements: &[],
        text: "An indirect table has no indirect descriptor in it.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::IndirectInTable) => Finding::new(
                "a table of buffers",
                format!("chain {} has a table with a table in it", chain.id),
            ),
            _ => None,
        },
    },
    Rule {
        id: "indirect-length",
        party: Bound::Front,
        section: "2.7.5.3.1",
        requirements: &[],
        text: "An indirect table has a whole number of descriptors: at least one, and at most the ring's size or 1024.",
        trace: Trace::Held,
        check: |sight| match flaw(sight)? {
            (chain, Flaw::IndirectLength { bytes }) => Finding::new(
                "a table of whole descriptors, as many as are allowed",
                format!("chain {} has a table of {bytes} bytes", chain.id),
            ),
            _ => None,
        },
    },
    Rule {
        id: "buffer-outside-memory",
        party: Bound::Front,
        section: "",
        requirements: &["VU-MEM-10"],
        text: "Buffers and indirect tables lie in guest memory that the back-end was told of.",
        trace: Trace::Held,
        check: |sight| {
            let Sight::Chain(chain) = sight else { return None };
            let (address, length) = match (chain.flaw, chain.outside) {
                (Some(Flaw::TableOutside { address }), _) => (address, 16),
                (None, Some(outside)) => outside,
                _ => return None,
            };
            Finding::new(
                "buffers inside the memory table",
                format!("chain {} has {length} bytes at {address:#x}", chain.id),
            )
        },
    },
];

/// Of the two ways in which the indices can be too far apart, the shorter one: the used index is the one ahead.
fn is_behind(avail: u16, used: u16) -> bool {
    used.wrapping_sub(avail) < 0x8000
}

fn flaw<'a>(sight: &Sight<'a>) -> Option<(&'a Chain, Flaw)> {
    match sight {
        Sight::Chain(chain) => Some((chain, chain.flaw?)),
        _ => None,
    }
}

fn flags(sight: &Sight, who: Bound) -> Option<Finding> {
    let Sight::Flags {
        event_idx,
        packed,
        driver,
        device,
    } = *sight
    else {
        return None;
    };
    let flags = if who == Bound::Back { device } else { driver };
    let most = if packed && event_idx { 2 } else { 1 };
    if flags <= most {
        return None;
    }
    Finding::new(format!("flags up to {most}"), format!("flags of {flags:#x}"))
}
