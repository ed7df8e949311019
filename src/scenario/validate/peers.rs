//! The declarations of peers: one side each, features that exist, answers and manual requests that can come.

use crate::wire::{Channel, DeviceKind, Dialect, Party, UnknownFeature, features};

use super::super::diagnostic::Diagnostic;
use super::super::model::{Answer, ExitRule, FeatureChoice, PeerDecl};
use super::super::span::{At, Span};
use super::super::suggest::{did_you_mean, nearest};
use super::super::words::split_words;
use super::Cx;
use super::values::Holds;

/// How a peer comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Simulated,
    Process,
    External,
}

impl Kind {
    fn of(value: &str) -> Self {
        match value {
            "simulated" | super::pci::SERVER => Self::Simulated,
            path if path.starts_with("listen:") || path.starts_with("connect:") => Self::External,
            _ => Self::Process,
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Process => "a process of its own",
            Self::External => "a socket that someone else serves",
        }
    }
}

/// One declared peer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer<'a> {
    pub(super) name: &'a At<String>,
    pub(super) decl: &'a PeerDecl,
    pub(super) party: Party,
    pub(super) kind: Kind,
    /// What stands after `frontend:` or `backend:`.
    pub(super) value: &'a At<String>,
}

/// Names that a slip of the pen may have meant. Other words are names of the catalogue, which is not known here.
const BUILT_IN: [&str; 3] = ["simulated", "reference", super::pci::SERVER];

const SIGNALS: [&str; 17] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV",
    "SIGUSR2", "SIGPIPE", "SIGTERM", "SIGALRM", "SIGSTOP", "SIGCONT",
];

impl<'a> Cx<'a> {
    pub(super) fn declarations(&mut self) {
        for (name, decl) in self.scenario.peers.iter() {
            let (party, value) = match (&decl.frontend, &decl.backend) {
                (Some(front), None) => (Party::FrontEnd, front),
                (None, Some(back)) => (Party::BackEnd, back),
                (Some(front), Some(back)) => {
                    let error = format!("peer `{}` is a front-end and a back-end", name.value);
                    self.report(Diagnostic::error(error).at(back.span).note(front.span, "the other"));
                    (Party::FrontEnd, front)
                }
                (None, None) => {
                    let error = format!("peer `{}` is neither a front-end nor a back-end", name.value);
                    let help =
                        "write `frontend: simulated` or `backend: simulated`, or a program in place of `simulated`";
                    self.report(Diagnostic::error(error).at(name.span).help(help));
                    continue;
                }
            };
            let kind = Kind::of(&value.value);
            let peer = Peer {
                name,
                decl,
                party,
                kind,
                value,
            };
            self.peers.push(peer);
        }
        if self.scenario.peers.is_empty() {
            let id = self.scenario.scenario.span;
            self.report(Diagnostic::error("a scenario without peers shows nothing").at(id));
        }
        for peer in self.peers.clone() {
            self.declaration(peer);
        }
    }

    fn declaration(&mut self, peer: Peer<'a>) {
        self.program(peer);
        self.device(peer);
        self.belongs(peer);
        self.of_party(peer.decl, peer);
        self.sizes(peer.decl);
        self.dialect(peer);
        self.pci(peer);
        let kind = self.device_kind(peer);
        let dialect = self.scenario.dialect();
        if let Some(choice) = &peer.decl.features {
            self.choice(choice, &|name| virtio(kind, name));
        }
        if let Some(choice) = &peer.decl.protocol_features {
            self.choice(choice, &|name| features::parse_protocol_in(dialect, name).map(drop));
        }
        let channel = requests_to(peer.party);
        for request in &peer.decl.manual {
            self.message(request, Some(channel));
        }
        for (request, answer) in peer.decl.answers.iter() {
            self.message(request, Some(channel));
            self.answer(request, answer, channel);
        }
        if let Some(exit) = &peer.decl.exit {
            self.exit_rule(exit, peer.name.span);
        }
    }

    /// A dialect that exists, and the one that the other peers speak.
    fn dialect(&mut self, peer: Peer<'a>) {
        let Some(declared) = &peer.decl.dialect else { return };
        match declared.value.parse::<Dialect>() {
            Err(unknown) => {
                let error = Diagnostic::error(format!("there is no dialect `{}`", declared.value)).at(declared.span);
                let help = did_you_mean(&declared.value, Dialect::ALL.iter().map(|dialect| dialect.name()));
                self.report(error.help(help.unwrap_or_else(|| unknown.expected.to_owned())));
            }
            Ok(dialect) if dialect != self.scenario.dialect() => {
                let error = format!(
                    "another peer speaks {}; a scenario has one dialect",
                    self.scenario.dialect()
                );
                self.report(Diagnostic::error(error).at(declared.span));
            }
            Ok(_) => {}
        }
    }

