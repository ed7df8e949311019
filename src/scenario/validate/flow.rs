//! Bindings: what `as:` binds is used later, and what `${}` refers to is bound before. Works on the tree, where every
//! reference is a text, whatever the type it stands for.

use std::collections::BTreeMap;

use super::super::diagnostic::Diagnostic;
use super::super::plan::Plan;
use super::super::refs::{self, Expr, Piece, Segment};
use super::super::scalar::{Node, Ordered};
use super::super::span::{At, Span};
use super::super::suggest::did_you_mean;
use crate::wire::{Channel, Dialect};

pub(super) fn check(plan: &Plan, tree: &At<Node>) -> Vec<Diagnostic> {
    let mut flow = Flow {
        plan,
        bound: Vec::new(),
        wrong: Vec::new(),
    };
    let Node::Map(map) = &tree.value else { return Vec::new() };
    let nothing = Scope::new();
    let mut scope = Scope::new();
    for (key, value) in map.iter() {
        match key.value.as_str() {
            "steps" => flow.steps(value, &mut scope),
            "check" => {}
            _ => flow.references(value, &nothing),
        }
    }
    if let Some(check) = map.get("check") {
        flow.references(check, &scope);
    }
    for bound in flow.bound.iter().filter(|bound| !bound.used) {
        flow.wrong.push(
            Diagnostic::error(format!("unused binding `{}`", bound.name))
                .at(bound.span)
                .help(format!("write `${{{}}}` in a later step, or remove `as`", bound.name)),
        );
    }
    flow.wrong
}

/// The bindings that a name may mean at a point; several after a choice or after tracks.
type Scope = BTreeMap<String, Vec<usize>>;

struct Bound {
    name: String,
    span: Span,
    used: bool,
    /// The fields of the message that it is, as far as that is known.
    fields: Vec<&'static str>,
}

struct Flow<'a> {
    plan: &'a Plan,
    bound: Vec<Bound>,
    wrong: Vec<Diagnostic>,
}

