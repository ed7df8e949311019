//! What is wrong and where: one type for errors of a scenario file and for failures at run time, so that both print alike.
//! Owns the text of the sources that spans point into; drawing is in `render`.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::render;
use super::span::Span;

/// A text that spans point into. A fragment has an entry of its own for every place that uses it, so that a span says
/// not only where something is written but also by which `use` it came to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its text.
    pub text: Arc<str>,
    /// The `use` step that brought this copy of a fragment here.
    pub used_at: Option<Span>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing can be run, or a run failed.
    Error,
    /// Worth a look.
    Warning,
}

/// With or without terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderStyle {
    /// Text only.
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// One error, warning or failure. Its parts are fields of it: `diagnostic.message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic(Box<Parts>);

/// What a [`Diagnostic`] consists of; kept behind a pointer, since results are passed around far more often than errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// How bad it is.
    pub severity: Severity,
    /// The message: a lower-case fragment.
    pub message: String,
    /// Where, if it is at a place.
    pub span: Option<Span>,
    /// What is said beside the caret.
    pub label: Option<String>,
    /// Other places that belong to it.
    pub notes: Vec<(Span, String)>,
    /// Lines printed below the source as they are: expected and actual, the last events, a requirement.
    pub footer: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The file, when there is no place in it.
    pub file: Option<PathBuf>,
}

impl Deref for Diagnostic {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Diagnostic {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            severity: Severity::Error,
            message: message.into(),
            span: None,
            label: None,
            notes: Vec::new(),
            footer: Vec::new(),
            help: None,
            file: None,
        }))
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        let mut diagnostic = Self::error(message);
        diagnostic.severity = Severity::Warning;
        diagnostic
    }

    /// Its place. A span of line 0 (a value that was not read from a file) is no place.
    #[must_use]
    pub fn at(mut self, span: Span) -> Self {
        if span.line > 0 {
            self.span = Some(span);
        }
        self
    }

    /// What is said beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Another place that belongs to it.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        if span.line > 0 {
            self.notes.push((span, text.into()));
        }
        self
    }

    /// A line below the source, printed as it is.
    #[must_use]
    pub fn footer(mut self, line: impl Into<String>) -> Self {
        self.footer.push(line.into());
        self
    }

    /// Expected and actual on two aligned lines below the source.
    #[must_use]
    pub fn expected_actual(self, expected: impl fmt::Display, actual: impl fmt::Display) -> Self {
        self.footer(format!("expected  {expected}"))
            .footer(format!("actual    {actual}"))
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a help if there is one.
    #[must_use]
    pub fn maybe_help(mut self, help: Option<String>) -> Self {
        if help.is_some() {
            self.help = help;
        }
        self
    }

    /// The file, when there is no place in it.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// The drawing with source lines and carets, ending in a newline. `sources` are those of the plan, or of the
    /// [`Diagnostics`]; places in a fragment also show the `use` steps that led there.
    pub fn render(&self, sources: &[SourceFile], style: RenderStyle) -> String {
        render::render(self, sources, style)
    }

    /// `file:line:column: message`, for places where one line must do.
    pub fn one_line(&self, sources: &[SourceFile]) -> String {
        let message = render::bounded(&self.message);
        match self.span.and_then(|s| Some((s, sources.get(s.source as usize)?))) {
            Some((span, source)) => format!("{}:{}:{}: {}", source.path.display(), span.line, span.column, message),
            None => match &self.file {
                Some(file) => format!("{}: {message}", file.display()),
                None => message.into_owned(),
            },
        }
    }
}

/// All that is wrong with one file, with the texts to draw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// At least one; bounded by [`super::load::MAX_DIAGNOSTICS`].
    pub items: Vec<Diagnostic>,
    /// What the spans point into.
    pub sources: Vec<SourceFile>,
}

impl Diagnostics {
    /// All of them drawn, an empty line between two.
    pub fn render(&self, style: RenderStyle) -> String {
        let drawn: Vec<String> = self.items.iter().map(|d| d.render(&self.sources, style)).collect();
        drawn.join("\n")
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.render(RenderStyle::Plain))
    }
}

impl std::error::Error for Diagnostics {}
