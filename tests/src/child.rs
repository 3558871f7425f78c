//! The second process of a test.
//!
//! Owns: starting `cairn-test-process` and talking to it. `follow` opens the database read-only and answers
//! statements (JSON a line); `plans` does so with plans (bytes behind their length); `write` runs a random workload on several connections and says
//! which units have ended; `serve` is a server of Flight SQL. Does not own: what the process does inside
//! (`bin/process.rs`).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use cairn_engine::Root;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, SqlError};
use crate::environment::without_settings;

/// First line of a process that writes: it has opened the database.
const READY: &[u8] = b"ready\n";

/// A question to the follower.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// Version to wait for first.
    pub version: u64,
    /// Statement.
    pub sql: String,
}

/// A process that answers what it is asked, one line of JSON each.
struct Asked {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Asked {
    fn start(
        program: &Path,
        what: &str,
        root: &OsStr,
        environment: &[(String, String)],
    ) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        without_settings(&mut command).arg(what).arg(root).envs(environment.iter().cloned());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Ok(Self { child, input, output })
    }

    fn ask(&mut self, question: &[u8]) -> Result<Answer, SqlError> {
        let input = self.input.as_mut().ok_or_else(|| SqlError::of_test("the process is closed"))?;
        input.write_all(question).and_then(|()| input.flush()).map_err(SqlError::of_test)?;
        let mut reply = String::new();
        self.output.read_line(&mut reply).map_err(SqlError::of_test)?;
        if reply.is_empty() {
            return Err(SqlError::of_test("the process died"));
        }
        serde_json::from_str::<Result<Answer, SqlError>>(&reply).map_err(SqlError::of_test)?
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        // End of its input ends it; a process that hangs must not hang the test.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A read-only process that follows the writer of a directory.
pub struct Follower(Asked);

impl Follower {
    /// Starts it. `program` is the path of `cairn-test-process`.
    ///
    /// # Errors
    /// When the process can't be started.
    ///
    /// # Panics
    /// When the pipes asked for are not there.
    pub fn start(program: &Path, root: &Path) -> std::io::Result<Self> {
        Asked::start(program, "follow", root.as_os_str(), &[]).map(Self)
    }

    /// Runs one statement there, at `version` or later.
    ///
    /// # Errors
    /// What the follower's session says, or that the process is gone.
    pub fn run(&mut self, sql: &str, version: u64) -> Result<Answer, SqlError> {
        let question = Question { version, sql: sql.into() };
        let mut line = serde_json::to_string(&question).map_err(SqlError::of_test)?;
        line.push('\n');
        self.0.ask(line.as_bytes())
    }
}

/// A read-only process that runs plans made elsewhere.
pub struct PlanRunner(Asked);

impl PlanRunner {
    /// Starts it on a database that is there. `program` is the path of `cairn-test-process`, `environment` what leads it to a bucket.
    ///
    /// # Errors
    /// When the process can't be started.
    ///
    /// # Panics
    /// When the pipes asked for are not there.
    pub fn start(program: &Path, root: &Root, environment: &[(String, String)]) -> std::io::Result<Self> {
        Asked::start(program, "plans", OsStr::new(&root.to_string()), environment).map(Self)
    }

    /// Runs a plan of [`plan::encode`](crate::plan::encode) there.
    ///
    /// # Errors
    /// What the plan fails with there, or that the process is gone.
    pub fn run(&mut self, plan: &[u8]) -> Result<Answer, SqlError> {
        let length = (plan.len() as u64).to_le_bytes();
        self.0.ask(&[&length, plan].concat())
    }
}

/// A process whose connections write the workload of a seed and a round until it is killed.
pub struct Writers {
    child: Child,
    ready: Receiver<()>,
    /// Everything it says.
    said: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
}

impl Writers {
    /// Starts it. `program` is the path of `cairn-test-process`.
    ///
    /// # Errors
    /// When the process can't be started.
    ///
    /// # Panics
    /// When the pipe asked for is not there.
    pub fn start(program: &Path, root: &Path, seed: u64, round: u64) -> std::io::Result<Self> {
        let mut child = without_settings(&mut Command::new(program))
            .arg("write")
            .arg(root)
            .args([seed.to_string(), round.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let (tell, ready) = mpsc::channel();
        // Read all the time: a pipe that is full would hold the writers up.
        let said = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
            let mut said = Vec::new();
            while output.read_until(b'\n', &mut said)? > 0 {
                if said == READY {
                    // The test may not wait for it.
                    let _ = tell.send(());
                }
            }
            Ok(said)
        });
        Ok(Self { child, ready, said: Some(said) })
    }

    /// Waits until it has opened the database, or has ended.
    pub fn wait_until_ready(&self) {
        // A process that has ended says nothing more; what it has said tells why.
        let _ = self.ready.recv();
    }

    /// Ends it as a power cut would end the process: SIGKILL. What it has said, whole lines only.
    ///
    /// # Errors
    /// When there is no such process any more, or what it said is no text.
    pub fn kill(mut self) -> std::io::Result<String> {
        self.child.kill()?;
        self.child.wait()?;
        let said = self.said.take().ok_or_else(|| std::io::Error::other("it was killed before"))?;
        let mut said = said.join().map_err(|_| std::io::Error::other("nobody has listened"))??;
        said.truncate(said.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        String::from_utf8(said).map_err(std::io::Error::other)
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // A test that fails must leave no writer behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server of Flight SQL with the default options, in a process of its own.
pub struct ServerProcess {
    child: Child,
    address: String,
}

impl ServerProcess {
    /// Starts it and waits until it listens. `program` is the path of `cairn-test-process`.
    ///
    /// # Errors
    /// When the process can't be started, or ends before it listens.
    ///
    /// # Panics
    /// When the pipes asked for are not there.
    pub fn start(program: &Path, root: &Path) -> std::io::Result<Self> {
        let mut child = without_settings(&mut Command::new(program))
            .arg("serve")
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().unwrap();
        let mut server = Self { child, address: String::new() };
        BufReader::new(output).read_line(&mut server.address)?;
        server.address.truncate(server.address.trim_end().len());
        if server.address.is_empty() {
            return Err(std::io::Error::other("the server ended before it listened"));
        }
        Ok(server)
    }

    /// Where it listens: `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Bytes of memory it has in use, as the system counts them.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn memory_bytes(&self) -> std::io::Result<u64> {
        let told = Command::new("ps").args(["-o", "rss=", "-p", &self.child.id().to_string()]).output()?;
        let kib = String::from_utf8_lossy(&told.stdout).trim().parse::<u64>();
        kib.map(|kib| kib << 10).map_err(std::io::Error::other)
    }

    /// Ends it as a power cut would end the process: SIGKILL.
    ///
    /// # Errors
    /// When there is no such process any more.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Ends it in order; whether it said that all went well.
    ///
    /// # Errors
    /// When its end can't be waited for.
    pub fn stop(mut self) -> std::io::Result<bool> {
        drop(self.child.stdin.take());
        Ok(self.child.wait()?.success())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // A test that fails must leave no server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
