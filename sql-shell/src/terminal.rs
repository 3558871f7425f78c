//! The terminal around the shell: its width, and messages beside the results.

use std::io::{self, IsTerminal, Write};

use rustyline::Editor;
use rustyline::history::DefaultHistory;

/// Columns of the terminal that standard output goes to; None when it goes elsewhere.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let mut editor = Editor::<(), DefaultHistory>::new().ok()?;
    editor.dimensions().map(|(columns, _)| usize::from(columns)).filter(|&columns| columns > 0)
}

/// A line on standard error. Where nobody can read it, nothing happens.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Text on standard error, as it is.
pub(crate) fn say_text(text: &str) {
    let mut stderr = io::stderr();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}
