//! One line on standard error that says how far a long statement is.
//!
//! Shown only on a terminal, only after a moment, and wiped away at the end.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use cairn_server::{JobProgress, ProgressReport};

use crate::connection::Connection;
use crate::format::{cut, printable};
use crate::quantity;
use crate::terminal;

/// Nothing is shown before this.
const SHOWN_AFTER: Duration = Duration::from_millis(400);
/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(200);
/// How long it will take is not guessed before this.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// Nor beyond this.
const LEFT_MAX: Duration = Duration::from_secs(100 * 60 * 60);

/// Statements whose work is done by jobs.
const DONE_BY_JOBS: &[&str] = &["CHECKPOINT", "COMPACT", "CREATE", "REINDEX", "RUN", "VACUUM"];

/// The line of one statement.
pub(crate) struct ProgressLine {
    verb: String,
    begun: Instant,
    width: usize,
    enabled: bool,
    drawn: bool,
}

impl ProgressLine {
    /// For the statement `sql`, in a terminal of `width` columns.
    pub(crate) fn new(sql: &str, width: Option<usize>) -> Self {
        let verb = sql.split_whitespace().next().unwrap_or("").to_ascii_uppercase();
        Self {
            verb,
            begun: Instant::now(),
            width: width.unwrap_or(80),
            enabled: io::stderr().is_terminal(),
            drawn: false,
        }
    }

    /// Waits until it is time to draw; for ever when there is nothing to draw on.
    pub(crate) async fn due(&self) {
        if !self.enabled {
            return std::future::pending().await;
        }
        let first = SHOWN_AFTER.saturating_sub(self.begun.elapsed());
        tokio::time::sleep(if self.drawn { INTERVAL } else { first }).await;
    }

    /// Draws it anew.
    pub(crate) fn draw(&mut self, connection: &Connection) {
        let report = connection.progress(DONE_BY_JOBS.contains(&self.verb.as_str()));
        self.drawn = true;
        // Others have named the tables of jobs.
        let line = text(&self.verb, &report, self.begun.elapsed());
        let line = printable(&line).replace('\n', " ");
        terminal::say_text(&format!("\r\x1b[K{}", cut(&line, self.width.saturating_sub(1))));
    }

    /// Wipes it away.
    pub(crate) fn clear(&mut self) {
        if self.drawn {
            terminal::say_text("\r\x1b[K");
            self.drawn = false;
        }
        // Rows are coming: from now on they are the progress.
        self.enabled = false;
    }
}

fn text(verb: &str, counts: &ProgressReport, elapsed: Duration) -> String {
    let mut parts = vec![format!(
        "{verb} {}",
        quantity::duration(Duration::from_millis(100 * (elapsed.as_millis() as u64 / 100)))
    )];
    if counts.waiting {
        parts.push("waiting for its turn".to_owned());
    }
    if counts.rows > 0 {
        parts.push(quantity::rows(counts.rows));
    }
    if counts.bytes_total > 0 {
        let percent = counts.bytes.min(counts.bytes_total) as f64 * 100.0 / counts.bytes_total as f64;
        parts.push(format!(
            "{} of {} ({percent:.0} %)",
            quantity::bytes(counts.bytes),
            quantity::bytes(counts.bytes_total)
        ));
    } else if counts.bytes > 0 {
        parts.push(quantity::bytes(counts.bytes));
    }
    if counts.rows > 0 && !elapsed.is_zero() {
        parts.push(format!("{} rows/s", quantity::short(counts.rows as f64 / elapsed.as_secs_f64())));
    }
    parts.extend(left(counts, elapsed));
    let shown = |job: &JobProgress| format!("{} {:.0} %", job.what, job.progress * 100.0);
    parts.extend(counts.jobs.iter().map(shown));
    parts.join("  ")
}

/// How long it will take still, when the rest takes as long as what is done; None: too little is done to tell.
fn left(counts: &ProgressReport, elapsed: Duration) -> Option<String> {
    if counts.bytes == 0 || counts.bytes >= counts.bytes_total || elapsed < TOLD_AFTER {
        return None;
    }
    let rest = (counts.bytes_total - counts.bytes) as f64 / counts.bytes as f64;
    let seconds = (elapsed.as_secs_f64() * rest).ceil().min(LEFT_MAX.as_secs_f64()) as u64;
    Some(match seconds {
        0..60 => format!("{seconds} s left"),
        _ => format!("{} min {:02} s left", seconds / 60, seconds % 60),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_known() {
        let second = Duration::from_secs(2);
        let nothing = ProgressReport::default();
        assert_eq!(text("CHECKPOINT", &nothing, second), "CHECKPOINT 2.00 s");
        let waiting = ProgressReport { waiting: true, ..nothing.clone() };
        assert_eq!(text("SELECT", &waiting, second), "SELECT 2.00 s  waiting for its turn");
        let (rows, bytes, bytes_total) = (1_200_000, 50_000_000, 200_000_000);
        let counts = ProgressReport { rows, bytes, bytes_total, ..nothing.clone() };
        assert_eq!(
            text("COPY", &counts, second),
            "COPY 2.00 s  1,200,000 rows  50.0 MB of 200 MB (25 %)  600 k rows/s  6 s left"
        );
        let unknown = ProgressReport { bytes_total: 0, ..counts };
        assert_eq!(text("COPY", &unknown, second), "COPY 2.00 s  1,200,000 rows  50.0 MB  600 k rows/s");
        let jobs = vec![JobProgress { what: "build_index public.notes".into(), progress: 0.456 }];
        let shown = text("CREATE", &ProgressReport { jobs, ..nothing }, second);
        assert_eq!(shown, "CREATE 2.00 s  build_index public.notes 46 %");
    }

    #[test]
    fn what_is_left_is_told_when_it_can_be() {
        let of = |bytes, seconds| {
            let counts = ProgressReport { bytes, bytes_total: 1_000, ..ProgressReport::default() };
            left(&counts, Duration::from_secs(seconds))
        };
        assert_eq!(of(0, 5), None);
        assert_eq!(of(1_000, 5), None);
        assert_eq!(of(500, 0), None);
        assert_eq!(of(500, 5).as_deref(), Some("5 s left"));
        assert_eq!(of(100, 20).as_deref(), Some("3 min 00 s left"));
        assert!(of(1, 1_000_000).is_some_and(|text| text.ends_with("left")));
    }
}
