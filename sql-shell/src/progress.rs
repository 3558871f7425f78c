//! One line on standard error that says how far a long statement is.
//!
//! Shown only on a terminal, only after a moment, and wiped away at the end.

use std::io::{self, IsTerminal};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::format::cut;
use crate::quantity;
use crate::terminal;

/// Nothing is shown before this.
const SHOWN_AFTER: Duration = Duration::from_millis(400);
/// Between two drawings.
const INTERVAL: Duration = Duration::from_millis(200);

/// What the line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    rows: u64,
    bytes: u64,
    bytes_total: u64,
}

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
        let progress = connection.progress();
        let counts = Counts {
            rows: progress.rows.load(Relaxed),
            bytes: progress.bytes.load(Relaxed),
            bytes_total: progress.bytes_total.load(Relaxed),
        };
        self.drawn = true;
        let line = text(&self.verb, counts, self.begun.elapsed());
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

fn text(verb: &str, counts: Counts, elapsed: Duration) -> String {
    let mut parts = vec![format!(
        "{verb} {}",
        quantity::duration(Duration::from_millis(100 * (elapsed.as_millis() as u64 / 100)))
    )];
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
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_known() {
        let second = Duration::from_secs(2);
        assert_eq!(text("CHECKPOINT", Counts::default(), second), "CHECKPOINT 2.00 s");
        let counts = Counts { rows: 1_200_000, bytes: 50_000_000, bytes_total: 200_000_000 };
        assert_eq!(
            text("COPY", counts, second),
            "COPY 2.00 s  1,200,000 rows  50.0 MB of 200 MB (25 %)  600 k rows/s"
        );
        let unknown = Counts { bytes_total: 0, ..counts };
        assert_eq!(text("COPY", unknown, second), "COPY 2.00 s  1,200,000 rows  50.0 MB  600 k rows/s");
    }
}
