//! Steps, one by one: peers that exist and can do it, messages they can send, options that go together.

use crate::wire::Party;

use super::super::diagnostic::Diagnostic;
use super::super::model::{
    Blk, BlkAction, Driver, DriverAction, HoldThread, MemoryAction, MemoryStep, Raw, Reply, RingAction, RingStep, Send,
    Step, ThreadPoint,
};
use super::super::span::{At, Span};
use super::values::Holds;
use super::{Cx, Kinds};

const FRONT: Option<Party> = Some(Party::FrontEnd);
const BACK: Option<Party> = Some(Party::BackEnd);

impl<'a> Cx<'a> {
    pub(super) fn steps(&mut self, steps: &'a [At<Step>]) {
        for step in steps {
            // each is compared with all known names, and nobody reads them all
            if self.wrong.len() >= super::ERRORS_MAX {
                break;
            }
            self.step(step);
        }
    }

    fn step(&mut self, step: &'a At<Step>) {
        let place = step.span;
        self.step_numbers(&step.value);
        self.step_says(&step.value);
        match &step.value {
            Step::Start(peer) => drop(self.actor(peer, "start", None, Kinds::Process)),
            Step::Connect(connect) => {
                self.actor(&connect.from, "connect from", FRONT, Kinds::Any);
                self.actor(&connect.to, "connect to", BACK, Kinds::Any);
                self.pci_socket(connect);
            }
            Step::Setup(setup) => drop(self.actor(&setup.peer, "setup", FRONT, Kinds::Started)),
            Step::Send(send) => {
                self.other_end(send.to.as_ref());
                self.send(send);
            }
            Step::Raw(raw) => self.raw(raw, place),
            Step::Reply(reply) => self.reply(reply),
            Step::Request(request) => self.request_step(request),
            Step::Answered(peer) => drop(self.actor(peer, "answered", None, Kinds::Simulated)),
            Step::AskDuring(ask) => self.ask_during(ask),
            Step::Shared(shared) => self.shared_step(shared, place),
            Step::Expect(pattern) | Step::Until(pattern) => self.pattern(pattern, place, true),
            Step::Never(pattern) | Step::NotYet(pattern) => self.pattern(pattern, place, false),
            Step::AnyOf(patterns) | Step::Unordered(patterns) => {
                if patterns.len() < 2 {
                    self.report(Diagnostic::error("a choice has at least two members; one is an `expect`").at(place));
                }
                patterns.iter().for_each(|pattern| self.pattern(pattern, place, true));
            }
            Step::Optional(optional) => self.pattern(&optional.when, place, true),
            Step::Repeat(repeat) => {
                self.not_empty(&repeat.steps, place);
                self.steps(&repeat.steps);
            }
            Step::Sanity(steps) => {
                self.not_empty(steps, place);
                self.steps(steps);
            }
            Step::Together(tracks) => {
                if tracks.len() < 2 {
                    self.report(Diagnostic::error("`together` has at least two tracks").at(place));
                }
                for (name, track) in tracks.iter() {
                    self.not_empty(track, name.span);
                    self.steps(track);
                }
            }
            Step::Hold(hold) => self.crossing("hold", &hold.when, place, &[]),
            Step::Drop(what) => self.meddle("drop", what, place),
            Step::Duplicate(what) => self.meddle("duplicate", what, place),
            Step::Reorder(reorder) => self.reorder(reorder, place),
            Step::Join(join) => self.join(join, place),
            Step::Split(split) => self.split(split, place),
            Step::Alter(alter) => self.alter(alter, place),
            Step::Inject(inject) => self.inject(inject, place),
            Step::HoldThread(hold) => self.hold_thread(hold, place),
            Step::UntilIdle(peer) => drop(self.actor(peer, "until_idle", None, Kinds::Process)),
            Step::UntilRing(wait) => {
                self.actor(&wait.peer, "until_ring", None, Kinds::Any);
                if wait.available.is_none() && wait.returned.is_none() && wait.logged.is_none() {
                    let error = Diagnostic::error("`until_ring` does not say what it waits for").at(place);
                    self.report(
                        error.help("how many chains are to be `available` or `returned`, or pages `logged`, at least"),
                    );
                }
            }
            Step::Barrier(_) | Step::Release(_) | Step::UntilHeld(_) | Step::Await(_) | Step::Use(_) => {}
            Step::Schedule(schedule) => self.schedule(schedule, place),
            Step::Replay(replay) => drop(self.actor(&replay.peer, "replay", None, Kinds::Simulated)),
            Step::Kick(ring) => drop(self.actor(&ring.from, "kick", FRONT, Kinds::Simulated)),
            Step::Call(ring) => drop(self.actor(&ring.from, "call", BACK, Kinds::Simulated)),
            Step::Close(close) => {
                self.actor(&close.peer, "close", None, Kinds::Simulated);
                self.other_end(close.to.as_ref());
                self.channel(close.channel.as_ref());
            }
            Step::Kill(kill) => {
                self.actor(&kill.peer, "kill", None, Kinds::Process);
                kill.signal.iter().for_each(|signal| self.signal(signal));
            }
            Step::Restart(peer) => drop(self.actor(peer, "restart", None, Kinds::Process)),
            Step::Stop(peer) => drop(self.actor(peer, "stop", None, Kinds::Process)),
            Step::Continue(peer) => drop(self.actor(peer, "continue", None, Kinds::Process)),
            Step::Ring(ring) => self.ring(ring),
            Step::Memory(memory) => self.memory(memory),
            Step::Write(write) => drop(self.actor(&write.peer, "write", None, Kinds::Started)),
            Step::Deliver(deliver) => self.deliver(deliver),
            Step::Blk(blk) => self.blk(blk),
            Step::Echo(echo) => drop(self.actor(&echo.peer, "echo", FRONT, Kinds::Simulated)),
            Step::Image(image) => drop(self.actor(&image.peer, "image", BACK, Kinds::Process)),
            Step::Migration(step) => drop(self.actor(&step.peer, "migration", FRONT, Kinds::Simulated)),
            Step::Dies(dies) => self.dies(dies),
            Step::Inflight(step) => self.inflight(step),
            Step::Config(config) => self.config(config),
            Step::Driver(driver) => self.driver(driver),
            Step::Qmp(qmp) => {
                self.actor(&qmp.peer, "qmp", FRONT, Kinds::Qemu);
                if let (Some(error), Some((key, _))) = (&qmp.error, qmp.returns.iter().next()) {
                    let both = Diagnostic::error("a command that fails returns nothing").at(key.span);
                    self.report(both.note(error.span, "it has to fail"));
                }
            }
            Step::Qtest(qtest) => drop(self.actor(&qtest.peer, "qtest", FRONT, Kinds::Qemu)),
            Step::Guest(guest) => drop(self.actor(&guest.peer, "guest", FRONT, Kinds::Guest)),
            Step::Pci(step) => self.pci_step(step),
        }
    }

