//! Fragments and parameters, on the tree: `use` steps become the steps of their fragment, `${parameter}` becomes its
//! value. Done before types are read, so that a parameter can stand for anything: a number, a message, a duration.
//!
//! Parameters are lexically scoped. A fragment of the scenario file sees the scenario's parameters and its own; a
//! fragment file sees its own only. Every use of a fragment gets a source of its own, so that its spans know their user.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::diagnostic::{Diagnostic, SourceFile};
use super::eval::pick;
use super::files;
use super::free::free_list;
use super::model::{Parameter, Use};
use super::read::{read, read_under};
use super::refs::{self, Expr, Piece};
use super::scalar::{Node, Ordered};
use super::span::{At, SourceId, Span};
use super::suggest::did_you_mean;
use super::yaml;

/// Deepest nesting of fragments that use fragments.
pub(super) const MAX_FRAGMENT_DEPTH: usize = 8;
/// Most `use` steps of one scenario, those inside fragments counted every time.
pub(super) const MAX_USES: usize = 1000;
/// Most values of one scenario after fragments and parameters are put in.
pub(super) const MAX_EXPANDED_NODES: usize = 200_000;

/// A fragment before its steps are read as steps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FragmentOutline {
    #[serde(default, rename = "about")]
    _about: Option<String>,
    #[serde(default)]
    pub(super) parameters: Ordered<Parameter>,
    #[serde(deserialize_with = "free_list")]
    steps: Vec<At<Node>>,
}

/// Values by name, and which were asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) values: BTreeMap<String, At<Node>>,
    pub(super) used: BTreeSet<String>,
}

pub(super) struct Expander<'a> {
    pub(super) sources: Vec<SourceFile>,
    pub(super) wrong: Vec<Diagnostic>,
    /// The scenario file's own fragments.
    fragments: &'a Ordered<At<Node>>,
    /// Those of them that a step uses.
    pub(super) used_fragments: BTreeSet<String>,
    /// The folder that fragment files must not leave; without one there are none.
    root: Option<&'a Path>,
    scope: Scope,
    /// Fragment files: their text, and the tree that it is.
    parsed: BTreeMap<PathBuf, (String, At<Node>)>,
    uses: usize,
    nodes: usize,
}

/// Where a list of steps stands: what its `use` steps can name.
#[derive(Clone)]
struct Place {
    /// The folder that file names are relative to.
    folder: Option<PathBuf>,
    /// Whether the scenario's own fragments can be named.
    own: bool,
    /// The fragments around, outermost first.
    chain: Vec<String>,
}

impl<'a> Expander<'a> {
    pub(super) fn new(
        scenario: SourceFile,
        fragments: &'a Ordered<At<Node>>,
        root: Option<&'a Path>,
        parameters: BTreeMap<String, At<Node>>,
    ) -> Self {
        Self {
            sources: vec![scenario],
            wrong: Vec::new(),
            fragments,
            used_fragments: BTreeSet::new(),
            root,
            scope: Scope {
                values: parameters,
                used: BTreeSet::new(),
            },
            parsed: BTreeMap::new(),
            uses: 0,
            nodes: 0,
        }
    }

    /// Replaces parameters in the whole scenario, and the `use` steps among its steps.
    pub(super) fn scenario(&mut self, tree: &mut At<Node>) {
        let Node::Map(map) = &mut tree.value else { return };
        let mut scope = std::mem::take(&mut self.scope);
        for (key, value) in map.0.iter_mut().filter(|(key, _)| key.value != "scenario") {
            self.substitute(value, &mut scope);
            if key.value == "steps" {
                self.scope.values.clone_from(&scope.values);
                let place = Place {
                    folder: self.sources[0].path.parent().map(Path::to_owned),
                    own: true,
                    chain: Vec::new(),
                };
                self.steps(value, &place);
            }
        }
        self.scope.values = scope.values;
        self.scope.used.append(&mut scope.used);
    }

