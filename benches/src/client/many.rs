//! Many clients that ask at the same time, for the same while.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Result;

/// Time before the measurement, in which everybody asks already.
const WARM_UP: Duration = Duration::from_millis(500);

/// Clients at the same time.
#[derive(Args, Clone, Copy)]
pub(super) struct Many {
    /// Connections.
    #[arg(long)]
    pub(super) clients: usize,
    /// Length of the measurement.
    #[arg(long)]
    seconds: f64,
}

/// One client.
pub(super) trait Ask: Send + 'static {
    /// Asks once and checks the answer.
    fn ask(&mut self) -> impl Future<Output = Result<()>> + Send;
}

impl Many {
    /// Lets all of them ask, one question after the other each; how many answers came, in which time.
    ///
    /// # Errors
    /// The first error of one of them.
    pub(super) async fn run<A: Ask>(self, clients: Vec<A>) -> Result<Value> {
        let begin = Instant::now() + WARM_UP;
        let end = begin + Duration::from_secs_f64(self.seconds);
        let mut running = JoinSet::new();
        for client in clients {
            running.spawn(ask_until(client, begin, end));
        }
        let (mut micros, mut all) = (Vec::new(), 0);
        while let Some(ended) = running.join_next().await {
            let (of_one, asked) = ended??;
            micros.extend(of_one);
            all += asked;
        }
        micros.sort_by(f64::total_cmp);
        let at = |part: f64| micros.get((micros.len() as f64 * part) as usize).copied();
        Ok(json!({
            "all": all, "counted": micros.len(), "seconds": self.seconds, "p50_us": at(0.5), "p99_us": at(0.99),
        }))
    }
}

/// Microseconds of each answer between `begin` and `end`, and the number of answers in all.
async fn ask_until(mut client: impl Ask, begin: Instant, end: Instant) -> Result<(Vec<f64>, u64)> {
    let (mut micros, mut all) = (Vec::new(), 0);
    loop {
        let asked = Instant::now();
        if asked >= end {
            return Ok((micros, all));
        }
        client.ask().await?;
        all += 1;
        let answered = Instant::now();
        if answered > begin && answered <= end {
            micros.push((answered - asked).as_secs_f64() * 1e6);
        }
    }
}
