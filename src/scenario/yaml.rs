//! Text to a tree of values with their positions. The only place that knows the YAML library; its limits and the
//! wording of its errors are here.

use serde_yaml::budget::BudgetBreach;
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_yaml::{Error, Location, MessageFormatter as _};

use super::diagnostic::Diagnostic;
use super::scalar::{Node, parse_u64};
use super::span::{At, SourceId, Span, in_source};

/// Largest file.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// Deepest nesting of maps and lists. Reading takes some 45 KiB of stack a level in an unoptimised build, and threads of
/// tests have 2 MiB.
pub const MAX_DEPTH: usize = 24;
/// Most values and keys in one file.
pub const MAX_NODES: usize = 50_000;
/// Most aliases (`*name`) in one file.
pub const MAX_ALIASES: usize = 64;
/// Most values that aliases may stand for, all together.
pub const MAX_ALIASED_NODES: usize = 10_000;

/// Reads one YAML document. Keys that are there twice are errors, one each.
///
/// # Errors
/// What is wrong with the text, at its place in `source`.
pub fn parse(source: SourceId, text: &str) -> Result<At<Node>, Vec<Diagnostic>> {
    if text.len() > MAX_FILE_BYTES {
        let size = text.len();
        return Err(vec![Diagnostic::error(format!(
            "the file has {size} bytes; at most {MAX_FILE_BYTES} are read"
        ))]);
    }
    let parsed = in_source(source, || {
        serde_yaml::from_str_with_options::<At<Node>>(text, options())
    });
    let mut tree = parsed.map_err(|e| vec![translate(&e, source, text)])?;
    let mut wrong = Vec::new();
    settle(&mut tree, text, &mut wrong);
    if wrong.is_empty() { Ok(tree) } else { Err(wrong) }
}

fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: 4 * MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_aliases: MAX_ALIASES,
            max_anchors: MAX_ALIASES,
            max_documents: 1,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_ALIASED_NODES,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

/// Gives maps and lists a span that is worth pointing at, and numbers their exact value; finds keys that are twice.
///
/// The library's span of a block map is empty, that of a flow map its first character. A block map gets the span of its
/// first key (for a step: its name), a flow map or list its whole first line.
fn settle(node: &mut At<Node>, text: &str, wrong: &mut Vec<Diagnostic>) -> u32 {
    let written = slice(text, node.span);
    let is_flow = written.starts_with(['{', '[']);
    let mut end = node.span.offset + node.span.len;
    let mut first_key = None;
    match &mut node.value {
        Node::Float(_) => {
            if let Some(number) = parse_u64(written) {
                node.value = Node::Number(number);
            }
        }
        Node::List(items) => {
            for item in items {
                end = end.max(settle(item, text, wrong));
            }
        }
        Node::Map(map) => {
            for index in 0..map.0.len() {
                let (before, rest) = map.0.split_at_mut(index);
                let (key, value) = &mut rest[0];
                end = end.max(key.span.offset + key.span.len);
                end = end.max(settle(value, text, wrong));
                first_key.get_or_insert(key.span);
                if let Some((first, _)) = before.iter().find(|(k, _)| k.value == key.value) {
                    wrong.push(
                        Diagnostic::error(format!("`{}` is there twice", key.value))
                            .at(key.span)
                            .label("again here")
                            .note(first.span, "first here"),
                    );
                }
            }
        }
        _ => {}
    }
    if is_flow {
        let rest = text.get(end as usize..).unwrap_or("");
        let gap = rest.len() - rest.trim_start_matches([' ', '\t', ',']).len();
        if rest[gap..].starts_with(['}', ']']) {
            end += gap as u32 + 1;
        }
        node.span.len = end.saturating_sub(node.span.offset);
    } else if let Some(key) = first_key {
        node.span = key;
    }
    end
}

/// What is written at a span.
pub fn slice(text: &str, span: Span) -> &str {
    let start = span.offset as usize;
    text.get(start..start + span.len as usize).unwrap_or("")
}

fn translate(error: &Error, source: SourceId, text: &str) -> Diagnostic {
    let place = error.location().map(|location| span_of(location, source, text));
    let mut inner = error;
    while let Error::AliasError { error, .. } | Error::WithSnippet { error, .. } = inner {
        inner = error;
    }
    let diagnostic = match inner {
        Error::Budget {
            breach: BudgetBreach::Documents { .. },
            ..
        }
        | Error::MultipleDocuments { .. } => Diagnostic::error("a second YAML document begins here")
            .help("one file holds one scenario; remove the `---`"),
        Error::Budget { breach, .. } => Diagnostic::error(too_much(breach)),
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            Diagnostic::error(format!("aliases stand for more than {MAX_ALIASED_NODES} values"))
        }
        Error::MergeKeyNotAllowed { .. } => {
            Diagnostic::error("merge keys (`<<`) are not part of the language").help("write a fragment and `use` it")
        }
        Error::UnknownAnchor { .. } => Diagnostic::error("this alias has no anchor before it"),
        Error::UnsupportedTag { tag, .. } => Diagnostic::error(format!("the tag `{tag}` means nothing here")),
        Error::NonFiniteFloat { value, .. } => Diagnostic::error(format!("`{value}` is not a value of the language")),
        Error::ExpectedStringKeyForExternallyTaggedEnum { .. } | Error::Unexpected { .. } => {
            Diagnostic::error("a key must be plain text")
        }
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => syntax(msg),
        other => syntax(&serde_yaml::UserMessageFormatter.format_message(other)),
    };
    match place {
        Some(span) => diagnostic.at(span),
        None => diagnostic,
    }
}

fn syntax(message: &str) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("YAML: {message}"));
    if message.contains("unsupported YAML major version") {
        Diagnostic::error("files are YAML 1.2, and this one says that it is another").help("remove the `%YAML` line")
    } else if message.contains("Recursive reference") {
        Diagnostic::error("this alias stands for a value that it is part of")
    } else if message.contains("null is not allowed here") {
        Diagnostic::error("a key must be plain text").help("a lone `~` or `null` is no text; put it in quotes")
    } else if message.contains("mapping values are not allowed") {
        diagnostic.help("text with `: ` in it needs quotes; keys of one map need the same indentation")
    } else if message.contains("unexpected character") {
        diagnostic.help("text that begins with this character needs quotes")
    } else {
        diagnostic
    }
}

fn too_much(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => format!("nested deeper than {MAX_DEPTH} maps and lists"),
        BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. } => {
            format!("more than {MAX_NODES} values in one file")
        }
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
            format!("more than {MAX_ALIASES} aliases in one file")
        }
        other => format!("the file goes beyond a limit of the reader ({other:?})"),
    }
}

fn span_of(location: Location, source: SourceId, text: &str) -> Span {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let span = location.span();
    let (line, column) = (narrow(location.line()), narrow(location.column()));
    Span {
        source,
        line,
        column,
        offset: span.byte_offset().map_or_else(|| offset_of(text, line, column), narrow),
        len: span.byte_len().map_or(0, narrow),
    }
}

/// The byte offset of a line and a column, for errors that come without one.
fn offset_of(text: &str, line: u32, column: u32) -> u32 {
    let before = |n: usize| text.split_inclusive('\n').take(n).map(str::len).sum::<usize>();
    let start = before((line as usize).saturating_sub(1));
    let rest = text.get(start..).unwrap_or("");
    let inside: usize = rest
        .chars()
        .take((column as usize).saturating_sub(1))
        .map(char::len_utf8)
        .sum();
    u32::try_from(start + inside).unwrap_or(u32::MAX)
}
