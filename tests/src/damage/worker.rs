//! The other end of a trial: a process that is asked, given a time limit, and started again when it is gone.
//!
//! Owns: the process. Does not own: what it does (`trial`), what its answer means (`judge`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::trial::{Observed, Trial};
use crate::environment::without_settings;

/// Longest time of one trial; one takes well below a second, unless the machine is busy with others.
const TRIAL_MAX: Duration = Duration::from_secs(60);

/// How a trial ended.
#[derive(Debug)]
pub enum Ending {
    /// With an answer.
    Observed(Box<Observed>),
    /// Not within the time limit.
    Hung,
    /// With the process: an abort, a signal, memory that was refused.
    Died(String),
}

/// A process for trials.
#[derive(Debug)]
pub struct Worker {
    program: PathBuf,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    input: ChildStdin,
    /// Lines it says, as they come.
    said: Receiver<String>,
}

impl Worker {
    /// One that is started with the first trial. `program` is the path of `cairn-test-process`.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self { program: program.to_owned(), running: None }
    }

    /// Has the process try a database.
    ///
    /// # Panics
    /// When there can't be such a process, or it says something else.
    pub fn try_out(&mut self, trial: &Trial) -> Ending {
        let program = &self.program;
        let running = self.running.get_or_insert_with(|| Running::start(program).unwrap());
        let mut line = serde_json::to_string(trial).unwrap();
        line.push('\n');
        // Whether it is still there is seen by what it says.
        let _ = running.input.write_all(line.as_bytes()).and_then(|()| running.input.flush());
        match running.said.recv_timeout(TRIAL_MAX) {
            Ok(reply) => Ending::Observed(serde_json::from_str(&reply).unwrap()),
            Err(RecvTimeoutError::Timeout) => {
                self.running = None;
                Ending::Hung
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = running.child.wait().unwrap();
                self.running = None;
                Ending::Died(status.to_string())
            }
        }
    }
}

impl Running {
    fn start(program: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        without_settings(&mut command).arg("damage").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (say, said) = channel();
        // It ends with the process, or with whoever listens.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, said })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that hangs must not hang the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
