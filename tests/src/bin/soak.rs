//! `cairn-soak`: everything at once for a long time, in one process whose size is watched.
//!
//! Owns: phases of the workload (`cairn_tests::workload`) on one database, the comparison with the model between them, opening it again, the
//! figures of the process and of its directory, and what they must not exceed. Does not own: being killed (`tests/crash.rs`).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use cairn_engine::OpenOptions;
use cairn_tests::Connection;
use cairn_tests::workload::{self, Crew, Model, Recall, Said, WRITERS, Watcher};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const HELP: &str = "\
cairn-soak: writers, readers, checkpoints, compactions, index builds and searches on one database, for minutes or hours

  --minutes N     how long (10)
  --interval N    seconds between two lines of the table, at least (10)
  --phase N       seconds until everybody pauses, all rows are compared with the model, VERIFY runs and the
                  database is opened again (30)
  --seed N        of the statements; printed, and another each time
  --directory D   where to make the database; it is left there (a temporary one, which goes)
  --help          this text

Exit code 0: all rows were right, VERIFY was clean at the end, and the figures stayed within their bounds; 1: not; 2: wrong arguments.
";

/// Budget of cached footers and key filters: less than the rest of the process takes.
const SEGMENT_CACHE_BYTES: usize = 16 << 20;
/// Samples below which growth cannot be told from warming up.
const SAMPLES_MIN: usize = 9;

/// What a figure must not exceed.
struct Bound {
    name: &'static str,
    of: fn(&Sample) -> u64,
    /// At any time.
    most: u64,
    /// The peak of the last third is at most that of the second third, a quarter of it, and this: what grows evenly is half as large again.
    slack: u64,
}

const BOUNDS: [Bound; 4] = [
    Bound { name: "memory in bytes", of: |s| s.memory_bytes, most: 2 << 30, slack: 64 << 20 },
    Bound { name: "files", of: |s| s.files, most: 2_000, slack: 100 },
    Bound { name: "bytes of the log", of: |s| s.log_bytes, most: 64 << 20, slack: 8 << 20 },
    Bound { name: "open descriptors", of: |s| s.descriptors, most: 1_000, slack: 50 },
];

/// What was asked for.
struct Settings {
    minutes: u64,
    interval: Duration,
    phase: Duration,
    seed: u64,
    directory: Option<PathBuf>,
}