    fn program(&mut self, peer: Peer<'a>) {
        let value = &peer.value.value;
        let path = ["listen:", "connect:"].iter().any(|scheme| value.starts_with(scheme));
        let command = !path && value.contains(char::is_whitespace);
        if command {
            self.placeholders(peer.value);
        }
        if let (true, Err(error)) = (command, split_words(value)) {
            self.report(Diagnostic::error(error).at(peer.value.span));
            return;
        }
        let no_path = ["listen:", "connect:"].contains(&value.trim());
        if no_path {
            self.report(Diagnostic::error(format!("`{value}` needs a path")).at(peer.value.span));
        } else if command && value.contains("{socket}") && value.contains("{fd}") {
            let error = Diagnostic::error("a command gets `{socket}` or `{fd}`, not both").at(peer.value.span);
            self.report(error.help("the peer would be waited for at one of them only"));
        } else if value.trim().is_empty() {
            self.report(Diagnostic::error("no program is named").at(peer.value.span));
        } else if command && !value.contains("{socket}") && !value.contains("{fd}") {
            self.report(
                Diagnostic::error("the command line says nothing of the socket")
                    .at(peer.value.span)
                    .help("put `{socket}` where the socket's path belongs, or `{fd}` for an open descriptor"),
            );
        } else if peer.kind == Kind::Process
            && !BUILT_IN.contains(&value.as_str())
            && let Some(meant) = nearest(value, BUILT_IN)
        {
            self.report(
                Diagnostic::error(format!("there is no program `{value}`"))
                    .at(peer.value.span)
                    .help(format!("did you mean `{meant}`?")),
            );
        }
    }

    fn device(&mut self, peer: Peer<'a>) {
        let Some(device) = &peer.decl.device else { return };
        let simulated = ["net", "blk", "generic"];
        if peer.kind == Kind::Simulated && !simulated.contains(&device.value.as_str()) {
            let error = Diagnostic::error(format!("there is no simulated device `{}`", device.value)).at(device.span);
            let help = did_you_mean(&device.value, simulated);
            self.report(error.help(help.unwrap_or_else(|| "one of: net, blk, generic".to_owned())));
        }
    }

    /// Fields that only one kind of peer can have.
    fn belongs(&mut self, peer: Peer<'a>) {
        let decl = peer.decl;
        let span = |at: Option<Span>| at.unwrap_or(peer.name.span);
        let scripted = [
            (
                !decl.manual.is_empty(),
                "manual",
                span(decl.manual.first().map(|m| m.span)),
            ),
            (
                !decl.answers.is_empty(),
                "answers",
                span(decl.answers.iter().next().map(|(k, _)| k.span)),
            ),
            (
                decl.config.is_some(),
                "config",
                span(decl.config.as_ref().map(|c| c.span)),
            ),
            // the embedded reference back-end always does that
            (
                decl.loopback && peer.value.value != "reference",
                "loopback",
                peer.name.span,
            ),
        ];
        for (_, field, place) in scripted
            .into_iter()
            .filter(|(given, ..)| *given && peer.kind != Kind::Simulated)
        {
            let error = format!(
                "`{field}` is for a simulated peer, and `{}` is {}",
                peer.name.value,
                peer.kind.words()
            );
            self.report(
                Diagnostic::error(error)
                    .at(place)
                    .note(peer.value.span, "declared here"),
            );
        }
        let of_process = [
            (decl.reconnect.as_ref().map(|r| r.span), "reconnect"),
            (decl.plugged.as_ref().map(|p| p.span), "plugged"),
            (decl.mtu.as_ref().map(|m| m.span), "mtu"),
            (decl.args.first().map(|a| a.span), "args"),
            (decl.exit.as_ref().map(|_| peer.name.span), "exit"),
        ];
        for (place, field) in of_process.into_iter().filter(|_| peer.kind != Kind::Process) {
            let Some(place) = place else { continue };
            let error = format!(
                "`{field}` is for a program, and `{}` is {}",
                peer.name.value,
                peer.kind.words()
            );
            self.report(Diagnostic::error(error).at(place));
        }
        if decl.memory.is_some() && peer.party == Party::BackEnd {
            let error = "guest memory is the front-end's; a back-end is given it";
            let place = decl.memory.as_ref().and_then(|m| m.size.as_ref().map(|s| s.span));
            self.report(Diagnostic::error(error).at(span(place)));
        }
    }

