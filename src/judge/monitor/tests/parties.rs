//! A link on which the script has a hand: each party is judged by what it has sent and what has reached it.

use super::expand;
use super::text::judge_parties;
use crate::judge::monitor::{Monitor, Profile};
use crate::trace::{LinkId, Seq};
use crate::wire::Party;

/// What is found in a conversation: rule, who, at which line.
fn found(text: &str) -> Vec<(&'static str, Party, usize)> {
    let violations = judge_parties(&mut Monitor::new(Profile::practice()), &expand(text));
    violations.iter().map(|v| (v.rule.id, v.party, v.at.0)).collect()
}

/// Conversations that the script has spoilt and in which nobody did anything wrong.
const RIGHT: &[(&str, &str)] = &[
    (
        "altered request",
        "@ring
        disturbed
        sent front SET_STATUS value=0x3
        comes front SET_STATUS! value=0x5
        back reply to SET_STATUS value=0x0",
    ),
    (
        "another request than was sent",
        "@ring
        disturbed
        sent front GET_STATUS
        comes front GET_QUEUE_NUM
        sent back reply to GET_QUEUE_NUM value=0x1
        comes back reply to GET_STATUS value=0x0
        front GET_FEATURES",
    ),
    (
        "an acknowledgement that is not asked for any more",
        "@ring
        disturbed
        sent front SET_VRING_NUM! index=0 num=64
        comes front SET_VRING_NUM index=0 num=64
        front GET_STATUS
        back reply to GET_STATUS value=0x0",
    ),
    (
        "dropped request",
        "@ring
        disturbed
        sent front GET_STATUS
        front GET_QUEUE_NUM
        back reply to GET_QUEUE_NUM value=0x1",
    ),
    (
        "dropped reply",
        "@ring
        disturbed
        front GET_STATUS
        sent back reply to GET_STATUS value=0x0
        front GET_QUEUE_NUM
        back reply to GET_QUEUE_NUM value=0x1",
    ),
    (
        "request that arrives twice",
        "@ring
        disturbed
        front GET_STATUS
        comes front GET_STATUS
        back reply to GET_STATUS value=0x0
        back reply to GET_STATUS value=0x0",
    ),
    (
        "requests that arrive the other way round",
        "@ring
        disturbed
        sent front GET_STATUS
        front GET_QUEUE_NUM
        comes front GET_STATUS
        back reply to GET_QUEUE_NUM value=0x1
        back reply to GET_STATUS value=0x0",
    ),
    (
        "what the front-end has not sent",
        "@ring
        disturbed
        comes front SET_OWNER
        comes front SET_VRING_NUM! index=0 num=7
        sent back reply to SET_VRING_NUM as raw payload=00
        front SET_VRING_NUM! index=0 num=64
        back reply to SET_VRING_NUM value=0x0",
    ),
    (
        "features that the back-end has not offered",
        "connected
        front GET_FEATURES
        disturbed
        sent back reply to GET_FEATURES value=0x100000000
        comes back reply to GET_FEATURES value=0x300000000
        front SET_FEATURES value=0x300000000",
    ),
    (
        "a close that is kept back",
        "@ring
        disturbed
        sent back closed main
        front GET_STATUS",
    ),
];

/// Conversations in which one side is wrong all the same, which is seen at the last line.
const WRONG: &[(&str, &str, Party)] = &[
    (
        "ack-unnegotiated",
        "@basic
        disturbed
        sent front SET_PROTOCOL_FEATURES value=0x2009
        comes front SET_PROTOCOL_FEATURES value=0x2001
        front SET_VRING_NUM! index=0 num=64
        back reply to SET_VRING_NUM value=0x0",
        Party::BackEnd,
    ),
    (
        "reply-out-of-order",
        "@ring
        disturbed
        sent front SET_STATUS value=0x3
        comes front SET_STATUS! value=0x5
        front GET_STATUS
        back reply to GET_STATUS value=0x5",
        Party::BackEnd,
    ),
    (
        "answered-twice",
        "@ring
        disturbed
        sent front GET_QUEUE_NUM
        front GET_STATUS
        back reply to GET_STATUS value=0x0
        back reply to GET_STATUS value=0x0",
        Party::BackEnd,
    ),
    (
        "ring-size",
        "@ring
        disturbed
        front GET_STATUS
        sent back reply to GET_STATUS value=0x0
        comes back reply to GET_STATUS value=0x7
        front SET_VRING_NUM! index=0 num=7",
        Party::FrontEnd,
    ),
    (
        "features-not-offered",
        "connected
        front GET_FEATURES
        disturbed
        sent back reply to GET_FEATURES value=0x300000000
        comes back reply to GET_FEATURES value=0x100000000
        front SET_FEATURES value=0x300000000",
        Party::FrontEnd,
    ),
    (
        "owner-twice",
        "@ring
        disturbed
        sent back closed backend
        front SET_OWNER",
        Party::FrontEnd,
    ),
];

/// Broken: a party is blamed for what it cannot know, or for what it has not done.
#[test]
fn nobody_is_blamed_for_what_the_script_did() {
    for (name, text) in RIGHT {
        assert_eq!(found(text), [], "{name}");
    }
}

/// Broken: once the script has taken a hand, a party may do what it likes.
#[test]
fn a_party_is_judged_by_what_it_knows() {
    for (rule, text, party) in WRONG {
        assert_eq!(found(text), [(*rule, *party, last_line(text))], "{rule}");
    }
}

/// Broken: a message that waits on its way counts as known to who has not got it yet.
#[test]
fn what_is_under_way_is_not_known() {
    let early = "@ring
        front SET_BACKEND_REQ_FD fds=[socket]
        sent front SET_VRING_KICK index=0 fds=[eventfd]
        back SHARED_OBJECT_ADD! on backend uuid=5a5a5a5a5a5a5a5a0000000000000001";
    let lines = expand(early);
    let (with, without) = (lines.replace("sent ", ""), lines);
    let rules = |text: &str| found(text).iter().map(|f| f.0).collect::<Vec<_>>();
    assert_eq!(rules(&with), Vec::<&str>::new());
    assert_eq!(rules(&without), ["request-while-suspended"]);
}

/// Broken: an answer is waited for that nobody can give, or one is not that is due.
#[test]
fn who_was_asked_owes() {
    let owed = |text: &str| {
        let mut monitor = Monitor::new(Profile::practice());
        judge_parties(&mut monitor, &expand(text));
        monitor.owed(LinkId(0))
    };
    let asked = "@ring
        disturbed
        front GET_STATUS";
    assert_eq!(owed(asked), [Seq(last_line(asked))]);
    assert_eq!(owed(&asked.replace("front GET_STATUS", "sent front GET_STATUS")), []);
    let answered = format!("{asked}\nsent back reply to GET_STATUS value=0x0");
    assert_eq!(owed(&answered), []);
}

/// Broken: a reconnect does not end what the script did to the connection before it.
#[test]
fn a_new_connection_is_whole() {
    let text = "@ring
        disturbed
        sent front GET_STATUS
        connected
        front GET_STATUS";
    assert_eq!(found(text), [("needs-status", Party::FrontEnd, last_line(text))]);
}

fn last_line(text: &str) -> usize {
    let lines = expand(text);
    lines.lines().filter(|line| !line.trim().is_empty()).count() - 1
}
