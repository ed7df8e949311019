//! From a file to plans: text, tree, families, fragments and parameters, types, names. Collects what is wrong on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::diagnostic::{Diagnostic, Diagnostics, SourceFile};
use super::expand::{Expander, FragmentOutline};
use super::files;
use super::free::{free_list, free_map};
use super::model::{Check, Parameter, PeerDecl, Scenario, Step};
use super::plan::{Plan, Settings};
use super::read::{read, read_under};
use super::scalar::{Duration, Node, Ordered};
use super::span::{At, Span};
use super::traces;
use super::validate;
use super::yaml;

/// Most diagnostics that one file gets.
pub const MAX_DIAGNOSTICS: usize = 20;
/// Deepest nesting after fragments and parameters are put in.
pub const MAX_EXPANDED_DEPTH: usize = 32;
/// Most members of a family.
pub const MAX_MEMBERS: usize = 64;

/// The scenario before its steps are read as steps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outline {
    scenario: At<String>,
    #[serde(rename = "about")]
    _about: At<String>,
    #[serde(default, rename = "covers")]
    _covers: Vec<At<String>>,
    #[serde(default, rename = "allow")]
    _allow: Vec<At<String>>,
    #[serde(default, rename = "tags")]
    _tags: Vec<At<String>>,
    #[serde(default, rename = "expected_fail")]
    _expected_fail: Option<At<Node>>,
    #[serde(default)]
    parameters: Ordered<Parameter>,
    #[serde(default, deserialize_with = "free_map")]
    fragments: Ordered<At<Node>>,
    #[serde(rename = "peers", deserialize_with = "free_map")]
    _peers: Ordered<At<Node>>,
    #[serde(default, rename = "timeout")]
    _timeout: Option<At<Node>>,
    #[serde(rename = "steps", deserialize_with = "free_list")]
    _steps: Vec<At<Node>>,
    #[serde(default, rename = "check", deserialize_with = "free_list")]
    _check: Vec<At<Node>>,
}

/// Loads a scenario file: one plan, or one for each member of a family. Fragment files are found relative to the file
/// that uses them, and must stay below the nearest folder called `scenarios` (without one: the file's own).
///
/// # Errors
/// Everything that is found wrong, at most [`MAX_DIAGNOSTICS`].
pub fn load_file(path: &Path, settings: &Settings) -> Result<Vec<Plan>, Diagnostics> {
    let alone = |error: Diagnostic| Diagnostics {
        items: vec![if error.file.is_some() {
            error
        } else {
            error.in_file(path)
        }],
        sources: Vec::new(),
    };
    let text = files::text(path).map_err(alone)?;
    let root = files::root(path);
    let mut plans = Loader::new(path, &text, root).load(settings)?;
    if let Some(plan) = plans.first_mut()
        && let Some(error) = validate::id_and_path(&plan.scenario.scenario, files::id_of(path))
    {
        return Err(Diagnostics {
            items: vec![error],
            sources: std::mem::take(&mut plan.sources),
        });
    }
    Ok(plans)
}

/// Loads a scenario from text. Fragment files cannot be used, and the id is compared with no path.
///
/// # Errors
/// As [`load_file`].
pub fn load_str(name: &str, text: &str, settings: &Settings) -> Result<Vec<Plan>, Diagnostics> {
    Loader::new(Path::new(name), text, None).load(settings)
}

/// Reads any other YAML file into a type whose values are [`At`]s, with diagnostics of the same form.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read_as<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<(T, Vec<SourceFile>), Diagnostics> {
    let sources = vec![SourceFile {
        path: path.to_owned(),
        text: Arc::from(text),
        used_at: None,
    }];
    let result = yaml::parse(0, text).and_then(|tree| read(&tree, &sources).map_err(|e| vec![e]));
    match result {
        Ok(value) => Ok((value, sources)),
        Err(items) => Err(Diagnostics { items, sources }),
    }
}

/// Names of `--set` that none of the plans has as a parameter.
pub fn unknown_settings(settings: &Settings, plans: &[Plan]) -> Vec<String> {
    let known = |name: &String| plans.iter().any(|plan| plan.parameters.contains_key(name));
    settings.set.keys().filter(|name| !known(name)).cloned().collect()
}