impl Settings {
    /// None: only the help was.
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut settings = Self {
            minutes: 10,
            interval: Duration::from_secs(10),
            phase: Duration::from_secs(30),
            seed: u64::from(now.subsec_nanos()) ^ now.as_secs(),
            directory: None,
        };
        while let Some(name) = arguments.next() {
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            let seconds = || match number()? {
                0 => Err(format!("{name} is at least one second")),
                seconds => Ok(Duration::from_secs(seconds)),
            };
            match name.as_str() {
                "--minutes" => settings.minutes = number()?,
                "--interval" => settings.interval = seconds()?,
                "--phase" => settings.phase = seconds()?,
                "--seed" => settings.seed = number()?,
                "--directory" => settings.directory = Some(PathBuf::from(&value)),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(Some(settings))
    }
}

fn main() -> ExitCode {
    let settings = match Settings::read(std::env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("cairn-soak: {what}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match soak(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("cairn-soak --seed {}: {what}", settings.seed);
            ExitCode::FAILURE
        }
    }
}

fn soak(settings: &Settings) -> Result<(), String> {
    let home = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let root = settings.directory.clone().unwrap_or_else(|| home.path().to_path_buf()).join("db");
    if root.exists() {
        return Err(format!("{} is there already", root.display()));
    }
    println!("cairn-soak --seed {} --minutes {}, in {}", settings.seed, settings.minutes, root.display());
    if let Some(directory) = root.parent() {
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let first = open(&root, &OpenOptions::default())?;
    workload::set_up(&first);
    let mut soak = Soak {
        settings,
        root: &root,
        begun: Instant::now(),
        due: settings.interval,
        model: Model::new(first.version()),
        samples: Vec::new(),
        units: AtomicU64::new(0),
        recall: Recall::default(),
    };
    first.close().map_err(|error| format!("closing: {error}"))?;
    let looks = soak.run()?;
    let connection = open(&root, &OpenOptions { compacts: false, ..OpenOptions::default() })?;
    soak.model.judge(&connection, &[])?;
    // The last phase may have ended without closing, which leaves objects that nothing refers to, and a log with a torn end. What a checkpoint
    // has replaced goes with the second VACUUM. A build that goes on meanwhile would have a unit that nothing refers to yet.
    for statement in ["RUN JOBS", "CHECKPOINT", "VACUUM", "VACUUM"] {
        connection.run(statement).map_err(|error| format!("{statement}: {error}"))?;
    }
    verify(&connection, Verified::Clean)?;
    connection.close().map_err(|error| format!("closing: {error}"))?;
    println!(
        "{} units, {} of {} nearest rows found, {looks} looks of a reader, {} rows at the end: all right, VERIFY DEEP is clean",
        soak.units.load(Ordering::SeqCst),
        soak.recall.found,
        soak.recall.of,
        soak.model.rows()
    );
    if soak.samples.len() < SAMPLES_MIN {
        println!("{} samples are too few to tell growth: --minutes is too short", soak.samples.len());
    }
    check_bounds(&soak.samples)
}

fn open(root: &Path, options: &OpenOptions) -> Result<Connection, String> {
    Connection::open_dir(root, options).map_err(|error| format!("opening: {error}"))
}

/// What VERIFY may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verified {
    /// Nothing.
    Clean,
    /// Objects that readers hold, or that an end without closing has left.
    LeftOver,
}

fn verify(connection: &Connection, wanted: Verified) -> Result<(), String> {
    let statement = if wanted == Verified::Clean { "VERIFY DEEP" } else { "VERIFY" };
    let findings = connection.run(statement).map_err(|error| format!("{statement}: {error}"))?.rows();
    if findings.is_empty() {
        return Err(format!("{statement} checked nothing"));
    }
    let left_over = |finding: &[String]| {
        wanted == Verified::LeftOver && finding[2] == "warning" && finding[1] == "unreferenced objects"
    };
    match findings.iter().find(|finding| finding[2] != "ok" && !left_over(finding)) {
        None => Ok(()),
        Some(finding) => Err(format!("{statement} finds {finding:?}")),
    }
}

/// A run.
struct Soak<'a> {
    settings: &'a Settings,
    root: &'a Path,
    begun: Instant,
    /// When the next sample is, after the beginning. Pauses have none, and are not made up for: that would be one moment several times.
    due: Duration,
    model: Model,
    samples: Vec<Sample>,
    units: AtomicU64,
    recall: Recall,
}