    fn hold_thread(&mut self, hold: &HoldThread, place: Span) {
        self.actor(&hold.peer, "hold_thread", None, Kinds::Process);
        let Some(news) = &hold.told_of else { return };
        if news.kick.is_some() == news.socket.is_some() {
            let error = Diagnostic::error("`told_of` is either a `kick` or a `socket`").at(place);
            self.report(error.help("`told_of: {kick: 0}`, `told_of: {socket: main}`"));
        }
        let before = hold.when.as_ref().filter(|when| when.value == ThreadPoint::Waits);
        if let Some(when) = before {
            let error = Diagnostic::error("a thread is told of something when a wait returns, not before it waits");
            self.report(error.at(when.span).help("leave out `told_of`, or `when`"));
        }
    }

    fn not_empty(&mut self, steps: &[At<Step>], place: Span) {
        if steps.is_empty() {
            self.report(Diagnostic::error("no steps").at(place));
        }
    }

    fn send(&mut self, send: &'a Send) {
        let Some(peer) = self.actor(&send.from, "send", None, Kinds::Simulated) else {
            return;
        };
        let sender = Some((&send.from, peer.party));
        let errors = self.wrong.len();
        let Some(spec) = self.request_from(&send.message, send.channel.as_ref(), sender) else {
            if self.wrong.len() > errors
                && let Some(error) = self.wrong.last_mut()
                && error.message.contains("never sends")
            {
                error.help = Some("`raw` sends what the protocol forbids".to_owned());
            }
            return;
        };
        self.field_names(spec.name, spec.request, send.fields.iter().map(|(key, _)| key));
        for (path, node) in send.fields.iter() {
            self.value(
                &path.value,
                node,
                &Holds::at(&path.value, spec.request),
                Some((spec, Some(peer))),
            );
        }
        if let Some(value) = &send.value {
            self.plain_value(spec, false, spec.request, value.span);
            self.value("value", value, &Holds::in_value(spec.request), Some((spec, Some(peer))));
            if let Some((key, _)) = send.fields.iter().next() {
                let both = Diagnostic::error("`value` is the whole payload; there are no other fields").at(key.span);
                self.report(both.note(value.span, "the payload"));
            }
        }
    }

    fn raw(&mut self, raw: &Raw, place: Span) {
        self.actor(&raw.from, "raw", None, Kinds::Simulated);
        self.channel(raw.channel.as_ref());
        match (&raw.bytes, raw.header.is_some() || raw.payload.is_some()) {
            (None, false) => {
                let error = Diagnostic::error("`raw` sends nothing").at(place);
                self.report(error.help("give `bytes`, or `header` and `payload`"));
            }
            (Some(bytes), true) => {
                let error = Diagnostic::error("`bytes` are all bytes, header and payload included").at(bytes.span);
                self.report(error.help("give `bytes`, or `header` and `payload`"));
            }
            _ => {}
        }
    }