/// One member of a family: what its id ends in, and the value of every parameter.
struct Member {
    suffix: String,
    values: BTreeMap<String, At<Node>>,
}

struct Loader<'a> {
    path: &'a Path,
    source: SourceFile,
    root: Option<PathBuf>,
}

impl<'a> Loader<'a> {
    fn new(path: &'a Path, text: &str, root: Option<PathBuf>) -> Self {
        let source = SourceFile {
            path: path.to_owned(),
            text: Arc::from(text),
            used_at: None,
        };
        Self { path, source, root }
    }

    fn load(&self, settings: &Settings) -> Result<Vec<Plan>, Diagnostics> {
        let sources = || vec![self.source.clone()];
        let first = |items| bounded(items, sources());
        let tree = yaml::parse(0, &self.source.text).map_err(|errors| {
            let placed = |e: Diagnostic| if e.span.is_none() { e.in_file(self.path) } else { e };
            first(errors.into_iter().map(placed).collect())
        })?;
        if tree.value == Node::Null {
            return Err(first(vec![
                Diagnostic::error("the file holds no scenario").in_file(&files::behind(self.path, "")),
            ]));
        }
        let outline: Outline = read(&tree, &sources()).map_err(|error| {
            let mut all = vec![error];
            all.append(&mut parts_wrong(&tree, &sources(), true));
            first(all)
        })?;
        let wrong = fragments_wrong(&outline, &sources());
        if !wrong.is_empty() {
            return Err(first(wrong));
        }
        let members = members(&outline, settings).map_err(first)?;
        members.into_iter().map(|m| self.member(&tree, &outline, m)).collect()
    }

    fn member(&self, tree: &At<Node>, outline: &Outline, member: Member) -> Result<Plan, Diagnostics> {
        let parameters = member
            .values
            .iter()
            .map(|(k, v)| (k.clone(), v.value.clone()))
            .collect();
        let root = self.root.as_deref();
        let mut expander = Expander::new(self.source.clone(), &outline.fragments, root, member.values);
        let mut tree = tree.clone();
        if let Node::Map(map) = &mut tree.value {
            map.0
                .retain(|(key, _)| key.value != "parameters" && key.value != "fragments");
        }
        expander.scenario(&mut tree);
        let mut wrong = std::mem::take(&mut expander.wrong);
        if let Some(place) = deeper_than(&tree, MAX_EXPANDED_DEPTH) {
            let error = format!("nested deeper than {MAX_EXPANDED_DEPTH} maps and lists, fragments put in");
            wrong.push(Diagnostic::error(error).at(place));
            return Err(bounded(wrong, expander.sources));
        }
        wrong.append(&mut parts_wrong(&tree, &expander.sources, false));
        let mut unused = unused(&expander, outline);
        let sources = expander.sources;
        let plan = |scenario: Scenario| Plan {
            id: format!("{}{}", scenario.scenario.value, member.suffix),
            scenario,
            parameters,
            sources: sources.clone(),
            path: self.path.to_owned(),
            traces: BTreeMap::new(),
        };
        let mut plan = match read::<Scenario>(&tree, &sources) {
            Ok(scenario) if wrong.is_empty() => plan(scenario),
            result => {
                wrong.extend(result.err());
                if let Ok(rest) = read::<Scenario>(&readable(&tree, &sources), &sources) {
                    wrong.append(&mut validate::parts(&plan(rest)));
                }
                return Err(bounded(wrong, sources));
            }
        };
        plan.scenario.parameters = outline.parameters.clone();
        wrong.append(&mut validate::validate(&plan, &tree));
        wrong.append(&mut traces::read(&mut plan));
        wrong.append(&mut unused);
        match wrong.is_empty() {
            true => Ok(plan),
            false => Err(bounded(wrong, plan.sources)),
        }
    }
}

