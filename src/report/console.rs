//! Where text goes: a stream that may be a terminal, may want no colour, and may be closed at any time by its reader.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use super::style::Style;

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    /// What it comes to for a stream. `NO_COLOR` counts when it is not empty (no-color.org).
    pub fn style(self, terminal: bool) -> Style {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let wanted = || terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb");
        match self {
            ColorChoice::Always => Style::Coloured,
            ColorChoice::Never => Style::Plain,
            ColorChoice::Auto if wanted() => Style::Coloured,
            ColorChoice::Auto => Style::Plain,
        }
    }
}

/// A stream of lines. When its reader goes away, the rest is dropped: the exit code still tells.
pub struct Console {
    stream: Box<dyn Write>,
    style: Style,
    closed: bool,
    lost: Option<String>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Console")
            .field("style", &self.style)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// Standard output.
    pub fn stdout(color: ColorChoice) -> Self {
        Self::new(Box::new(io::stdout()), color.style(io::stdout().is_terminal()))
    }

    /// Standard error.
    pub fn stderr(color: ColorChoice) -> Self {
        Self::new(Box::new(io::stderr()), color.style(io::stderr().is_terminal()))
    }

    /// Any stream.
    pub fn new(stream: Box<dyn Write>, style: Style) -> Self {
        Self {
            stream,
            style,
            closed: false,
            lost: None,
        }
    }

    /// How to draw on it.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Nobody reads it any more.
    pub fn closed(&self) -> bool {
        self.closed
    }

    /// A line.
    pub fn line(&mut self, text: impl fmt::Display) {
        self.text(format_args!("{text}\n"));
    }

    /// Text that brings its own line ends. Whatever error comes, there is nowhere to report it but here.
    pub fn text(&mut self, text: impl fmt::Display) {
        if self.closed {
            return;
        }
        if let Err(error) = write!(self.stream, "{text}").and_then(|()| self.stream.flush()) {
            self.closed = true;
            self.lost = (error.kind() != io::ErrorKind::BrokenPipe).then(|| error.to_string());
        }
    }

    /// Why what was to be read is lost; a reader that went away has seen enough.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Broken: `--color` does not win over the environment.
    #[test]
    fn an_explicit_choice_wins() {
        assert_eq!(ColorChoice::Always.style(false), Style::Coloured);
        assert_eq!(ColorChoice::Never.style(true), Style::Plain);
        assert_eq!(ColorChoice::Auto.style(false), Style::Plain);
    }

    /// Broken: `vuh list | head -1` panics or fails.
    #[test]
    fn a_closed_pipe_is_no_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut console = Console::new(Box::new(writer), Style::Plain);
        console.line("nobody reads this");
        assert!(console.closed());
        console.line("nor this");
        assert_eq!(console.lost(), None);
    }

    /// Broken: a full disk swallows what was to be read, and nobody learns of it.
    #[test]
    fn a_full_disk_is_an_error() {
        let full = std::fs::File::create("/dev/full").unwrap();
        let mut console = Console::new(Box::new(full), Style::Plain);
        console.line("nobody can read this");
        assert!(console.lost().is_some());
    }
}