impl Soak<'_> {
    /// All phases; how often the reader beside them has looked.
    fn run(&mut self) -> Result<u64, String> {
        let watcher = Watcher::start(self.root, self.settings.seed)
            .map_err(|error| format!("a thread for the reader: {error}"))?;
        let mut rng = StdRng::seed_from_u64(self.settings.seed);
        let until = Duration::from_secs(self.settings.minutes * 60);
        println!("{}", Sample::HEAD);
        let mut round = 0;
        while round == 0 || self.begun.elapsed() < until {
            let options = OpenOptions {
                segment_cache_bytes: SEGMENT_CACHE_BYTES,
                ..workload::options(self.settings.seed, round)
            };
            let connection = open(self.root, &options)?;
            self.phase(&connection, round, &watcher)?;
            if watcher.is_over() {
                return watcher.stop().and_then(|_| Err("the reader has ended by itself".to_owned()));
            }
            let place = |what: String| format!("after phase {round}: {what}");
            self.model.judge(&connection, &[]).map_err(place)?;
            self.recall += self.model.search(&connection, &mut rng).map_err(place)?;
            verify(&connection, Verified::LeftOver).map_err(place)?;
            self.model.tidy(&connection, self.root).map_err(place)?;
            if rng.random_bool(0.7) {
                connection.close().map_err(|error| place(format!("closing: {error}")))?;
            } else {
                connection.abandon();
            }
            round += 1;
        }
        watcher.stop()
    }

    /// Everybody works until the phase is over. The model has what they did then.
    fn phase(&mut self, connection: &Connection, round: u64, watcher: &Watcher) -> Result<(), String> {
        let ends = Instant::now() + self.settings.phase;
        let stop = AtomicBool::new(false);
        let versions: Vec<Mutex<Vec<u64>>> = (0..WRITERS).map(|_| Mutex::default()).collect();
        let wrong = Mutex::new(None);
        let hear = |said: Said| match said {
            Said::Ended { writer, version, .. } => {
                self.units.fetch_add(1, Ordering::SeqCst);
                if let Some(Ok(mut versions)) = versions.get(writer as usize).map(Mutex::lock) {
                    versions.push(version);
                }
            }
            Said::Wrong(what) => {
                if let Ok(mut wrong) = wrong.lock() {
                    wrong.get_or_insert(what);
                }
            }
        };
        let crew = Crew { connection, root: self.root, seed: self.settings.seed, round };
        let (mut samples, mut due) = (Vec::new(), self.due);
        let sampled = std::thread::scope(|scope| {
            let working = scope.spawn(|| crew.work(&stop, &hear));
            let mut sampled = Ok(());
            while Instant::now() < ends
                && !stop.load(Ordering::SeqCst)
                && !watcher.is_over()
                && sampled.is_ok()
            {
                let now = self.begun.elapsed();
                if now >= due {
                    due = now + self.settings.interval;
                    let units = self.units.load(Ordering::SeqCst);
                    sampled = Sample::take(now, units, self.root)
                        .map(|sample| {
                            println!("{}", sample.line());
                            samples.push(sample);
                        })
                        .map_err(|error| format!("the figures of the process: {error}"));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            stop.store(true, Ordering::SeqCst);
            let worked = working.join().unwrap_or_else(|_| Err(std::io::Error::other("a panic")));
            sampled.and(worked.map_err(|error| format!("the writers: {error}")))
        });
        self.samples.append(&mut samples);
        self.due = due;
        sampled?;
        if let Some(what) = wrong.into_inner().unwrap_or_else(|broken| broken.into_inner()) {
            return Err(format!("phase {round}: {what}"));
        }
        for (writer, versions) in (0..WRITERS).zip(versions) {
            let versions = versions.into_inner().unwrap_or_else(|broken| broken.into_inner());
            let units = workload::units(self.settings.seed, round, writer);
            for (unit, version) in units.zip(versions) {
                self.model.ended(writer, &unit, version);
            }
        }
        Ok(())
    }
}

/// Figures of one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    /// So far.
    units: u64,
    /// Resident.
    memory_bytes: u64,
    /// Below the root, but for manifests.
    files: u64,
    /// Manifests with their leaves and histories: both stay for a day after each checkpoint, so there is no bound for these.
    manifests: u64,
    /// Of all files.
    bytes: u64,
    /// Of those of the log.
    log_bytes: u64,
    descriptors: u64,
}

impl Sample {
    const HEAD: &'static str =
        "  seconds      units  memory MiB    files  manifests  files MiB  log KiB  descriptors";

    fn take(at: Duration, units: u64, root: &Path) -> std::io::Result<Self> {
        let (mut files, mut bytes, mut log_bytes) = (0, 0, 0);
        files_below(root, &mut |size| {
            files += 1;
            bytes += size;
        })?;
        let mut manifests = 0;
        for folder in ["manifest", "history"] {
            files_below(&root.join(folder), &mut |_| manifests += 1)?;
        }
        // One may have come between.
        let files = u64::saturating_sub(files, manifests);
        files_below(&root.join("wal"), &mut |size| log_bytes += size)?;
        let descriptors = std::fs::read_dir("/proc/self/fd")?.count() as u64;
        let memory_bytes = memory_bytes()?;
        Ok(Self { at, units, memory_bytes, files, manifests, bytes, log_bytes, descriptors })
    }

