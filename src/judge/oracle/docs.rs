//! The reference page of the oracle, written from its tables. A test holds the checked-in page against them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::mark::Mark;
use super::rule::Trace;
use super::rules::RULES;
use crate::judge::monitor::profile::{Scope, Setting};
use crate::judge::monitor::rules;
use crate::spec;

const NOTE: &str =
    "<!-- Written from the tables in src/judge/oracle/. VUH_BLESS=1 cargo test --lib oracle writes it anew. -->\n";
const TAKES: &str = "a String takes any text";

/// `docs/reference/oracle.md`.
pub fn oracle_markdown() -> String {
    let requirements: BTreeSet<&str> = RULES.iter().flat_map(|rule| rule.requirements).copied().collect();
    let of_monitor: BTreeSet<&str> = rules().flat_map(|rule| rule.requirements).copied().collect();
    let mut page = format!("# Ring oracle\n\n{NOTE}\n{INTRO}\n");
    write!(
        page,
        "{} rules, which enforce {} requirements of vhost-user besides those of virtio; {} marks. With the {} rules of the\n\
         [monitor](monitor.md), {} of the {} requirements are enforced on every run.\n\n## Rules\n\n\
         | rule | binds | what it says | virtio 1.3 | requirements | seen |\n|---|---|---|---|---|---|\n",
        RULES.len(),
        requirements.len(),
        Mark::ALL.len(),
        rules().count(),
        requirements.union(&of_monitor).count(),
        spec::all().len(),
    )
    .expect(TAKES);
    for rule in RULES {
        writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            rule.id,
            rule.party.name(),
            rule.text,
            rule.section,
            rule.requirements.join(", "),
            rule.trace.name()
        )
        .expect(TAKES);
    }
    page.push_str("\n## What passes unseen\n\n");
    page.push_str(SAMPLES);
    page.push_str("\n| seen | what that means |\n|---|---|\n");
    for trace in Trace::ALL {
        writeln!(page, "| {} | {} |", trace.name(), trace.text()).expect(TAKES);
    }
    page.push_str("\n## Marks\n\n");
    page.push_str(MARKS);
    page.push_str("\n| mark | what it says |\n|---|---|\n");
    for mark in Mark::ALL {
        writeln!(page, "| `{}` | {} |", mark.id(), mark.text()).expect(TAKES);
    }
    page.push_str("\n## Settings\n\n| setting | in force | what is put up with | source |\n|---|---|---|---|\n");
    for setting in Setting::RINGS {
        let scope = match setting.scope() {
            Scope::Practice => "always".to_owned(),
            Scope::Programs(party, names) => format!("{party}: {}", names.join(", ")),
        };
        writeln!(
            page,
            "| `{}` | {scope} | {} | {} |",
            setting.id(),
            setting.text(),
            setting.source()
        )
        .expect(TAKES);
    }
    page
}

const INTRO: &str = "\
The oracle reads the rings in shared memory while the peers of a scenario use them, whoever the peers are: the files of
SET_MEM_TABLE, ADD_MEM_REG and SET_LOG_BASE cross the link, and the harness maps copies of them for reading only. It is on in
every scenario. A rule that a peer breaks fails the scenario, unless the scenario says `allow: [rule or requirement]`; what
was allowed and never happened is noted. `check: - marks: [...]` asks for what must have happened.

It follows split and packed rings, from SET_VRING_KICK on, and after GET_VRING_BASE sees that they are left alone. It is
silent where it cannot look or cannot be sure: with ACCESS_PLATFORM, whose addresses it cannot translate; on rings in the other
byte order; from POSTCOPY_LISTEN on, since a look at a page that has not come would make it an empty one; on memory that cannot
be mapped or was truncated; on rings into which a step writes; on a link on which the scenario interferes with messages; and
after a deliberate violation, a refusal or a scripted reply, when the state of a ring is not certain. The rings of `vuh record`
are looked at with [`--look`](traces.md#looking-into-rings).
";

const SAMPLES: &str = "\
The oracle looks before each event of a link (messages, and kicks and calls that the harness sees) and about every
millisecond while rings run. It sees samples, not every write: what lies between two looks is judged by what it left behind.
The indices of a split ring and its slots are a history as long as the ring; a packed ring has none. If more passes between
two looks than can be seen, or so much time that an index may have come round, then the oracle counts chains without judging
them until those are back (a packed ring: until it is started again), and sets the mark `lost-track`.

A step `until_ring` waits until so many chains of a ring were judged while the device had them, so many of them once more
when they came back, and so many of the pages that were written in them have been found in the dirty log: it tells what was judged from what went
by.

At full rate, with pumps of the harness or with DPDK on both sides, a split ring is judged by what its slots still show, mostly
by its indices: chains are counted, `used-ahead`, `used-back`, the flags and the base are judged, and descriptors and lengths
where a look happened to fall between. Of a packed ring only the flags and the base are judged then. A packed ring is judged whole
where its driver is slower than the looks: with a simulated front-end, and with programs of which the
[catalogue](peers.md#catalogue-files) says `paced`. `frontend/dpdk/packed` does so with DPDK on both sides: sixteen frames, and
each side stands still until the oracle has judged what the other one did. QEMU's driver, which the harness plays over qtest,
drives split and packed rings. It waits for no look: its packed rings are judged chain by chain, as those of a simulated
front-end are, until more passes between two looks than can be seen (`frontend/qemu/packed` comes to that).

Some things cannot be seen at all:

- a write to guest memory that no used element tells of, and a used element that was never published
- a completion between the moment when GET_VRING_BASE is answered and the one when the answer is read: it looks as if it came
  before
- in a packed ring, a used element where the driver has nothing available: it looks like a chain that came and went
- with IN_ORDER, the chains of a batch other than its last one, which have no used element; and a return out of turn where it
  cannot be told from a batch: in a split ring the element that names a later chain, once the index has gone past that chain
- dirty bits that the front-end has taken: with a simulated front-end, which takes none, a page without its bit is a broken rule
  when the ring is stopped; with QEMU, whose migration takes them, bits are seen for as long as they are there, and
  `until_ring: {…, logged: N}` waits for those of so many pages (`frontend/qemu/migration` does, while QEMU is kept from going on)
- with a front-end that is not simulated, other writes to a stopped ring than the return of a chain that the device had: the
  driver may use the memory otherwise
";

const MARKS: &str = "\
What did happen in the rings of a run. A mark is set once for the whole run.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::golden;

    /// Broken: the oracle's reference page differs from its tables.
    #[test]
    fn oracle_page_is_fresh() {
        golden::check("docs/reference/oracle.md", &oracle_markdown(), "--lib oracle");
    }
}
