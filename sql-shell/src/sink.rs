//! Where results go: standard output or a file.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use crate::format::Layout;
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

    /// How results are laid out here, in a terminal of `width` columns.
    pub(crate) fn layout(&self, width: Option<usize>, rows_shown_max: usize) -> Layout {
        match self {
            Self::Stdout(_) if io::stdout().is_terminal() => {
                Layout { width, style: Style::of(&io::stdout()), rows_shown_max }
            }
            Self::Stdout(_) | Self::File(_) => Layout { width: None, style: Style::PLAIN, rows_shown_max },
        }
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
