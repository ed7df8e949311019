//! Colours, or none. The few that are used, by what they mean.

use std::fmt;

use crate::judge::verdict::Verdict;
use crate::scenario::RenderStyle;

/// How text is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text only.
    Plain,
    /// With ANSI colours.
    Coloured,
}

/// A colour by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
    /// Worth a look.
    Odd,
    /// Of less interest.
    Dim,
    /// Of more interest.
    Strong,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Ink::Good => "32",
            Ink::Bad => "1;31",
            Ink::Odd => "33",
            Ink::Dim => "2",
            Ink::Strong => "1",
        }
    }

    /// The ink of a verdict.
    pub fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Ink::Good,
            Verdict::Fail(_) | Verdict::UnexpectedPass => Ink::Bad,
            Verdict::Inconclusive | Verdict::ExpectedFail => Ink::Odd,
            Verdict::Unsupported | Verdict::Skipped => Ink::Dim,
        }
    }
}

impl Style {
    /// The text in that ink.
    pub fn paint(self, ink: Ink, text: impl fmt::Display) -> String {
        match self {
            Style::Plain => text.to_string(),
            Style::Coloured => format!("\u{1b}[{}m{text}\u{1b}[0m", ink.code()),
        }
    }

    /// The same for diagnostics.
    pub fn render(self) -> RenderStyle {
        match self {
            Style::Plain => RenderStyle::Plain,
            Style::Coloured => RenderStyle::Coloured,
        }
    }
}

/// Text of a peer without the control characters that would change the terminal; line ends and tabs stay.
pub fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => clean.push(c),
            c if c.is_control() => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::harmless;

    /// Broken: what a peer prints can clear the screen or hide a failure.
    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\n\tc\u{9b}é"), "a\\u{1b}[2Jb\\r\n\tc\\u{9b}é");
    }
}
