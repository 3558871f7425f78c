//! Jobs: asked for, cancelled, paused, tried again, and known to the next process.

use std::time::Duration;

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::database::JobsWanted;
use crate::error::ErrorKind;
use crate::jobs::{JobKind, JobRow, write_history};
use crate::scratch::scratch;

fn options() -> OpenOptions {
    OpenOptions { compacts: false, keeps_jobs: true, ..OpenOptions::default() }
}

/// `count` segments of a few rows each.
async fn with_segments(db: &Arc<Database>, count: i64) -> TableId {
    let table = create(db, "t", true).await.unwrap();
    for round in 0..count {
        insert(db, table, &rows(round * 20..round * 20 + 20)).await.unwrap();
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    table
}

fn of_kind(db: &Database, kind: JobKind) -> Vec<JobRow> {
    db.jobs().into_iter().filter(|row| row.kind == kind.as_str()).collect()
}

/// Waits until the job has ended.
async fn ended(db: &Database, id: u64) -> JobRow {
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        let row = db.jobs().into_iter().find(|row| row.id == id).unwrap();
        if row.finished_us.is_some() {
            return row;
        }
        assert!(tokio::time::Instant::now() < end, "{row:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn rows_say_what_a_job_did_and_used() {
    let db = Database::open(Root::Memory, options()).await.unwrap();
    let table = with_segments(&db, 6).await;
    let wanted = JobsWanted { kind: Some(JobKind::Compact), table: Some(table), ..JobsWanted::default() };
    let receipt = db.run_jobs(&wanted).await.unwrap();
    assert!(receipt.triggered && receipt.completed >= 1 && receipt.rows >= 120, "{receipt:?}");
    let row = of_kind(&db, JobKind::Compact).pop().unwrap();
    assert_eq!((row.status.as_str(), row.attempts, row.progress), ("completed", 1, 1.0));
    assert_eq!((row.table.as_deref(), row.table_id), (Some("public.t"), Some(table)));
    assert!(row.cpu > Duration::ZERO && row.memory_bytes > 0, "{row:?}");
    assert!(row.heartbeat_us >= row.started_us && row.finished_us >= row.heartbeat_us);
    assert!(row.node.ends_with(&format!("/{}", std::process::id())));
    // Nothing is left to do.
    let again = db.run_jobs(&wanted).await.unwrap();
    assert_eq!((again.triggered, again.completed), (false, 0));
    db.close().await.unwrap();
}

#[tokio::test]
async fn the_next_process_knows_them() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let db = Database::open(root.clone(), options()).await.unwrap();
    let table = with_segments(&db, 2).await;
    let paused = db.pause_jobs(Some(JobKind::Collect)).await.unwrap();
    assert_eq!(paused.len(), 1);
    let before: Vec<(u64, String)> = db.jobs().into_iter().map(|row| (row.id, row.status)).collect();
    db.close().await.unwrap();

    let db = Database::open(root.clone(), options()).await.unwrap();
    let after: Vec<(u64, String)> = db.jobs().into_iter().map(|row| (row.id, row.status)).collect();
    assert_eq!(after, before);
    let checkpoint = of_kind(&db, JobKind::Checkpoint).remove(0);
    assert!(checkpoint.rows == 20 && checkpoint.finished_us.is_some());
    // A follower sees what is kept.
    let reader = OpenOptions { read_only: true, ..options() };
    let reader = Database::open(root.clone(), reader).await.unwrap();
    assert_eq!(reader.all_jobs().await.unwrap().len(), before.len());
    assert_eq!(reader.cancel_job(1).await.unwrap_err().kind(), ErrorKind::ReadOnly);

    // What was asked for, and interrupted by the end of its process.
    let row = JobRow {
        id: 900,
        kind: "compact".to_owned(),
        table: Some("public.t".to_owned()),
        table_id: Some(table),
        status: "running".to_owned(),
        attempts: 1,
        ..JobRow::default()
    };
    let lost = JobRow { id: 901, table_id: Some(TableId(77)), status: "retrying".to_owned(), ..row.clone() };
    write_history(&db, &[row, lost], &[]).await.unwrap();
    db.close().await.unwrap();
    let db = Database::open(root, options()).await.unwrap();
    let row = ended(&db, 900).await;
    assert_eq!(row.status, "completed", "{row:?}");
    ended(&db, 901).await;
    // Numbers go on.
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    insert(&db, table, &rows(1_000..1_001)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    assert!(of_kind(&db, JobKind::Checkpoint).last().unwrap().id > 901);
    for finding in db.verify(VerifyScope::Database).await.unwrap() {
        assert!(
            matches!(
                finding.status,
                crate::verify::FindingStatus::Ok | crate::verify::FindingStatus::Warning
            ),
            "{finding:?}"
        );
    }
    db.resume_jobs(None).await.unwrap();
    assert!(db.jobs().iter().all(|row| row.status != "paused"));
    db.close().await.unwrap();
}

#[tokio::test]
async fn rows_are_kept_only_where_they_are_wanted() {
    let db = Database::open(Root::Memory, OpenOptions { keeps_jobs: false, ..options() }).await.unwrap();
    with_segments(&db, 2).await;
    db.pause_jobs(None).await.unwrap();
    assert!(!db.snapshot().catalog().has_own_schema());
    db.close().await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_paused_kind_begins_by_itself() {
    let options = OpenOptions { compacts: true, compact_delay: Duration::ZERO, ..options() };
    let db = Database::open(Root::Memory, options).await.unwrap();
    let paused = db.pause_jobs(Some(JobKind::Compact)).await.unwrap().remove(0);
    assert_eq!((paused.status.as_str(), paused.kind.as_str()), ("paused", "compact"));
    let table = with_segments(&db, 12).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(db.snapshot().state().tables[&table].segments.len(), 12);
    // Who asks for it gets it.
    assert!(db.compact(Some(table)).await.unwrap().triggered);
    assert_eq!(db.resume_job(77).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(db.resume_job(paused.id).await.unwrap().status, "completed");
    let error = db.resume_job(paused.id).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidInput, "job 1 is completed"));
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_database_at_rest_writes_its_rows_by_itself() {
    for (upkeep, bytes) in [(true, 2 << 20), (true, 1 << 10), (false, 2 << 20)] {
        let idle = Some(Duration::from_millis(10));
        let db = Database::open(Root::Memory, OpenOptions { checkpoint_idle: idle, upkeep, ..options() })
            .await
            .unwrap();
        let table = create(&db, "t", true).await.unwrap();
        insert(&db, table, &[(1, "x".repeat(bytes))]).await.unwrap();
        let is_hot = || db.snapshot().state().tables[&table].is_hot();
        if upkeep && bytes > 1 << 20 {
            let end = tokio::time::Instant::now() + Duration::from_secs(120);
            while is_hot() {
                assert!(tokio::time::Instant::now() < end, "{:?}", db.jobs());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let row = of_kind(&db, JobKind::Checkpoint).remove(0);
            assert_eq!(row.parameters, "reason=idle");
        } else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(is_hot() && of_kind(&db, JobKind::Checkpoint).is_empty());
        }
        // Who asks for it gets it.
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
        assert!(!is_hot());
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_has_passed_the_memory_by_is_in_a_manifest_soon() {
    let idle = Some(Duration::from_millis(10));
    let options = OpenOptions { checkpoint_idle: idle, wal_entry_bytes_max: 24 << 10, ..options() };
    let db = Database::open(Root::Memory, options).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    let many: Vec<(i64, String)> = (0..400).map(|k| (k, format!("{k:0>200}"))).collect();
    insert(&db, table, &many).await.unwrap();
    let loaded = db.snapshot();
    assert!(!loaded.state().tables[&table].is_hot());
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    while db.snapshot().state().tables[&table].flushed < loaded.version() {
        assert!(tokio::time::Instant::now() < end, "{:?}", db.jobs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // And then there is nothing to do.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(of_kind(&db, JobKind::Checkpoint).len(), 1);
    db.close().await.unwrap();
}

#[tokio::test]
async fn where_upkeep_is_off_nothing_runs_that_nobody_asked_for() {
    let options = OpenOptions { compacts: true, compact_delay: Duration::ZERO, upkeep: false, ..options() };
    let options = OpenOptions { checkpoint_wal_bytes: 1, ..options };
    let db = Database::open(Root::Memory, options).await.unwrap();
    let table = with_segments(&db, 12).await;
    insert(&db, table, &rows(1_000..1_010)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(db.snapshot().state().tables[&table].segments.len(), 12);
    assert!(of_kind(&db, JobKind::Compact).is_empty());
    assert!(of_kind(&db, JobKind::Checkpoint).iter().all(|row| row.parameters == "reason=statement"));
    assert!(db.run_jobs(&JobsWanted::default()).await.unwrap().triggered);
    assert_eq!(db.snapshot().state().tables[&table].segments.len(), 1);
    db.close().await.unwrap();
}

#[tokio::test]
async fn what_is_tried_again_does_what_it_was_for_whatever_is_paused() {
    let dir = scratch().unwrap();
    let root = Root::Path(dir.path().join("db"));
    let db = Database::open(root.clone(), options()).await.unwrap();
    // Too few for upkeep, but not for who asks.
    let table = with_segments(&db, 2).await;
    db.pause_jobs(Some(JobKind::Compact)).await.unwrap();
    let row = JobRow {
        id: 900,
        kind: "compact".to_owned(),
        table: Some("public.t".to_owned()),
        table_id: Some(table),
        parameters: "table=public.t reason=statement".to_owned(),
        status: "retrying".to_owned(),
        attempts: 1,
        ..JobRow::default()
    };
    let upkeep = JobRow { id: 901, parameters: "table=public.t reason=upkeep".to_owned(), ..row.clone() };
    write_history(&db, &[upkeep], &[]).await.unwrap();
    db.close().await.unwrap();

    // What upkeep has left waits until its kind is resumed.
    let db = Database::open(root.clone(), options()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let left = db.jobs().into_iter().find(|row| row.id == 901).unwrap();
    assert_eq!((left.status.as_str(), left.attempts), ("retrying", 1));
    assert_eq!(db.snapshot().state().tables[&table].segments.len(), 2);
    write_history(&db, &[row], &[]).await.unwrap();
    db.close().await.unwrap();

    let db = Database::open(root, options()).await.unwrap();
    let row = ended(&db, 900).await;
    assert_eq!(
        (row.status.as_str(), row.attempts, row.parameters.as_str()),
        ("completed", 2, "table=public.t reason=statement")
    );
    assert_eq!(db.snapshot().state().tables[&table].segments.len(), 1);
    db.resume_jobs(Some(JobKind::Compact)).await.unwrap();
    assert_eq!(ended(&db, 901).await.status, "completed");
    db.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_tried_again_and_harms_no_commit() {
    let dir = scratch().unwrap();
    let path = dir.path().join("db");
    let options = OpenOptions { checkpoint_wal_bytes: 1, ..options() };
    let db = Database::open(Root::Path(path.clone()), options).await.unwrap();
    // A file where the folder of segments should be.
    std::fs::write(path.join("table"), b"in the way").unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..20)).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(120);
    let retrying = loop {
        insert(&db, table, &[]).await.unwrap();
        let found = of_kind(&db, JobKind::Checkpoint).into_iter().find(|row| row.status == "retrying");
        if let Some(row) = found {
            break row;
        }
        assert!(tokio::time::Instant::now() < end, "{:?}", db.jobs());
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(retrying.error.is_some() && retrying.next_retry_us > retrying.heartbeat_us, "{retrying:?}");
    std::fs::remove_file(path.join("table")).unwrap();
    // By itself, after its pause.
    let row = ended(&db, retrying.id).await;
    assert_eq!((row.status.as_str(), row.error), ("completed", None));
    assert!(row.attempts > 1);
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 20);
    db.close().await.unwrap();
}

#[tokio::test]
async fn jobs_are_cancelled_between_their_steps() {
    let db = Database::open(Root::Memory, options()).await.unwrap();
    let table = with_segments(&db, 4).await;
    let before = contents(&db.snapshot().table(table).unwrap()).await.unwrap();
    let id = db.jobs().last().unwrap().id;
    assert_eq!(db.cancel_job(id).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(db.cancel_job(id + 100).await.unwrap_err().kind(), ErrorKind::NotFound);
    // As soon as the merge is there it is told to end, which it may have done by then.
    let (merging, asked) = tokio::join!(db.compact(Some(table)), async {
        loop {
            let running = of_kind(&db, JobKind::Compact).into_iter().next();
            if let Some(row) = running {
                return db.cancel_job(row.id).await;
            }
            tokio::task::yield_now().await;
        }
    });
    let row = of_kind(&db, JobKind::Compact).remove(0);
    match merging {
        Ok(_) => assert_eq!(row.status, "completed", "{row:?}"),
        Err(error) => {
            assert_eq!((error.kind(), row.status.as_str()), (ErrorKind::Cancelled, "cancelled"), "{row:?}");
            assert_eq!(asked.unwrap().status, "cancelled");
            assert_eq!(db.retry_job(row.id).await.unwrap().status, "queued");
            assert_eq!(ended(&db, row.id).await.status, "completed");
        }
    }
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap(), before);
    db.close().await.unwrap();
}

#[tokio::test]
async fn a_vacuum_removes_what_others_have_left() {
    let dir = scratch().unwrap();
    let path = dir.path().join("db");
    let db = Database::open(Root::Path(path.clone()), OpenOptions { keeps_jobs: false, ..options() })
        .await
        .unwrap();
    let table = with_segments(&db, 2).await;
    let folder = path.join("table").join(table.to_string());
    let count = || std::fs::read_dir(&folder).unwrap().count();
    let whole = count();
    // A segment that no commit names, as a process that was killed leaves it.
    let segment = db.snapshot().state().tables[&table].segments[0].meta.path();
    std::fs::copy(path.join(&segment), folder.join("00000000-00000000.parquet")).unwrap();
    assert_eq!(count(), whole + 1);
    let other = create(&db, "other", true).await.unwrap();
    assert_eq!(db.vacuum(Some(other)).await.unwrap().objects(), 0);
    let receipt = db.vacuum(Some(table)).await.unwrap();
    assert_eq!((receipt.objects(), receipt.more, count()), (1, false, whole));
    assert!(receipt.bytes() > 0);
    assert_eq!(db.vacuum(None).await.unwrap().objects(), 0);
    let row = of_kind(&db, JobKind::Collect).remove(1);
    assert_eq!((row.rows, row.bytes, row.table.as_deref()), (1, receipt.bytes(), Some("public.t")));
    assert_eq!(contents(&db.snapshot().table(table).unwrap()).await.unwrap().len(), 40);
    db.close().await.unwrap();
}
