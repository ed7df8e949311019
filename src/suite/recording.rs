//! What `vuh record` was asked for, as a plan: who takes part, and what drives a front-end that does nothing by itself.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::peers::SIMULATED;
use crate::peer::catalogue::{Catalogue, Driver, Role};
use crate::scenario::{Diagnostics, Plan, Settings, load_str};

/// The ids of the plan's peers, in their order.
pub const PEERS: [&str; 2] = ["front", "back"];

/// Two programs that are started for it.
#[derive(Debug, Clone, Default)]
pub struct Started {
    /// The front-end.
    pub frontend: String,
    /// The back-end.
    pub backend: String,
    /// Queue pairs of net, queues otherwise.
    pub queues: Option<u16>,
    /// What QEMU's driver does once it is set up.
    pub load: Load,
}

/// Data for a front-end that the harness drives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Load {
    /// None.
    #[default]
    None,
    /// So many blocks written and read back.
    Blk(u32),
    /// So many frames sent to a back-end that sends them back.
    Packets(u32),
}

/// Programs that are started elsewhere.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// Where one side connects to.
    pub listen: PathBuf,
    /// Where the other side listens.
    pub connect: PathBuf,
    /// It is the back-end that connects.
    pub reverse: bool,
}

/// The plan of a recording of two programs that are started. The second value: its steps drive the front-end, so that the
/// recording is over when they are through.
///
/// # Errors
/// The plan makes no sense to the scenario language: a device that is none, for one.
pub fn started(wanted: &Started, device: &str, catalogue: &Catalogue) -> Result<(Plan, bool), Diagnostics> {
    let Started {
        frontend,
        backend,
        queues,
        load,
    } = wanted;
    let entry = catalogue.find(frontend, Role::Frontend);
    let driven = match entry.map_or(Driver::None, |e| e.driver) {
        Driver::Qtest => true,
        // it has no frames of its own
        Driver::Linux => !matches!(load, Load::Packets(_)),
        Driver::None => frontend == SIMULATED,
    };
    let rings = queues.map(|n| if device == "net" { n * 2 } else { n });
    let mut steps = String::new();
    if driven {
        steps.push_str("- setup: {peer: front}\n");
        match load {
            Load::None => {}
            Load::Blk(count) => steps.push_str(&format!(
                "- repeat:\n    times: {count}\n    as: n\n    steps:\n    \
                 - blk: {{peer: front, action: write, sector: \"${{n}}\", fill: 90}}\n    \
                 - blk: {{peer: front, action: read, sector: \"${{n}}\", fill: 90}}\n"
            )),
            Load::Packets(count) => {
                steps.push_str(&format!("- deliver: {{from: front, to: front, packets: {count}}}\n"));
            }
        }
    }
    let plan = plan(frontend, backend, device, rings, &steps)?;
    Ok((plan, driven && *load != Load::None))
}

/// The plan of a recording between programs that are started elsewhere.
///
/// # Errors
/// As for [`started`].
pub fn sockets(wanted: &Sockets, device: &str) -> Result<Plan, Diagnostics> {
    let listens = format!("listen:{}", wanted.listen.display());
    let connects = format!("connect:{}", wanted.connect.display());
    let (front, back) = if wanted.reverse {
        (connects, listens)
    } else {
        (listens, connects)
    };
    plan(&front, &back, device, None, "")
}

fn plan(front: &str, back: &str, device: &str, rings: Option<u16>, steps: &str) -> Result<Plan, Diagnostics> {
    // JSON's strings are YAML's
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = "scenario: record\nabout: A recording.\npeers:\n".to_owned();
    for (name, role, player) in [(PEERS[0], "frontend", front), (PEERS[1], "backend", back)] {
        let rings = rings.map_or(String::new(), |n| format!(", queues: {n}"));
        let (player, device) = (quote(player), quote(device));
        writeln!(text, "  {name}: {{{role}: {player}, device: {device}{rings}}}").expect("a String takes any text");
    }
    text.push_str("steps:\n- connect: {from: front, to: back}\n");
    text.push_str(steps);
    let mut plans = load_str("record", &text, &Settings::default())?;
    Ok(plans.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: a recording that can be asked for is no plan.
    #[test]
    fn what_can_be_asked_for_is_a_plan() {
        let catalogue = Catalogue::load(None, "vuh".into()).unwrap();
        for (frontend, device, load, driven) in [
            ("qemu", "blk", Load::Blk(5), true),
            ("qemu", "net", Load::Packets(7), true),
            ("qemu", "net", Load::None, false),
            ("linux-guest", "blk", Load::Blk(5), true),
            ("linux-guest", "net", Load::Packets(7), false),
            ("reference", "generic", Load::None, false),
            ("./my 'front' \"{socket}\" \\", "blk", Load::Blk(1), false),
        ] {
            let wanted = Started {
                frontend: frontend.into(),
                backend: "reference".into(),
                queues: Some(2),
                load,
            };
            let (plan, drives) = started(&wanted, device, &catalogue).unwrap();
            assert_eq!(drives, driven, "{frontend}");
            let sets_up = frontend == "qemu" || frontend == "linux-guest" && driven;
            assert_eq!(
                plan.scenario.steps.len(),
                1 + usize::from(sets_up) + usize::from(driven)
            );
        }
        let wanted = Sockets {
            listen: "/a b".into(),
            connect: "/c".into(),
            reverse: true,
        };
        let plan = sockets(&wanted, "generic").unwrap();
        let players: Vec<_> = super::super::peers::declared(&plan)
            .into_iter()
            .map(|p| p.kind)
            .collect();
        assert_eq!(players, ["connect:/c", "listen:/a b"]);
    }
}
