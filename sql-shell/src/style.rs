//! Colours: which there are, and when there are none.

use std::env;
use std::io::IsTerminal;

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// SQL keywords.
    Keyword,
    /// SQL strings.
    Text,
    /// Numbers.
    Number,
    /// Comments, NULL, borders.
    Faint,
    /// Errors and the caret.
    Error,
    /// Headings and the prompt.
    Strong,
}

/// Paints text, or leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    on: bool,
}

impl Style {
    /// No colours at all.
    pub(crate) const PLAIN: Self = Self { on: false };
    /// Colours, whatever the environment says.
    #[cfg(test)]
    pub(crate) const COLOUR: Self = Self { on: true };

    /// Colours when `stream` is a terminal that takes them and NO_COLOR is not set.
    pub(crate) fn of(stream: &impl IsTerminal) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|v| v == "dumb");
        Self { on: stream.is_terminal() && !refused && !dumb }
    }

    /// Whether it paints.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// `text` in its colour; the width on the screen stays the same.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if !self.on || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Keyword => "1;34",
            Paint::Text => "32",
            Paint::Number => "36",
            Paint::Faint => "2",
            Paint::Error => "1;31",
            Paint::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
