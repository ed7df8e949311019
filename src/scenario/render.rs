//! Draws a diagnostic in the manner of rustc: title, file:line:column, the source with carets, footer, help.
//! The only place that knows annotate-snippets.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::diagnostic::{Diagnostic, RenderStyle, Severity, SourceFile};
use super::span::Span;

/// Width that long source lines are cut to, fixed so that output does not depend on the terminal.
const WIDTH_COLUMNS: usize = 140;

/// Longest message or help, in bytes: either may quote what somebody wrote.
const TEXT_MAX: usize = 1000;

/// Longest chain of `use` steps drawn; deeper ones cannot be loaded.
const USES_MAX: usize = 16;

pub(super) fn render(diagnostic: &Diagnostic, sources: &[SourceFile], style: RenderStyle) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(bounded(&diagnostic.message)));
    for (source, marks) in by_source(diagnostic, sources) {
        let annotations = marks.into_iter().map(|mark| annotation(&source.text, mark));
        let snippet = Snippet::source(&*source.text).path(source.path.to_string_lossy());
        group = group.element(snippet.annotations(annotations));
    }
    if let (None, Some(file)) = (diagnostic.span, &diagnostic.file) {
        group = group.element(Origin::path(file.to_string_lossy()));
    }
    for line in &diagnostic.footer {
        group = group.element(Level::NOTE.no_name().message(line.as_str()));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(bounded(help)));
    }
    let renderer = match style {
        RenderStyle::Plain => Renderer::plain(),
        RenderStyle::Coloured => Renderer::styled(),
    };
    let mut text = renderer.term_width(WIDTH_COLUMNS).render(&[group]);
    text.push('\n');
    text
}

/// A text that is not longer than it helps.
pub(super) fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT_MAX {
        return Cow::Borrowed(text);
    }
    let half = TEXT_MAX / 2;
    let ends = |at: usize| text.char_indices().map(|(start, _)| start).find(|start| *start >= at);
    let (first, last) = (
        ends(half).unwrap_or(text.len()),
        ends(text.len() - half).unwrap_or(text.len()),
    );
    Cow::Owned(format!(
        "{} [... {} bytes ...] {}",
        &text[..first],
        last - first,
        &text[last..]
    ))
}

struct Mark<'a> {
    kind: AnnotationKind,
    span: Span,
    label: Option<&'a str>,
}

/// The places of a diagnostic, those of one file together, the primary one's file first. The `use` steps that led to
/// the primary place come last.
fn by_source<'a>(diagnostic: &'a Diagnostic, sources: &'a [SourceFile]) -> Vec<(&'a SourceFile, Vec<Mark<'a>>)> {
    let mut groups: Vec<(&SourceFile, Vec<Mark<'a>>)> = Vec::new();
    let mut add = |kind, span: Span, label| {
        let mark = Mark { kind, span, label };
        let Some(source) = sources.get(span.source as usize) else {
            return;
        };
        // Each use of a fragment is a source of its own; one text is drawn once.
        let same = |known: &SourceFile| known.path == source.path && known.text == source.text;
        match groups.iter_mut().find(|(known, _)| same(known)) {
            Some((_, marks)) => marks.push(mark),
            None => groups.push((source, vec![mark])),
        }
    };
    if let Some(span) = diagnostic.span {
        add(AnnotationKind::Primary, span, diagnostic.label.as_deref());
    }
    for (span, label) in &diagnostic.notes {
        add(AnnotationKind::Context, *span, Some(label.as_str()));
    }
    let mut user = diagnostic.span.and_then(|span| used_at(span, sources));
    for _ in 0..USES_MAX {
        let Some(span) = user else { break };
        add(AnnotationKind::Context, span, Some("used here"));
        user = used_at(span, sources);
    }
    groups
}

fn used_at(span: Span, sources: &[SourceFile]) -> Option<Span> {
    sources.get(span.source as usize)?.used_at
}

fn annotation<'a>(text: &str, mark: Mark<'a>) -> Annotation<'a> {
    let annotation = mark.kind.span(visible(text, mark.span));
    match mark.label {
        Some(label) => annotation.label(label),
        None => annotation,
    }
}

/// The bytes of a span that lie on its first line, at least one character wide and never outside the text.
fn visible(text: &str, span: Span) -> Range<usize> {
    let boundary = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = boundary(span.offset as usize);
    let end = boundary(span.offset as usize + span.len as usize).max(start);
    let line_end = text[start..].find(['\n', '\r']).map_or(text.len(), |n| start + n);
    let end = end.min(line_end);
    if end > start {
        return start..end;
    }
    let width = text[start..line_end].chars().next().map_or(0, char::len_utf8);
    start..start + width
}
