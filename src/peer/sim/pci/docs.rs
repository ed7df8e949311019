//! `docs/reference/vhost-pci.md`: the states of an entry with what is taken in each, the sizes of a BAR, the faults.

use std::fmt::Write as _;

use super::fault::{Fault, Role};
use super::table::{Cell, ROWS, State};
use crate::wire::Dialect;

const TAKES: &str = "a String takes any text";
const NOTE: &str =
    "<!-- Written from the tables in src/peer/sim/pci/. VUH_BLESS=1 cargo test --lib sim::pci writes it anew. -->\n";

const INTRO: &str = "\
The server `backend: vhost-pci-server` has an entry for each master that is connected. What it takes depends on the entry's
state: `yes`, `→ state` when it gets there by it, `lax` when a liberal server lets it through (with `device: let-through` on
the timeline) and a strict one refuses it, and nothing when both refuse it. A refused message is `device: refused` on the
timeline, is acknowledged with 1 if it asked for that, and ends the connection if it would have had a reply of its own.
Before any of this, the version, the connection id and the flags of the header have to be right, the request and the size
of its payload known, and the protocol feature of a vhost-pci message negotiated. A strict server takes nothing but the
device info after SET_PROTOCOL_FEATURES.
";

const BARS: &str = "\
| generation | BAR | first region at |
|---|---|---|
| g1, g2 | twice the memory, rounded up to a power of two | 0 |
| g3 | the memory, rounded up to a power of two | 0 |
| g4 | 64 GiB; memory that does not fit is refused at init | 4096, behind a page of metadata |

Regions lie back to back, in the order of the memory table.
";

/// The page.
pub fn markdown() -> String {
    let mut page = format!("# vhost-pci: states, sizes, faults\n\n{NOTE}\n{INTRO}\n## States and messages\n\n");
    let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
    writeln!(page, "| message | {} |\n|---|---|---|---|---|---|", names.join(" | ")).expect(TAKES);
    for row in ROWS {
        let cells = row.cells.map(|cell| match cell {
            Cell::Yes => "yes".to_owned(),
            Cell::To(state) => format!("→ {}", state.name()),
            Cell::Lax => "lax".to_owned(),
            Cell::No => String::new(),
        });
        writeln!(page, "| {} | {} |", row.word.name(Dialect::VhostPci), cells.join(" | ")).expect(TAKES);
    }
    page.push_str("\nIn the second proposal SET_DEVICE_ID stands for SET_DEV_INFO, and SET_VHOST_PCI start and stop for init and off.\n");
    write!(page, "\n## How large a device is\n\n{BARS}").expect(TAKES);
    for (role, heading) in [
        (Role::Server, "Faults of a server"),
        (Role::Master, "Faults of a master"),
    ] {
        write!(
            page,
            "\n## {heading}\n\nGiven by `pci: {{faults: [NAME]}}`. A test demands that a scenario catches each.\n\n"
        )
        .expect(TAKES);
        page.push_str("| fault | what it does |\n|---|---|\n");
        for fault in Fault::ALL.iter().filter(|fault| fault.role() == role) {
            writeln!(page, "| `{fault}` | {} |", fault.text()).expect(TAKES);
        }
    }
    page
}
