//! Every named fault against the scenario that is there to catch it.

use std::path::Path;

use vhost_user_harness::engine::{self, Environment};
use vhost_user_harness::judge::verdict::{FailKind, Verdict};
use vhost_user_harness::peer::catalogue::Catalogue;
use vhost_user_harness::peer::sim::pci::{Fault, Role};
use vhost_user_harness::scenario::span::{At, Span};
use vhost_user_harness::scenario::{Plan, Settings, load_file};

/// A fault, and the scenario (of a family: the member) that fails because of it.
const CAUGHT: &[(Fault, &str)] = &[
    (Fault::ConnIdByDifference, "connection-id"),
    (Fault::ConnIdTrusted, "spoofed-id[victim=1]"),
    (Fault::AnonymousAccepted, "anonymous"),
    (Fault::VersionIgnored, "version[flags=1]"),
    (Fault::FlagsIgnored, "flags"),
    (Fault::OnePhaseFeatures, "entry-states"),
    (Fault::Ungated, "gate"),
    (Fault::AnyKind, "kind-not-served[kind=2]"),
    (Fault::KindAgain, "info-twice[kind=8]"),
    (Fault::ShortInfo, "dev-info[payload=0100]"),
    (Fault::MemoryBeforeKind, "kind-not-served[kind=2]"),
    (Fault::InitWithoutRings, "init-too-early[state=memory]"),
    (Fault::CreatedTwice, "connection-values"),
    (Fault::PhantomQueue, "repeated-size"),
    (Fault::KickKeptOnce, "kick-again"),
    (Fault::CallKept, "call-early-and-late"),
    (Fault::SizeFromIndex, "two-masters"),
    (Fault::BaseFromIndex, "with-and-without-ids[dialect=vhost-pci]"),
    (Fault::TableFdsLeft, "late-memory"),
    (Fault::RefusedFdsKept, "refused-files"),
    (Fault::MappingsKept, "life-cycle[dialect=vhost-pci,owner=socket]"),
    (Fault::NeverShared, "mapping-once"),
    (Fault::SharedBlindly, "same-vm-other-memory"),
    (Fault::UnmappedWithFirst, "mapping-once"),
    (Fault::NilGrouped, "same-vm"),
    (Fault::BarNotDoubled, "bar-g1"),
    (Fault::BarNotRounded, "bar-g3"),
    (Fault::OverflowIgnored, "bar-overflow"),
    (Fault::UnknownDispatched, "unknown-request[request=23]"),
    (Fault::AckMissing, "need-reply"),
    (Fault::RefusedAcked, "info-twice[kind=1]"),
    (Fault::SecondClient, "one-client[dialect=vhost-pci]"),
    (Fault::OthersStopped, "two-sockets"),
    (Fault::ResetMissing, "features-lowered[dialect=vhost-pci]"),
    (Fault::ResetAlways, "features-same"),
    (Fault::HalfFeatures, "features-lowered[dialect=vhost-pci-g2]"),
    (Fault::ReducedForgotten, "features-lowered[dialect=vhost-pci]"),
    (Fault::CloseBeforeAck, "part"),
    (Fault::OffIgnored, "connection-values"),
    (Fault::ReplyAsRequest, "slave-speaks-to-idle"),
    (Fault::SameFeaturesReset, "features-same"),
    (Fault::SlaveDropped, "slave-speaks[waits=GET_QUEUE_NUM]"),
    (Fault::SlaveUnanswered, "slave-speaks-to-idle"),
    (Fault::IdForgotten, "keeps-its-id"),
];

/// Limit of a run that a fault may make hang.
const LIMIT_MS: u64 = 2_000;

fn environment(timeout_ms: Option<u64>) -> Environment {
    let vuh = std::env::current_exe().unwrap();
    Environment {
        catalogue: Catalogue::load(None, vuh).unwrap(),
        frontend: None,
        backend: None,
        timeout_ms,
        keep: None,
        required: Vec::new(),
        rerun: String::new(),
    }
}

/// The plan of a scenario below `scenarios/vhost-pci/`.
fn plan(id: &str) -> Plan {
    let file = id.split('[').next().unwrap_or(id);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/vhost-pci/{file}.yaml"));
    let plans = load_file(&path, &Settings::default()).unwrap_or_else(|e| panic!("{id}: {e:?}"));
    let whole = format!("vhost-pci/{id}");
    plans
        .into_iter()
        .find(|plan| plan.id == whole)
        .unwrap_or_else(|| panic!("there is no {whole}"))
}

/// The same with a fault in every peer that can have it.
fn with(mut plan: Plan, fault: Fault) -> Plan {
    for (_, peer) in &mut plan.scenario.peers.0 {
        let is_master = peer.frontend.is_some();
        if is_master == (fault.role() == Role::Master) {
            let name = At {
                value: fault.name().to_owned(),
                span: Span::default(),
            };
            peer.pci.get_or_insert_default().faults.push(name);
        }
    }
    plan
}

/// Broken: a fault is in nobody's way, so that whoever makes the same mistake passes; or its scenario fails without it.
#[test]
fn each_fault_is_caught_by_its_scenario() {
    let (hasty, patient) = (environment(Some(LIMIT_MS)), environment(None));
    let mut wrong = Vec::new();
    for (fault, id) in CAUGHT {
        let sound = engine::run(&plan(id), &patient);
        if sound.verdict != Verdict::Pass {
            wrong.push(format!("{id} without {fault}: {} {:?}", sound.verdict, sound.reason));
        }
        let faulty = engine::run(&with(plan(id), *fault), &hasty);
        let kinds = [FailKind::Wrong, FailKind::Hang, FailKind::Leak];
        match faulty.verdict {
            Verdict::Fail(kind) if kinds.contains(&kind) => {}
            verdict => wrong.push(format!("{id} with {fault}: {verdict} {:?}", faulty.reason)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Broken: a fault exists that no scenario is said to catch.
#[test]
fn each_fault_has_a_scenario() {
    let caught: Vec<Fault> = CAUGHT.iter().map(|(fault, _)| *fault).collect();
    let missing: Vec<&str> = Fault::ALL
        .iter()
        .filter(|f| !caught.contains(f))
        .map(|f| f.name())
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
    assert!(caught.len() >= 20);
}
