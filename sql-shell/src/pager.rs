//! Results that are longer or wider than the terminal, in a program that scrolls.
//!
//! Owns: when that program is started, and that it gets all of a result. Does not own: when there is one (`shell`: only while somebody
//! types, and results go to the screen). What fits is written as if there were no pager.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use unicode_width::UnicodeWidthStr;

/// Variables that name the program, the first that is set.
const VARIABLES: [&str; 2] = ["CAIRN_PAGER", "PAGER"];
const USUAL: &str = "less";
/// Long lines are not wrapped, colours are shown, what was shown stays on the screen.
const LESS_OPTIONS: &str = "-SRX";

/// When results are paged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum When {
    /// Those that do not fit.
    #[default]
    Auto,
    /// All.
    On,
    /// None.
    Off,
}

/// What the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pager {
    pub(crate) when: When,
    pub(crate) command: String,
}

impl Pager {
    /// What the environment says.
    pub(crate) fn from_environment() -> Self {
        Self::read(VARIABLES.iter().filter_map(env::var_os))
    }

    fn read(mut values: impl Iterator<Item = OsString>) -> Self {
        let command = values.next().map(|value| value.to_string_lossy().trim().to_owned());
        match command {
            // Set to nothing, as git and man have it: no pager.
            Some(command) if command.is_empty() || command == "cat" => {
                Self { when: When::Off, command: USUAL.to_owned() }
            }
            Some(command) => Self { when: When::Auto, command },
            None => Self { when: When::Auto, command: USUAL.to_owned() },
        }
    }

    /// A place for one result on a terminal of so many columns and lines; None: results are not paged, or can't be.
    pub(crate) fn begin(&self, (columns, lines): (usize, usize)) -> Option<Paged> {
        let program = self.command.split_whitespace().next()?;
        if self.when == When::Off || !is_there(program, env::var_os("PATH")) {
            return None;
        }
        let always = self.when == When::On;
        Some(Paged {
            command: self.command.clone(),
            columns,
            lines,
            always,
            waiting: Vec::new(),
            child: None,
        })
    }
}

impl std::fmt::Display for Pager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let when = match self.when {
            When::Auto => "auto",
            When::On => "on",
            When::Off => "off",
        };
        write!(f, "{when} ({})", self.command)
    }
}

/// Whether the shell will find the program.
fn is_there(program: &str, path: Option<OsString>) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    path.is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// One result on its way to the screen.
pub(crate) struct Paged {
    command: String,
    columns: usize,
    lines: usize,
    always: bool,
    /// What is not shown yet, while it may fit.
    waiting: Vec<u8>,
    child: Option<Child>,
}

impl Paged {
    /// Whether the program runs.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    fn start(&mut self) -> io::Result<()> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).stdin(Stdio::piped());
        if env::var_os("LESS").is_none() {
            command.env("LESS", LESS_OPTIONS);
        }
        let child = self.child.insert(command.spawn()?);
        match &mut child.stdin {
            Some(stdin) => stdin.write_all(&std::mem::take(&mut self.waiting)),
            None => Ok(()),
        }
    }

    fn fits(&self) -> bool {
        let text = String::from_utf8_lossy(&self.waiting);
        !self.always
            && text.lines().count() < self.lines
            && text.lines().all(|line| unpainted_width(line) <= self.columns)
    }

    /// Shows what still waits, on `screen` when all of it fits there, and returns when the user has left the program.
    ///
    /// # Errors
    /// Those of `screen`; when the program can't be started.
    pub(crate) fn finish(mut self, screen: &mut dyn Write) -> io::Result<()> {
        if self.child.is_none() {
            if self.fits() {
                screen.write_all(&self.waiting)?;
                return screen.flush();
            }
            let started = self.start();
            self.leave();
            // A user who left the program before its end has seen enough.
            return started.or_else(|e| if e.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) });
        }
        self.leave();
        Ok(())
    }

    /// Ends the input of the program and waits until the user has left it.
    pub(crate) fn leave(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            // How it ended is between it and the user.
            let _ = child.wait();
        }
    }
}

impl Write for Paged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(stdin) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            return stdin.write(bytes);
        }
        self.waiting.extend_from_slice(bytes);
        // Counted only where a line ends: what is written are pieces of lines.
        if bytes.contains(&b'\n') && self.waiting.iter().filter(|b| **b == b'\n').count() >= self.lines {
            self.start()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            Some(stdin) => stdin.flush(),
            None => Ok(()),
        }
    }
}

/// Columns that a line takes; colours take none.
fn unpainted_width(line: &str) -> usize {
    let mut parts = line.split("\x1b[");
    let first = parts.next().map_or(0, UnicodeWidthStr::width);
    first + parts.map(|part| part.split_once('m').map_or(part, |(_, text)| text).width()).sum::<usize>()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_program() {
        let read = |values: &[&str]| Pager::read(values.iter().map(OsString::from));
        assert_eq!(read(&[]).to_string(), "auto (less)");
        assert_eq!(read(&["most -s", "less"]).to_string(), "auto (most -s)");
        assert_eq!(read(&["", "less"]).to_string(), "off (less)");
        assert_eq!(read(&["cat"]).to_string(), "off (less)");
    }

    #[test]
    fn programs_are_looked_for() {
        assert!(is_there("sh", Some("/nowhere:/bin:/usr/bin".into())));
        assert!(!is_there("no-such-program", Some("/bin".into())));
        assert!(!is_there("sh", None));
        let pager = Pager { when: When::Auto, command: "no-such-program -x".to_owned() };
        assert!(pager.begin((80, 24)).is_none());
    }

    /// What reaches the program, and what the screen.
    fn shown(text: &str, when: When) -> (String, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("paged");
        let pager = Pager { when, command: format!("cat > '{}'", file.display()) };
        let mut screen = Vec::new();
        let mut paged = pager.begin((20, 4)).unwrap();
        for piece in text.split_inclusive(' ') {
            paged.write_all(piece.as_bytes()).unwrap();
        }
        paged.finish(&mut screen).unwrap();
        (std::fs::read_to_string(file).unwrap_or_default(), String::from_utf8(screen).unwrap())
    }

    #[test]
    fn only_what_does_not_fit_is_paged() {
        let fits = "\x1b[1mtwenty columns here!\x1b[0m\n2\n3\n";
        assert_eq!(shown(fits, When::Auto), (String::new(), fits.to_owned()));
        assert_eq!(shown(fits, When::On), (fits.to_owned(), String::new()));
        for large in ["1\n2\n3\n4\n", "twenty-one columns here\n", "1 \n 2\n 3\n 4 \n 5 6\n 7"] {
            assert_eq!(shown(large, When::Auto), (large.to_owned(), String::new()));
        }
    }
}