impl Flow<'_> {
    fn steps(&mut self, list: &At<Node>, scope: &mut Scope) {
        let Node::List(steps) = &list.value else { return };
        for step in steps {
            let Node::Map(map) = &step.value else { continue };
            for (key, value) in map.iter() {
                self.step(&key.value, value, scope);
            }
        }
    }

    fn step(&mut self, name: &str, value: &At<Node>, scope: &mut Scope) {
        match (name, &value.value) {
            ("repeat", Node::Map(fields)) => {
                for (_, field) in fields.iter().filter(|(key, _)| key.value != "steps") {
                    self.references(field, scope);
                }
                self.bind(value, scope);
                if let Some(steps) = fields.get("steps") {
                    self.steps(steps, scope);
                }
            }
            ("sanity", _) => self.steps(value, scope),
            ("together", Node::Map(tracks)) => {
                let before = scope.clone();
                for (_, track) in tracks.iter() {
                    let mut own = before.clone();
                    self.steps(track, &mut own);
                    for (name, bound) in own {
                        let known = scope.entry(name).or_default();
                        known.extend(bound);
                        known.sort_unstable();
                        known.dedup();
                    }
                }
            }
            // Their `as` names a hold or a request, which have steps of their own to be used by; `never` has none.
            (
                "hold" | "hold_thread" | "blk" | "deliver" | "never" | "not_yet" | "drop" | "duplicate" | "reorder"
                | "join" | "split" | "alter",
                _,
            ) => self.references(value, scope),
            _ => {
                self.references(value, scope);
                self.bind(value, scope);
            }
        }
    }

    /// Binds every `as` of one step; the same name in several members of a choice is one binding.
    fn bind(&mut self, value: &At<Node>, scope: &mut Scope) {
        let mut names = Vec::new();
        binders(value, &mut names);
        let mut fresh: Scope = BTreeMap::new();
        for (name, span, fields) in names {
            if self.plan.parameters.contains_key(name) {
                let error = Diagnostic::error(format!("`{name}` is a parameter already")).at(span);
                let parameters = self.plan.scenario.parameters.iter();
                let declared = parameters
                    .filter(|(key, _)| key.value == *name)
                    .map(|(key, _)| key.span)
                    .next();
                self.wrong
                    .push(error.note(declared.unwrap_or_default(), "declared here"));
                continue;
            }
            fresh.entry(name.to_owned()).or_default().push(self.bound.len());
            self.bound.push(Bound {
                name: name.to_owned(),
                span,
                used: false,
                fields,
            });
        }
        scope.extend(fresh);
    }

    fn references(&mut self, node: &At<Node>, scope: &Scope) {
        match &node.value {
            Node::Text(text) => self.text(text, node.span, scope),
            Node::List(items) => items.iter().for_each(|item| self.references(item, scope)),
            Node::Map(map) => {
                for (key, value) in map.iter() {
                    self.text(&key.value, key.span, scope);
                    self.references(value, scope);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, span: Span, scope: &Scope) {
        if !text.contains("${") {
            return;
        }
        let pieces = match refs::parse(text) {
            Ok(pieces) => pieces,
            Err(error) => {
                self.wrong.push(Diagnostic::error(error.to_string()).at(span));
                return;
            }
        };
        for piece in pieces {
            let Piece::Expr(expr) = piece else { continue };
            match scope.get(&expr.name) {
                Some(bound) => {
                    bound.iter().for_each(|index| self.bound[*index].used = true);
                    self.field(&expr, bound, span);
                }
                None => self.unbound(&expr.name, span, scope),
            }
        }
    }

    /// A field that none of the messages has which the name may mean.
    fn field(&mut self, expr: &Expr, bound: &[usize], span: Span) {
        let Some(Segment::Field(field)) = expr.path.first() else {
            return;
        };
        let all = bound.iter().map(|index| &self.bound[*index]);
        if all
            .clone()
            .any(|b| b.fields.is_empty() || b.fields.contains(&field.as_str()))
        {
            return;
        }
        let known: Vec<&str> = all.clone().flat_map(|b| b.fields.iter().copied()).collect();
        let help =
            did_you_mean(field, known.iter().copied()).unwrap_or_else(|| format!("its fields: {}", known.join(", ")));
        let first = all.map(|b| b.span).next().unwrap_or_default();
        let error = format!("`{}` has no field `{field}`", expr.name);
        self.wrong
            .push(Diagnostic::error(error).at(span).note(first, "bound here").help(help));
    }

    fn unbound(&mut self, name: &str, span: Span, scope: &Scope) {
        let error = Diagnostic::error(format!("nothing is bound to `{name}` here")).at(span);
        let parameters = self.plan.parameters.keys();
        let known = scope.keys().chain(parameters).map(String::as_str);
        let help = did_you_mean(name, known)
            .unwrap_or_else(|| "bind it with `as:` in a step before, or declare a parameter".to_owned());
        self.wrong.push(error.help(help));
    }
}

/// The names that a step binds: `as` of its own map, of its members, of `when`.
fn binders<'n>(value: &'n At<Node>, out: &mut Vec<(&'n String, Span, Vec<&'static str>)>) {
    match &value.value {
        Node::List(items) => items.iter().for_each(|item| binders(item, out)),
        Node::Map(map) => {
            if let Some(At {
                value: Node::Text(name),
                span,
            }) = map.get("as")
            {
                out.push((name, *span, message_fields(map)));
            }
            if let Some(when) = map.get("when") {
                binders(when, out);
            }
        }
        _ => {}
    }
}

/// The fields of the message that a pattern is about; none if that is not known, or if it has none.
fn message_fields(pattern: &Ordered<At<Node>>) -> Vec<&'static str> {
    let text = |key: &str| match pattern.get(key).map(|node| &node.value) {
        Some(Node::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let channel = text("channel").map_or(Some(Channel::Main), |channel| channel.parse().ok());
    let find = |name: &str| crate::wire::find(Dialect::VhostUser, name, channel).ok();
    let layouts = match (text("message").and_then(find), text("reply_to").and_then(find)) {
        (Some(spec), None) => spec.request,
        (None, Some(spec)) => spec.reply.layouts,
        _ => return Vec::new(),
    };
    layouts.iter().flat_map(|layout| layout.field_names()).collect()
}