    fn line(&self) -> String {
        format!(
            "{:>9} {:>10} {:>11} {:>8} {:>10} {:>10} {:>8} {:>12}",
            self.at.as_secs(),
            self.units,
            self.memory_bytes >> 20,
            self.files,
            self.manifests,
            self.bytes >> 20,
            self.log_bytes >> 10,
            self.descriptors
        )
    }
}

/// Tells the size of every file. Those that go meanwhile are none.
fn files_below(folder: &Path, tell: &mut dyn FnMut(u64)) -> std::io::Result<()> {
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return gone(error),
    };
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => files_below(&entry.path(), tell)?,
            Ok(metadata) => tell(metadata.len()),
            Err(error) => gone(error)?,
        }
    }
    Ok(())
}

/// Memory of this process, as the system counts it.
fn memory_bytes() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| std::io::Error::other("/proc/self/status has no VmRSS"))
}

/// Whether the figures stayed where they must.
fn check_bounds(samples: &[Sample]) -> Result<(), String> {
    let mut broken = Vec::new();
    for bound in &BOUNDS {
        let peak = |samples: &[Sample]| samples.iter().map(bound.of).max().unwrap_or_default();
        let (most, name) = (peak(samples), bound.name);
        if most > bound.most {
            broken.push(format!("{name}: {most}, more than {}", bound.most));
        }
        // The first third warms up.
        let third = samples.len() / 3;
        if samples.len() >= SAMPLES_MIN {
            let (before, after) = (peak(&samples[third..2 * third]), peak(&samples[2 * third..]));
            let bounded = before + before / 4 + bound.slack;
            if after > bounded {
                broken.push(format!("{name}: {after} in the last third, {before} in the second: it grows"));
            }
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("; ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample(memory_bytes: u64, files: u64) -> Sample {
        Sample {
            at: Duration::ZERO,
            units: 0,
            memory_bytes,
            files,
            manifests: 0,
            bytes: 0,
            log_bytes: 0,
            descriptors: 20,
        }
    }

    #[test]
    fn growth_is_told_from_warming_up() {
        let steady: Vec<Sample> =
            (0..30).map(|n| sample(if n < 8 { 100 << 20 } else { 900 << 20 }, 50)).collect();
        assert_eq!(check_bounds(&steady), Ok(()));
        let growing: Vec<Sample> = (0..30).map(|n| sample(100 << 20, 50 + n * 60)).collect();
        assert!(check_bounds(&growing).unwrap_err().contains("files: 1790 in the last third"));
        assert!(check_bounds(&[sample(3 << 30, 1)]).unwrap_err().contains("memory in bytes"));
    }

    #[test]
    fn arguments_are_read() {
        let read = |text: &str| Settings::read(text.split_whitespace().map(str::to_owned));
        let settings = read("--minutes 3 --seed 9 --interval 2 --phase 5").unwrap().unwrap();
        assert_eq!((settings.minutes, settings.seed), (3, 9));
        assert_eq!((settings.interval, settings.phase), (Duration::from_secs(2), Duration::from_secs(5)));
        assert!(read("--minutes 3 --help").unwrap().is_none());
        for wrong in ["--minutes", "--minutes x", "--interval 0", "--hours 3"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_process_has_figures() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("wal")).unwrap();
        std::fs::write(home.path().join("wal/1"), [0; 100]).unwrap();
        std::fs::write(home.path().join("CAIRN"), [0; 30]).unwrap();
        std::fs::create_dir(home.path().join("manifest")).unwrap();
        std::fs::write(home.path().join("manifest/1"), [0; 7]).unwrap();
        let sample = Sample::take(Duration::ZERO, 0, home.path()).unwrap();
        assert_eq!((sample.files, sample.manifests), (2, 1));
        assert_eq!((sample.bytes, sample.log_bytes), (137, 100));
        assert!(sample.memory_bytes > 1 << 20 && sample.descriptors > 2);
    }
}