    /// The scenario's parameters that nothing refers to.
    pub(super) fn unused_parameters(&self) -> impl Iterator<Item = &str> {
        let unused = |name: &&String| !self.scope.used.contains(*name);
        self.scope.values.keys().filter(unused).map(String::as_str)
    }

    /// Replaces the `use` steps of a list of steps whose parameters are already replaced.
    fn steps(&mut self, list: &mut At<Node>, place: &Place) {
        let Node::List(items) = &mut list.value else { return };
        let mut out = Vec::with_capacity(items.len());
        for mut step in std::mem::take(items) {
            let Node::Map(map) = &mut step.value else {
                out.push(step);
                continue;
            };
            match map.0.as_mut_slice() {
                [(key, value)] if key.value == "use" => {
                    let used = read_under::<Use>(Some(key), value, &self.sources);
                    let uses = used.and_then(each_use);
                    let steps = uses.and_then(|uses| {
                        let one = |used: &Use| self.fragment(used, place);
                        uses.iter().map(one).collect::<Result<Vec<_>, _>>()
                    });
                    match steps {
                        Ok(steps) => out.extend(steps.into_iter().flatten()),
                        Err(error) => self.wrong.push(error),
                    }
                    continue;
                }
                [(key, value)] => match (key.value.as_str(), &mut value.value) {
                    ("repeat", Node::Map(fields)) => {
                        let inner = fields.0.iter_mut().filter(|(key, _)| key.value == "steps");
                        inner.for_each(|(_, steps)| self.steps(steps, place));
                    }
                    ("sanity", _) => self.steps(value, place),
                    ("together", Node::Map(tracks)) => {
                        tracks.0.iter_mut().for_each(|(_, steps)| self.steps(steps, place));
                    }
                    _ => {}
                },
                _ => {}
            }
            out.push(step);
        }
        *items = out;
    }

