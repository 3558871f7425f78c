//! The shell as somebody types: at a terminal of its own.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cairn_tests::without_settings;
use nix::pty::{Winsize, openpty};
use nix::sys::termios::Termios;

/// Generous, for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(60);

/// A shell at a terminal of 80 columns and 24 lines.
struct Typed {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// What was waited for already.
    seen: usize,
}

impl Typed {
    fn start(home: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(Some(&size), None::<&Termios>).unwrap();
        let side = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        without_settings(&mut command);
        command.args(args).stdin(side()).stdout(side()).stderr(side());
        command.env("HOME", home).env("TERM", "xterm").env("NO_COLOR", "1");
        for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "PAGER", "VISUAL", "EDITOR", "LESS"] {
            command.env_remove(name);
        }
        let child = command.envs(variables.iter().copied()).spawn().unwrap();
        let keys = File::from(terminal.master);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let show = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The terminal ends with an error.
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                show.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        Self { child, keys, shown, seen: 0 }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()[self.seen..]).into_owned()
    }

    /// Waits until `text` is on the screen, behind what was waited for before.
    fn sees(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let shown = self.text();
            if let Some(at) = shown.find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(begun.elapsed() < SOON, "{text:?} is not in {shown:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    /// The exit code.
    fn ends(mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if begun.elapsed() > SOON {
                self.child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process that is killed at the end.
struct Killed(Child);

impl Killed {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        without_settings(&mut command);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_statement_at_a_server_says_how_far_it_is() {
    let listen = ["--flight-listen=127.0.0.1:0", "--http-listen=off"];
    // It waits longer than the test does.
    let queue = ["--limit-concurrent=1", "--limit-queue-wait=1h"];
    let mut server = Killed::start(&[&["serve", ":memory:"][..], &listen[..], &queue[..]].concat());
    let mut lines = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let url = lines.find_map(|line| line.unwrap().strip_prefix("Flight SQL: ").map(str::to_owned)).unwrap();
    // As long as nobody reads them, its rows keep the one place.
    let endless = "SELECT value AS n FROM generate_series(1, 1000000000000)";
    let mut other = Killed::start(&[url.as_str(), "--format", "csv", "-c", endless]);
    let mut rows = BufReader::new(other.0.stdout.take().unwrap());
    let mut first = String::new();
    rows.read_line(&mut first).unwrap();
    assert_eq!(first, "n\n");
    let home = tempfile::tempdir().unwrap();
    let mut typed = Typed::start(home.path(), &[url.as_str(), "--format", "csv"], &[]);
    typed.sees("cairn> ");
    typed.types("SELECT 1 AS one;\r");
    typed.sees("waiting for its turn");
    drop(other);
    typed.sees("one\r\n1\r\n");
    typed.sees("cairn> ");
    typed.types("\x04");
    assert_eq!(typed.ends(), Some(0));
}

#[test]
fn a_statement_is_typed_over_lines_and_is_one_entry_of_the_history() {
    let home = tempfile::tempdir().unwrap();
    let mut typed = Typed::start(home.path(), &[":memory:", "--format", "csv"], &[]);
    typed.sees("cairn> ");
    typed.types("SELECT 1 AS a,\r2 AS b\r;\r");
    typed.sees("a,b\r\n1,2\r\n");
    typed.sees("cairn> ");
    typed.types(".history 2\r");
    typed.sees("SELECT 1 AS a,\r\n2 AS b;\r\n.history 2\r\n");
    typed.sees("cairn> ");
    typed.types("\x04");
    assert_eq!(typed.ends(), Some(0));
}

#[test]
fn long_results_are_paged_and_short_ones_are_not() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("paged");
    let pager = format!("cat > '{}'", file.display());
    let mut typed = Typed::start(home.path(), &[":memory:", "--format", "csv"], &[("PAGER", pager.as_str())]);
    typed.sees("cairn> ");
    typed.types("SELECT value AS n FROM generate_series(1, 5) ORDER BY 1;\r");
    typed.sees("n\r\n1\r\n2\r\n3\r\n4\r\n5\r\n");
    typed.sees("cairn> ");
    assert!(!file.exists());
    typed.types("SELECT value AS n FROM generate_series(1, 500) ORDER BY 1;\r");
    typed.sees("time: ");
    typed.sees("cairn> ");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 501);
    typed.types(".exit 5\r");
    assert_eq!(typed.ends(), Some(5));
}

#[test]
fn the_users_file_is_read_first_and_only_here() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/cairn");
    std::fs::create_dir_all(&folder).unwrap();
    let rc = ".mode csv\n.timer off\nCREATE TABLE t (a INT);\nSELECT nothing_here;\n.nullvalue -\n";
    std::fs::write(folder.join("shellrc"), rc).unwrap();
    let mut typed = Typed::start(home.path(), &[":memory:"], &[]);
    typed.sees("nothing_here");
    typed.sees("cairn> ");
    typed.types("SELECT count(*) AS n FROM t;\r");
    typed.sees("n\r\n0\r\n");
    typed.sees("cairn> ");
    typed.types(".show\r");
    typed.sees("nullvalue    -\r\n");
    typed.sees("timer        off\r\n");
    typed.sees("cairn> ");
    typed.types("\x04");
    assert_eq!(typed.ends(), Some(0));

    let mut without = Typed::start(home.path(), &[":memory:", "--no-rc"], &[]);
    without.sees("cairn> ");
    without.types(".mode\r");
    without.sees("box\r\n");
    without.sees("cairn> ");
    without.types("\x04");
    assert_eq!(without.ends(), Some(0));

    let mut flag = Typed::start(home.path(), &[":memory:", "--format", "ndjson"], &[]);
    flag.sees("cairn> ");
    flag.types("SELECT 1 AS n;\r");
    flag.sees("{\"n\":1}\r\n");
    flag.sees("cairn> ");
    flag.types("\x04");
    assert_eq!(flag.ends(), Some(0));

    let script = without_settings(&mut Command::new(env!("CARGO_BIN_EXE_cairn")))
        .args([":memory:", "-c", "SELECT NULL AS n"])
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .output()
        .unwrap();
    assert!(String::from_utf8(script.stdout).unwrap().contains("NULL"));
}

#[test]
fn tab_completes() {
    let home = tempfile::tempdir().unwrap();
    let mut typed = Typed::start(home.path(), &[":memory:", "--format", "csv"], &[]);
    typed.sees("cairn> ");
    typed.types("CREATE TABLE measurements (temperature INT);\r");
    typed.sees("CREATE TABLE\r\n");
    typed.sees("cairn> ");
    typed.types("SELECT count(*) AS n FROM meas\t;\r");
    typed.sees("n\r\n0\r\n");
    typed.sees("cairn> ");
    typed.types("\x04");
    assert_eq!(typed.ends(), Some(0));
}
