//! Asking for a password at the terminal.
//!
//! Owns: that nothing of it is shown, and that the terminal is afterwards as it was, whatever was typed. The question goes to the
//! terminal, wherever results go.

use std::fs::File;
use std::io::{self, Read, Write};

use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};

/// The longest line a terminal hands on.
const LINE_BYTES_MAX: usize = 4096;
const CTRL_C: u8 = 3;

/// What the user types after `question`; None: nothing, by Ctrl-C or Ctrl-D.
///
/// # Errors
/// When there is no terminal.
pub(super) fn unseen(question: &str) -> io::Result<Option<String>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let quiet = Quiet::begin(terminal.try_clone()?)?;
    terminal.write_all(question.as_bytes())?;
    let mut line = [0; LINE_BYTES_MAX];
    let length = terminal.read(&mut line)?;
    drop(quiet);
    match &line[..length] {
        [typed @ .., b'\n'] => Ok(Some(String::from_utf8_lossy(typed).into_owned())),
        _ => {
            terminal.write_all(b"\n")?;
            Ok(None)
        }
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn begin(terminal: File) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        // Ctrl-C ends the line instead of the process, which would leave the terminal quiet.
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        quiet.local_flags.insert(LocalFlags::ECHONL | LocalFlags::ICANON);
        quiet.control_chars[SpecialCharacterIndices::VEOL as usize] = CTRL_C;
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}