    fn reply(&mut self, reply: &'a Reply) {
        let Some(peer) = self.actor(&reply.from, "reply", None, Kinds::Simulated) else {
            return;
        };
        let sender = Some((&reply.from, peer.party));
        let Some(spec) = self.reply_from(&reply.to, reply.channel.as_ref(), sender) else {
            return;
        };
        let dialect = self.scenario.dialect();
        let same = |name: &At<String>| {
            crate::wire::find(dialect, &name.value, Some(spec.channel)).is_ok_and(|m| m.id == spec.id)
        };
        if !peer.decl.manual.iter().any(same) {
            let name = &peer.name.value;
            self.report(
                Diagnostic::error(format!("`{name}` answers {} by itself", spec.name))
                    .at(reply.to.span)
                    .note(peer.name.span, "declared here")
                    .help(format!(
                        "add `manual: [{}]` to `{name}` to answer it in a step",
                        spec.name
                    )),
            );
        }
        if let (Some(value), Some(status)) = (&reply.value, &reply.status) {
            let both = Diagnostic::error("`status` is the same as `value`; give one").at(status.span);
            self.report(both.note(value.span, "the other"));
        }
        let value = reply.value.as_ref().or(reply.status.as_ref());
        if let Some(payload) = &reply.payload
            && (value.is_some() || !reply.fields.is_empty())
        {
            let error = "`payload` is the whole reply; `value` and `fields` change the usual one";
            self.report(Diagnostic::error(error).at(payload.span));
        }
        self.field_names(
            &format!("the reply to {}", spec.name),
            spec.reply.layouts,
            reply.fields.iter().map(|(key, _)| key),
        );
        for (path, node) in reply.fields.iter() {
            let holds = Holds::at(&path.value, spec.reply.layouts);
            self.value(&path.value, node, &holds, Some((spec, Some(peer))));
        }
        if let Some(value) = value {
            self.plain_value(spec, true, spec.reply.layouts, value.span);
        }
    }

    fn ring(&mut self, ring: &RingStep) {
        self.actor(&ring.peer, "ring", FRONT, Kinds::Simulated);
        if ring.action.value == RingAction::Stop {
            return;
        }
        let of_stop = [
            ("as", ring.bind.as_ref().map(|b| b.span)),
            ("base", ring.base.as_ref().map(|b| b.span)),
        ];
        for (field, place) in of_stop {
            let Some(place) = place else { continue };
            let error = Diagnostic::error(format!("`{field}` is for `action: stop`, which returns a base")).at(place);
            self.report(error.note(ring.action.span, "another action"));
        }
    }

    fn memory(&mut self, memory: &MemoryStep) {
        self.actor(&memory.peer, "memory", FRONT, Kinds::Simulated);
        let (address, size) = match memory.action.value {
            MemoryAction::Add => (true, true),
            MemoryAction::Remove => (true, memory.size.is_some()),
            MemoryAction::Replace => (false, false),
        };
        let place = memory.action.span;
        self.wanted("address", address, memory.address.as_ref().map(|a| a.span), place);
        self.wanted("size", size, memory.size.as_ref().map(|s| s.span), place);
    }

    /// A field that an action needs, or has no use for.
    fn wanted(&mut self, field: &str, wanted: bool, given: Option<Span>, action: Span) {
        match (wanted, given) {
            (true, None) => self.report(Diagnostic::error(format!("this action needs `{field}`")).at(action)),
            (false, Some(place)) => {
                let error = Diagnostic::error(format!("`{field}` has no meaning for this action")).at(place);
                self.report(error.note(action, "the action"));
            }
            _ => {}
        }
    }

    fn blk(&mut self, blk: &Blk) {
        self.actor(&blk.peer, "blk", FRONT, Kinds::Started);
        let action = blk.action.span;
        if !matches!(blk.action.value, BlkAction::Read | BlkAction::Write) {
            self.wanted("fill", false, blk.fill.as_ref().map(|f| f.span), action);
        }
        let later = blk.wait.as_ref().is_some_and(|wait| !wait.value);
        match (&blk.bind, later) {
            (Some(name), false) => {
                let error =
                    Diagnostic::error("`as` names a request for `await`, and this step waits itself").at(name.span);
                self.report(error.help("add `wait: false`"));
            }
            (None, true) => {
                let place = blk.wait.as_ref().map_or(action, |w| w.span);
                let error = Diagnostic::error("nothing can await this request, it has no name").at(place);
                self.report(error.help("add `as: NAME`, and an `await` step"));
            }
            _ => {}
        }
    }

    fn driver(&mut self, driver: &Driver) {
        self.actor(&driver.peer, "driver", FRONT, Kinds::Qemu);
        let action = driver.action.span;
        let ring = driver.action.value == DriverAction::Notify;
        self.wanted("ring", ring, driver.ring.as_ref().map(|r| r.span), action);
        let pairs = driver.action.value == DriverAction::UsePairs;
        self.wanted("pairs", pairs, driver.pairs.as_ref().map(|p| p.span), action);
    }
}
