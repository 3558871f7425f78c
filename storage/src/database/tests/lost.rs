//! An object that is gone costs what it held, and nothing else.

use std::path::{Path, PathBuf};

use super::*;
use crate::checkpoint::CheckpointReason;
use crate::error::ErrorKind;
use crate::scratch::scratch;
use crate::verify::{FindingStatus, VerifyScope};

/// Objects of the database whose name ends with `.extension`.
fn objects(root: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("table")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

async fn findings(db: &Arc<Database>, name: &str) -> usize {
    let all = db.verify(VerifyScope::Database).await.unwrap();
    let bad = [FindingStatus::Damaged, FindingStatus::Missing];
    all.iter().filter(|f| bad.contains(&f.status) && f.object.contains(name)).count()
}

#[tokio::test]
async fn without_its_key_filter_a_segment_still_finds_keys() {
    let dir = scratch().unwrap();
    let path = dir.path().join("db");
    let root = Root::Path(path.clone());
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let table = create(&db, "t", true).await.unwrap();
    insert(&db, table, &rows(0..100)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    db.close().await.unwrap();
    let filters = objects(&path, "keys");
    assert_eq!(filters.len(), 1);

    for damage in [true, false] {
        if damage {
            std::fs::write(&filters[0], b"not a filter").unwrap();
        } else {
            std::fs::remove_file(&filters[0]).unwrap();
        }
        let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
        let snapshot = db.snapshot().table(table).unwrap();
        assert_eq!(ids_of(&snapshot, &[3, 64, 1_000]).await.unwrap().len(), 2);
        let duplicate = insert(&db, table, &rows(64..65)).await.unwrap_err();
        assert_eq!(duplicate.kind(), ErrorKind::ConstraintViolation);
        assert!(findings(&db, ".keys").await > 0, "VERIFY names the filter");
        db.close().await.unwrap();
    }
}

/// Deletes enough rows at once for a `.deletes` object; the manifest names it, or only the log does.
async fn lose_deletes(in_manifest: bool) {
    let dir = scratch().unwrap();
    let path = dir.path().join("db");
    let root = Root::Path(path.clone());
    let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
    let hurt = create(&db, "hurt", true).await.unwrap();
    let well = create(&db, "well", true).await.unwrap();
    insert(&db, hurt, &rows(0..100)).await.unwrap();
    insert(&db, well, &rows(0..10)).await.unwrap();
    db.checkpoint(CheckpointReason::Statement).await.unwrap();
    let gone: Vec<i64> = (0..50).collect();
    assert_eq!(change(&db, hurt, &gone, &[]).await.unwrap(), 50);
    if in_manifest {
        db.checkpoint(CheckpointReason::Statement).await.unwrap();
    }
    db.close().await.unwrap();
    let deletes = objects(&path, "deletes");
    assert_eq!(deletes.len(), 1);
    let name = deletes[0].file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::remove_file(&deletes[0]).unwrap();

    for _ in 0..2 {
        let db = Database::open(root.clone(), OpenOptions::default()).await.unwrap();
        let error = contents(&db.snapshot().table(hurt).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "never the rows that were deleted: {error}");
        assert!(error.to_string().contains(&name), "{error}");
        assert!(db.snapshot().table(hurt).unwrap().row_count().await.is_err());
        assert_eq!(contents(&db.snapshot().table(well).unwrap()).await.unwrap().len(), 10);
        insert(&db, well, &[(db.snapshot().version().0 as i64 + 100, "new".to_owned())]).await.unwrap();
        change(&db, well, &[db.snapshot().version().0 as i64 + 99], &[]).await.unwrap();
        assert!(findings(&db, &name).await > 0, "VERIFY names it");
        db.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_deletes_object_of_the_manifest_stops_its_table_alone() {
    lose_deletes(true).await;
}

#[tokio::test]
async fn a_lost_deletes_object_of_the_log_stops_its_table_alone() {
    lose_deletes(false).await;
}