    /// The steps that a `use` stands for.
    fn fragment(&mut self, used: &Use, place: &Place) -> Result<Vec<At<Node>>, Diagnostic> {
        let name = &used.fragment;
        self.uses += 1;
        if self.uses > MAX_USES + 1 {
            return Ok(Vec::new());
        }
        if self.uses > MAX_USES {
            return Err(Diagnostic::error(format!("more than {MAX_USES} uses of fragments")).at(name.span));
        }
        let (label, inner, tree) = self.find(name, place)?;
        let outline: FragmentOutline = read(&tree, &self.sources)?;
        let mut scope = self.bind(used, &outline, &inner)?;
        let own: BTreeSet<&str> = outline.parameters.keys().collect();
        let mut steps = At {
            value: Node::List(outline.steps.clone()),
            span: tree.span,
        };
        self.substitute(&mut steps, &mut scope);
        for (key, _) in outline
            .parameters
            .iter()
            .filter(|(key, _)| !scope.used.contains(&key.value))
        {
            self.wrong.push(
                Diagnostic::error(format!("parameter `{}` of fragment `{label}` is not used", key.value)).at(key.span),
            );
        }
        let outer = scope.used.iter().filter(|name| !own.contains(name.as_str())).cloned();
        self.scope.used.extend(outer);
        self.steps(&mut steps, &inner);
        match steps.value {
            Node::List(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Finds a fragment: its label, where its own steps stand, and its tree with spans of a new source.
    fn find(&mut self, name: &At<String>, place: &Place) -> Result<(String, Place, At<Node>), Diagnostic> {
        let here = |error: Diagnostic| error.at(name.span);
        let source = SourceId::try_from(self.sources.len()).expect("uses are bounded by MAX_USES");
        let own = self.fragments.get(&name.value).filter(|_| place.own);
        let (label, mut inner, tree) = if let Some(tree) = own {
            self.used_fragments.insert(name.value.clone());
            let mut tree = tree.clone();
            let scenario = self.sources[0].clone();
            self.sources.push(SourceFile {
                used_at: Some(name.span),
                ..scenario
            });
            retag(&mut tree, source);
            (name.value.clone(), place.clone(), tree)
        } else if name.value.ends_with(".yaml") || name.value.ends_with(".yml") {
            let (Some(root), Some(folder)) = (self.root, &place.folder) else {
                return Err(here(Diagnostic::error(
                    "fragment files can be used only by a scenario file",
                )));
            };
            let file = files::fragment(root, folder, &name.value).map_err(here)?;
            let inner = Place {
                folder: file.path.parent().map(Path::to_owned),
                own: false,
                chain: place.chain.clone(),
            };
            self.sources.push(SourceFile {
                path: file.path,
                text: Arc::from(file.text.as_str()),
                used_at: Some(name.span),
            });
            // a fragment that is used for each of many values is parsed once
            let path = self
                .sources
                .last()
                .map(|source| source.path.clone())
                .unwrap_or_default();
            let tree = match self.parsed.get(&path) {
                Some((text, tree)) if *text == file.text => {
                    let mut tree = tree.clone();
                    retag(&mut tree, source);
                    tree
                }
                _ => {
                    let tree = yaml::parse(source, &file.text).map_err(|mut errors| errors.swap_remove(0))?;
                    self.parsed.insert(path, (file.text.clone(), tree.clone()));
                    tree
                }
            };
            (file.label, inner, tree)
        } else {
            let known = self.fragments.keys().filter(|_| place.own);
            let unknown = Diagnostic::error(format!("there is no fragment `{}`", name.value));
            return Err(here(match did_you_mean(&name.value, known) {
                Some(help) => unknown.help(help),
                None => {
                    unknown.help("fragments of this file are listed under `fragments`; a fragment file ends in `.yaml`")
                }
            }));
        };
        if inner.chain.contains(&label) {
            inner.chain.push(label);
            let circle = inner.chain.join(" -> ");
            return Err(here(Diagnostic::error(format!(
                "fragments use each other in a circle: {circle}"
            ))));
        }
        inner.chain.push(label.clone());
        if inner.chain.len() > MAX_FRAGMENT_DEPTH {
            let chain = inner.chain.join(" -> ");
            return Err(here(Diagnostic::error(format!(
                "fragments are nested deeper than {MAX_FRAGMENT_DEPTH}: {chain}"
            ))));
        }
        Ok((label, inner, tree))
    }

    /// The scope of a fragment's steps: what `with` says, else the defaults.
    fn bind(&mut self, used: &Use, outline: &FragmentOutline, inner: &Place) -> Result<Scope, Diagnostic> {
        let mut scope = Scope::default();
        if inner.own {
            scope.values.clone_from(&self.scope.values);
        }
        let name = &used.fragment.value;
        for (key, _) in used.with.iter() {
            if outline.parameters.get(&key.value).is_none() {
                let error = Diagnostic::error(format!("fragment `{name}` has no parameter `{}`", key.value));
                let help = did_you_mean(&key.value, outline.parameters.keys());
                return Err(error.at(key.span).maybe_help(help));
            }
        }
        for (key, parameter) in outline.parameters.iter() {
            if let Some(first) = parameter
                .values
                .as_ref()
                .map(|values| values.first().map_or(key.span, |v| v.span))
            {
                let error = Diagnostic::error("a fragment's parameter cannot have `values`").at(first);
                return Err(error.help("give the scenario a parameter with `values` and pass it on in `with`"));
            }
            let value = used
                .with
                .get(&key.value)
                .or(parameter.default.as_ref())
                .ok_or_else(|| {
                    Diagnostic::error(format!("fragment `{name}` needs a value for `{}`", key.value))
                        .at(used.fragment.span)
                        .note(key.span, "declared here, without a default")
                        .help(format!("add `with: {{{}: ...}}`", key.value))
                })?;
            scope.values.insert(key.value.clone(), value.clone());
        }
        Ok(scope)
    }

    /// Replaces references to names of the scope; other references stay for the run.
    fn substitute(&mut self, node: &mut At<Node>, scope: &mut Scope) {
        self.nodes += 1;
        if self.nodes > MAX_EXPANDED_NODES {
            if self.nodes == MAX_EXPANDED_NODES + 1 {
                self.wrong.push(Diagnostic::error(format!(
                    "more than {MAX_EXPANDED_NODES} values after fragments and parameters are put in"
                )));
            }
            return;
        }
        match &mut node.value {
            Node::Text(text) if text.contains("${") => match self.text(text, node.span, scope) {
                Ok(value) => node.value = value,
                Err(error) => self.wrong.push(error),
            },
            Node::List(items) => items.iter_mut().for_each(|item| self.substitute(item, scope)),
            Node::Map(map) => {
                for (key, value) in &mut map.0 {
                    if key.value.contains("${") {
                        match self.text(&key.value, key.span, scope) {
                            Ok(name) => key.value = name.to_string(),
                            Err(error) => self.wrong.push(error),
                        }
                    }
                    self.substitute(value, scope);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, span: Span, scope: &mut Scope) -> Result<Node, Diagnostic> {
        let pieces = refs::parse(text).map_err(|e| Diagnostic::error(e.to_string()).at(span))?;
        let mut out = String::new();
        let alone = pieces.len() == 1;
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(&text),
                Piece::Expr(expr) => {
                    let Some(value) = scope.values.get(&expr.name) else {
                        out.push_str(&expr.to_string());
                        continue;
                    };
                    scope.used.insert(expr.name.clone());
                    let value = apply(&expr, &value.value, span)?;
                    if alone {
                        self.nodes += count(&value);
                        return Ok(value);
                    }
                    out.push_str(&value.to_string());
                }
            }
        }
        Ok(Node::Text(out))
    }
}

/// The uses that one with `each` stands for, the last parameter changing fastest.
fn each_use(used: Use) -> Result<Vec<Use>, Diagnostic> {
    let mut uses = vec![Use {
        fragment: used.fragment.clone(),
        with: used.with.clone(),
        each: Ordered::default(),
    }];
    for (name, values) in used.each.iter() {
        if used.with.get(&name.value).is_some() {
            let error = Diagnostic::error(format!(
                "`{}` has one value in `with` and several in `each`",
                name.value
            ));
            return Err(error.at(name.span));
        }
        if values.is_empty() {
            return Err(Diagnostic::error(format!("`{}` has no values", name.value)).at(name.span));
        }
        if uses.len().saturating_mul(values.len()) > MAX_USES {
            return Err(Diagnostic::error(format!("more than {MAX_USES} uses of fragments")).at(name.span));
        }
        let one = |used: &Use, value: &At<Node>| {
            let mut used = used.clone();
            used.with.0.push((name.clone(), value.clone()));
            used
        };
        uses = uses
            .iter()
            .flat_map(|used| values.iter().map(|value| one(used, value)))
            .collect();
    }
    Ok(uses)
}

/// A parameter's value as an expression wants it. A value that is itself a reference to a binding of the run takes the
/// expression's path and number on.
fn apply(expr: &Expr, value: &Node, span: Span) -> Result<Node, Diagnostic> {
    if let Node::Text(text) = value
        && let Ok([Piece::Expr(inner)]) = refs::parse(text).as_deref()
    {
        let mut inner = inner.clone();
        if inner.offset != 0 && !expr.path.is_empty() {
            return Err(Diagnostic::error(format!("`{expr}` goes into `{inner}`, which is a number")).at(span));
        }
        inner.path.extend(expr.path.iter().cloned());
        inner.offset += expr.offset;
        return Ok(Node::Text(inner.to_string()));
    }
    pick(value, expr, span)
}

fn count(node: &Node) -> usize {
    match node {
        Node::List(items) => 1 + items.iter().map(|item| count(&item.value)).sum::<usize>(),
        Node::Map(map) => 1 + map.iter().map(|(_, value)| count(&value.value)).sum::<usize>(),
        _ => 1,
    }
}

fn retag(node: &mut At<Node>, source: SourceId) {
    node.span.source = source;
    match &mut node.value {
        Node::List(items) => items.iter_mut().for_each(|item| retag(item, source)),
        Node::Map(map) => {
            for (key, value) in &mut map.0 {
                key.span.source = source;
                retag(value, source);
            }
        }
        _ => {}
    }
}
