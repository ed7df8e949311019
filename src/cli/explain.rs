//! `vuh explain`: a requirement and what covers it; a message; a protocol feature.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::exit::Exit;
use super::fault::UsageError;
use crate::report::Console;
use crate::report::style::Ink;
use crate::scenario::{Settings, load_file};
use crate::spec::{self, Basis, Requirement, Testable};
use crate::suite::coverage::coverage;
use crate::suite::find_files;
use crate::wire::{self, Channel, Dialect, MessageSpec, ProtocolFeature};

/// Columns that long sentences are broken to.
const WIDTH_COLUMNS: usize = 100;

/// Options of `vuh explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A requirement (VU-CFG-02), an area (VU-CFG), a message (GET_CONFIG, or its number) or a protocol feature (REPLY_ACK)
    name: String,
    /// The folder whose scenarios are searched [default: scenarios]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut Console) -> anyhow::Result<Exit> {
    let name = args.name.trim().to_uppercase();
    if name.starts_with("VU-") || name == "VU" {
        let covered = covered(args);
        let area: Vec<&Requirement> = spec::all()
            .iter()
            .filter(|r| r.id.strip_prefix(&name).is_some_and(|rest| rest.starts_with('-')))
            .collect();
        if area.is_empty() {
            let requirement = spec::requirement(&name).map_err(|e| UsageError::Unknown(e.to_string()))?;
            show_requirement(requirement, covered.as_ref(), out);
        } else {
            show_area(&area, covered.as_ref(), out);
        }
        return Ok(Exit::Passed);
    }
    if let Ok(id) = name.parse() {
        let both = Channel::ALL.map(|channel| wire::spec(Dialect::VhostUser, channel, id));
        let found: Vec<_> = both.into_iter().flatten().collect();
        if found.is_empty() {
            let error = format!("no message has the number {id}");
            return Err(UsageError::Unknown(error).into());
        }
        for (at, message) in found.into_iter().enumerate() {
            if at > 0 {
                out.line("");
            }
            show_message(message, out);
        }
        return Ok(Exit::Passed);
    }
    let message = wire::find(Dialect::VhostUser, &name, None);
    let bit = wire::features::parse_protocol(&name)
        .ok()
        .and_then(ProtocolFeature::from_bit);
    match (message, bit) {
        (Ok(message), _) => show_message(message, out),
        (Err(_), Some(feature)) => show_feature(feature, out),
        (Err(error), None) => return Err(UsageError::Unknown(unknown(&args.name, &error.suggestions)).into()),
    }
    Ok(Exit::Passed)
}

fn unknown(name: &str, messages: &[&'static str]) -> String {
    let feature = wire::features::parse_protocol(name).err();
    let features = feature.iter().flat_map(|error| error.suggestions.iter().copied());
    let near: Vec<&str> = messages.iter().copied().chain(features).collect();
    let hint = if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", near.join(" or "))
    };
    format!("no requirement, message or protocol feature is called `{name}`{hint}")
}

/// What covers which requirement; `None` if there are no scenarios here. Files with errors are left to `vuh lint`.
fn covered(args: &Args) -> Option<BTreeMap<String, Vec<String>>> {
    let files = find_files(&[], args.root.as_deref()).ok()?;
    let plans: Vec<_> = files
        .iter()
        .filter_map(|f| load_file(&f.path, &Settings::default()).ok())
        .flatten()
        .collect();
    Some(coverage(&plans))
}

fn show_requirement(requirement: &Requirement, covered: Option<&BTreeMap<String, Vec<String>>>, out: &mut Console) {
    let Requirement {
        id,
        level,
        party,
        section,
        text,
        testable,
        basis,
        devices,
    } = requirement;
    let id_shown = out.style().paint(Ink::Strong, id);
    out.line(format_args!("{id_shown}  {level}  {party}"));
    for line in wrapped(text, WIDTH_COLUMNS) {
        out.line(format_args!("  {line}"));
    }
    out.line("");
    out.line(format_args!("section     {section}"));
    if devices != "any" {
        out.line(format_args!("devices     {devices}"));
    }
    let basis = match basis {
        Basis::Explicit => "stated in the text",
        Basis::Implicit => "follows from the text, weighs less",
    };
    out.line(format_args!("basis       {basis}"));
    let testable = match testable {
        Testable::Yes => "yes",
        Testable::Partly => "partly",
        Testable::No => "no, not from outside",
    };
    out.line(format_args!("testable    {testable}"));
    match covered.map(|map| map.get(id).map(Vec::as_slice).unwrap_or_default()) {
        None => out.line("covered by  unknown: there are no scenarios here (see --root)"),
        Some([]) => out.line("covered by  no scenario"),
        Some([first, rest @ ..]) => {
            out.line(format_args!("covered by  {first}"));
            for scenario in rest {
                out.line(format_args!("            {scenario}"));
            }
        }
    }
}

fn show_area(area: &[&Requirement], covered: Option<&BTreeMap<String, Vec<String>>>, out: &mut Console) {
    let style = out.style();
    for requirement in area {
        let id = style.paint(Ink::Strong, &requirement.id);
        let number = covered.map_or(0, |map| map.get(&requirement.id).map_or(0, Vec::len));
        let by = match (covered, number) {
            (None, _) => String::new(),
            (_, 0) => style.paint(Ink::Odd, "  not covered"),
            (_, 1) => "  1 scenario".to_owned(),
            (_, n) => format!("  {n} scenarios"),
        };
        out.line(format_args!("{id}  {}  {}{by}", requirement.level, requirement.party));
        for line in wrapped(&requirement.text, WIDTH_COLUMNS) {
            out.line(format_args!("  {line}"));
        }
    }
}

/// The message's section of the reference page.
fn show_message(message: &MessageSpec, out: &mut Console) {
    let page = wire::docs::messages_markdown();
    let heading = format!("### {} {}\n", message.id, message.name);
    let section = page.split_once(&heading).map_or("", |(_, rest)| rest);
    let section = section.split("\n#").next().unwrap_or_default().trim();
    let title = out.style().paint(Ink::Strong, message.name);
    out.line(format_args!(
        "{title}  request {} on the {} channel\n\n{}",
        message.id,
        message.channel,
        without_links(section)
    ));
}

/// `[name](#name)` as `name`.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((name, target)) = link.split_once("](#") else {
            break;
        };
        let Some((_, after)) = target.split_once(')') else {
            break;
        };
        plain.push_str(before);
        plain.push_str(name);
        rest = after;
    }
    plain + rest
}

fn show_feature(feature: ProtocolFeature, out: &mut Console) {
    let title = out.style().paint(Ink::Strong, feature.name());
    out.line(format_args!("{title}  protocol feature, bit {}\n", feature.bit()));
    let requires: Vec<&str> = feature.requires().iter().map(|f| f.name()).collect();
    for (what, text) in [
        ("also called", feature.aliases().join(", ")),
        ("unlocks", feature.unlocks().to_owned()),
        ("needs", requires.join(", ")),
        ("devices", feature.devices().to_owned()),
        ("since", feature.since().to_owned()),
    ] {
        if !text.is_empty() {
            out.line(format_args!("- {what}: {text}"));
        }
    }
}

/// Words in lines of at most `columns`.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