/// Reads every peer, step and check on its own, so that an error in one does not hide those in others. `loosely`:
/// parameters and fragments are not yet put in, so what holds a reference or a `use` is left out.
fn parts_wrong(tree: &At<Node>, sources: &[SourceFile], loosely: bool) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    let Node::Map(map) = &tree.value else { return wrong };
    let skip = |node: &At<Node>| loosely && has_reference(node);
    for (key, value) in map.iter() {
        match (key.value.as_str(), &value.value) {
            ("peers", Node::Map(peers)) => {
                let peers = peers.iter().filter(|(_, peer)| !skip(peer));
                wrong.extend(peers.filter_map(|(name, peer)| read_under::<PeerDecl>(Some(name), peer, sources).err()));
            }
            ("steps", Node::List(steps)) => {
                let steps = steps.iter().filter(|step| !skip(step));
                wrong.extend(steps.filter_map(|step| read::<At<Step>>(step, sources).err()));
            }
            ("check", Node::List(checks)) => {
                let checks = checks.iter().filter(|check| !skip(check));
                wrong.extend(checks.filter_map(|check| read::<At<Check>>(check, sources).err()));
            }
            ("timeout", _) if !skip(value) => {
                wrong.extend(read_under::<At<Duration>>(Some(key), value, sources).err());
            }
            _ => {}
        }
    }
    wrong
}

/// The scenario without the steps and checks that cannot be read, so that the others can be looked at.
fn readable(tree: &At<Node>, sources: &[SourceFile]) -> At<Node> {
    let mut tree = tree.clone();
    let Node::Map(map) = &mut tree.value else { return tree };
    for (key, value) in &mut map.0 {
        match (key.value.as_str(), &mut value.value) {
            ("steps", Node::List(steps)) => steps.retain(|step| read::<At<Step>>(step, sources).is_ok()),
            ("check", Node::List(checks)) => checks.retain(|check| read::<At<Check>>(check, sources).is_ok()),
            _ => {}
        }
    }
    tree
}

/// The first map or list that is nested deeper.
fn deeper_than(node: &At<Node>, levels: usize) -> Option<Span> {
    let inner = |child: &At<Node>| deeper_than(child, levels - 1);
    match &node.value {
        Node::List(_) | Node::Map(_) if levels == 0 => Some(node.span),
        Node::List(items) => items.iter().find_map(inner),
        Node::Map(map) => map.iter().find_map(|(_, value)| inner(value)),
        _ => None,
    }
}

fn has_reference(node: &At<Node>) -> bool {
    match &node.value {
        Node::Text(text) => text.contains("${"),
        Node::List(items) => items.iter().any(has_reference),
        Node::Map(map) => map.iter().any(|(_, value)| has_reference(value)),
        _ => false,
    }
}

/// What is wrong with the fragments of the file themselves, used or not.
fn fragments_wrong(outline: &Outline, sources: &[SourceFile]) -> Vec<Diagnostic> {
    let fragments = outline.fragments.iter();
    let result = fragments.map(|(name, tree)| read_under::<FragmentOutline>(Some(name), tree, sources));
    result.filter_map(Result::err).collect()
}

fn unused(expander: &Expander, outline: &Outline) -> Vec<Diagnostic> {
    let key =
        |map: Vec<&At<String>>, name: &str| map.iter().find(|k| k.value == name).map_or(Span::default(), |k| k.span);
    let parameters: Vec<_> = outline.parameters.iter().map(|(key, _)| key).collect();
    let mut wrong: Vec<Diagnostic> = expander
        .unused_parameters()
        .map(|name| {
            Diagnostic::error(format!("parameter `{name}` is not used"))
                .at(key(parameters.clone(), name))
                .help(format!("write `${{{name}}}` where its value belongs, or remove it"))
        })
        .collect();
    for (name, _) in outline.fragments.iter() {
        if !expander.used_fragments.contains(&name.value) {
            wrong.push(Diagnostic::error(format!("fragment `{}` is not used", name.value)).at(name.span));
        }
    }
    wrong
}

