//! Where results go: standard output or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use crate::format::{Layout, Wishes};
use crate::style::Style;

/// The place results are written to.
pub(crate) enum Sink {
    /// Standard output.
    Stdout(BufWriter<Stdout>),
    /// A file named by `.output`.
    File(BufWriter<File>),
}

impl Sink {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        Self::Stdout(BufWriter::new(io::stdout()))
    }

    /// The file `path`, emptied.
    ///
    /// # Errors
    /// When it can't be created.
    pub(crate) fn file(path: &str) -> io::Result<Self> {
        File::create(path).map(|file| Self::File(BufWriter::new(file)))
    }

    /// Whether this is standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }

    /// Whether this is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_stdout() && io::stdout().is_terminal()
    }

    /// How results are laid out here, in a terminal of `width` columns.
    pub(crate) fn layout(&self, width: Option<usize>, wishes: Wishes) -> Layout {
        if self.is_terminal() {
            return Layout { width, scrolls: false, style: Style::of(&io::stdout()), wishes };
        }
        Layout { width: None, scrolls: false, style: Style::PLAIN, wishes }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out) => out.flush(),
        }
    }
}