    fn choice(&mut self, choice: &FeatureChoice, look_up: &dyn Fn(&str) -> Result<(), UnknownFeature>) {
        let all = choice.only.iter().flatten().chain(&choice.with).chain(&choice.without);
        for name in all {
            if let Err(unknown) = look_up(&name.value) {
                self.unknown_feature(name, &unknown);
            }
        }
        if let (Some(only), Some(other)) = (&choice.only, choice.with.first().or(choice.without.first())) {
            let error =
                Diagnostic::error("`only` is the exact set; `with` and `without` change the default").at(other.span);
            let only = only.first().map_or(Span::default(), |o| o.span);
            self.report(error.note(only, "the exact set"));
        }
        let twice = |name: &&At<String>| choice.with.iter().any(|w| w.value == name.value);
        if let Some(both) = choice.without.iter().find(twice) {
            self.report(Diagnostic::error(format!("`{}` is in `with` and in `without`", both.value)).at(both.span));
        }
    }

    pub(super) fn unknown_feature(&mut self, name: &At<String>, unknown: &UnknownFeature) {
        let help = did_you_mean(&name.value, unknown.suggestions.iter().copied())
            .or_else(|| unknown.suggestions.first().map(|s| format!("did you mean `{s}`?")));
        self.report(
            Diagnostic::error(format!("no {} feature is called `{}`", unknown.what, name.value))
                .at(name.span)
                .maybe_help(help),
        );
    }

    fn answer(&mut self, request: &At<String>, answer: &Answer, channel: Channel) {
        let content = answer.value.is_some() || !answer.fields.is_empty() || answer.payload.is_some();
        let shape = [answer.silent, answer.close, answer.twice]
            .iter()
            .filter(|set| **set)
            .count();
        if shape > 1 || ((answer.silent || answer.close) && content) {
            let error = "an answer is silent, or closes the connection, or has content";
            self.report(Diagnostic::error(error).at(request.span));
        }
        self.header_words(answer.header.as_ref());
        if answer.payload.is_some() && (answer.value.is_some() || !answer.fields.is_empty()) {
            let error = "`payload` is the whole answer; `value` and `fields` change the usual one";
            self.report(Diagnostic::error(error).at(answer.payload.as_ref().map_or(request.span, |p| p.span)));
        }
        if let Ok(spec) = crate::wire::find(self.scenario.dialect(), &request.value, Some(channel)) {
            self.field_names(spec.name, spec.reply.layouts, answer.fields.iter().map(|(key, _)| key));
            for (path, node) in answer.fields.iter() {
                self.value(&path.value, node, &Holds::at(&path.value, spec.reply.layouts), None);
            }
        }
    }

    pub(super) fn exit_rule(&mut self, exit: &ExitRule, place: Span) {
        if let Some(signal) = &exit.signal {
            self.signal(signal);
        }
        self.exit_says(exit, place);
        self.within("status", exit.status.as_ref(), 0, 255);
        let status = exit.status.as_ref().map(|s| s.span);
        let given = [status, exit.signal.as_ref().map(|s| s.span)];
        if given.iter().flatten().count() + usize::from(exit.any) > 1 {
            let at = given.into_iter().flatten().next_back().unwrap_or(place);
            self.report(Diagnostic::error("a process ends with a status, by a signal, or in any way: give one").at(at));
        }
    }

    pub(super) fn signal(&mut self, signal: &At<String>) {
        if !SIGNALS.contains(&signal.value.as_str()) {
            let help = did_you_mean(&signal.value, SIGNALS);
            let error = Diagnostic::error(format!("there is no signal `{}`", signal.value)).at(signal.span);
            self.report(error.maybe_help(help));
        }
    }

    /// What decides the meaning of feature bits 0 to 23; the other side's device if the peer does not say.
    pub(super) fn device_kind(&self, peer: Peer<'a>) -> Option<DeviceKind> {
        let own = peer.decl.device.as_ref();
        let other = self.peers.iter().find_map(|p| p.decl.device.as_ref());
        own.or(other).map(|device| match device.value.as_str() {
            name if name.contains("net") => DeviceKind::Net,
            name if name.contains("blk") => DeviceKind::Blk,
            _ => DeviceKind::Other,
        })
    }
}

/// Looks a feature up; when no device is named, in all tables.
pub(super) fn virtio(kind: Option<DeviceKind>, name: &str) -> Result<(), UnknownFeature> {
    let kinds = match kind {
        Some(kind) => vec![kind],
        None => vec![DeviceKind::Net, DeviceKind::Blk, DeviceKind::Other],
    };
    let mut last = None;
    for kind in kinds {
        match features::parse_virtio(kind, name) {
            Ok(_) => return Ok(()),
            Err(unknown) => last = last.or(Some(unknown)),
        }
    }
    last.map_or(Ok(()), Err)
}

/// The channel on which a party gets requests.
pub(super) fn requests_to(party: Party) -> Channel {
    match party {
        Party::BackEnd => Channel::Main,
        Party::FrontEnd => Channel::Backend,
    }
}