/// The members of a family: every combination of `values`, the last parameter changing fastest.
fn members(outline: &Outline, settings: &Settings) -> Result<Vec<Member>, Vec<Diagnostic>> {
    let mut members = vec![Member {
        suffix: String::new(),
        values: BTreeMap::new(),
    }];
    let mut wrong = Vec::new();
    for (name, parameter) in outline.parameters.iter() {
        let choices = match choices(name, parameter, settings) {
            Ok(choices) => choices,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        if members.len() * choices.len() > MAX_MEMBERS {
            wrong.push(Diagnostic::error(format!("the family has more than {MAX_MEMBERS} members")).at(name.span));
            break;
        }
        let named = parameter.values.is_some();
        members = members
            .iter()
            .flat_map(|member| {
                choices
                    .iter()
                    .map(move |choice| with(member, &name.value, choice, named))
            })
            .collect();
    }
    for member in &mut members {
        if !member.suffix.is_empty() {
            member.suffix = format!("[{}]", member.suffix);
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = members.iter().find(|m| !seen.insert(m.suffix.clone())) {
        wrong.push(
            Diagnostic::error(format!("two members of the family are `{}`", twice.suffix)).at(outline.scenario.span),
        );
    }
    if wrong.is_empty() { Ok(members) } else { Err(wrong) }
}

fn with(member: &Member, name: &str, choice: &At<Node>, named: bool) -> Member {
    let mut values = member.values.clone();
    values.insert(name.to_owned(), choice.clone());
    let mut suffix = member.suffix.clone();
    if named {
        let comma = if suffix.is_empty() { "" } else { "," };
        suffix = format!("{suffix}{comma}{name}={}", choice.value);
    }
    Member { suffix, values }
}

/// The values of one parameter: what `--set` says, else its `values`, else its default.
fn choices(name: &At<String>, parameter: &Parameter, settings: &Settings) -> Result<Vec<At<Node>>, Diagnostic> {
    if let Some(text) = settings.set.get(&name.value) {
        let value = yaml::parse(0, text).ok().filter(|value| value.value != Node::Null);
        let wrong = || Diagnostic::error(format!("`{text}` is not a value for `{}`", name.value)).at(name.span);
        return Ok(vec![At::nowhere(value.ok_or_else(wrong)?.value)]);
    }
    match (&parameter.default, &parameter.values) {
        (Some(default), None) => Ok(vec![default.clone()]),
        (None, Some(values)) if !values.is_empty() => match values.iter().find(|value| !fits_an_id(&value.value)) {
            Some(wrong) => Err(Diagnostic::error("this cannot be part of a member's id")
                .at(wrong.span)
                .help("the values of a family are numbers, or text without brackets and commas")),
            None => Ok(values.clone()),
        },
        (None, Some(_)) => Err(Diagnostic::error(format!("parameter `{}` has no values", name.value)).at(name.span)),
        (Some(default), Some(_)) => Err(Diagnostic::error(format!(
            "parameter `{}` has `default` and `values`",
            name.value
        ))
        .at(default.span)
        .help("`values` makes a family, one run for each; `default` is one value that `--set` can change")),
        (None, None) => Err(Diagnostic::error(format!("parameter `{}` has no value", name.value))
            .at(name.span)
            .help("give it a `default`, or `values` to run once for each")),
    }
}

fn fits_an_id(value: &Node) -> bool {
    match value {
        Node::Text(text) => !text.contains(['[', ']', ',', '\n']) && !text.contains("${"),
        Node::Bool(_) | Node::Number(_) | Node::Negative(_) | Node::Float(_) => true,
        Node::Null | Node::List(_) | Node::Map(_) => false,
    }
}

/// Sorts by place, keeps one error a place (others follow from it, or come from a fragment used twice), cuts to the limit.
fn bounded(mut items: Vec<Diagnostic>, sources: Vec<SourceFile>) -> Diagnostics {
    let place = |d: &Diagnostic| {
        d.span
            .map(|s| (sources.get(s.source as usize).map(|f| f.path.clone()), s.offset))
    };
    items.sort_by_key(|d| d.span.map(|s| s.source));
    let mut seen = BTreeSet::new();
    items.retain(|d| d.span.is_none() || seen.insert(place(d)));
    items.sort_by_key(|d| d.span.map(|s| (s.source, s.offset)));
    if items.len() > MAX_DIAGNOSTICS {
        let more = items.len() - MAX_DIAGNOSTICS + 1;
        items.truncate(MAX_DIAGNOSTICS - 1);
        items.push(Diagnostic::error(match items.len() + more < 100 {
            true => format!("{more} more errors are not shown"),
            false => "many more errors are not shown".to_owned(),
        }));
    }
    Diagnostics { items, sources }
}
