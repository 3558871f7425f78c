//! The journal on this machine of a database in a bucket (`durability = 'local'`): that what is only there can be read.

use std::time::Duration;

use super::{Finding, Findings, counted};
use crate::database::{Database, journal};
use crate::error::Error;

const CHECK: &str = "frames and versions";
/// What is removed or written just now is settled after this.
const WRITTEN_WITHIN: Duration = Duration::from_millis(100);

/// The journal, where there is one: each frame of it, as whoever sends it reads it.
pub(super) async fn check(database: &Database, findings: &mut Findings) {
    // That of a directory is its log.
    if !database.shared.remote {
        return;
    }
    let Some((fs, name)) = journal::place(database.id(), database.root(), database.options()) else {
        return;
    };
    // Nothing is appended meanwhile; what was sent may still be removed.
    let driving = match database.writer() {
        Ok(writer) => Some(writer.order.driving().await),
        Err(_) => None,
    };
    match fs.list("wal") {
        Ok(files) if files.is_empty() => return,
        Ok(_) => {}
        Err(error) => {
            let error = Error::io(format!("listing the journal {name}"), error);
            findings.push(Finding::new(name, CHECK, Err(error)));
            return;
        }
    }
    let mut read = journal::commits(&*fs, database.id());
    if read.is_err() {
        tokio::time::sleep(WRITTEN_WITHIN).await;
        read = journal::commits(&*fs, database.id());
    }
    drop(driving);
    let detail = |(commits, sent): (usize, usize)| {
        format!("{}, {sent} of them sent", counted(commits as u64, "commit"))
    };
    let mut finding = Finding::new(name, CHECK, read.map(detail));
    if finding.is_bad() {
        "commits that were not sent are nowhere else: keep a copy of this directory; `cairn dump journal` shows what can be read"
            .clone_into(&mut finding.hint);
    }
    findings.push(finding);
}
