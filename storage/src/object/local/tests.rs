#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use futures::executor::block_on;
use object_store::{GetRange, ObjectStoreExt};

use super::*;
use crate::fs::{Fault, OsFileSystem, SimFileSystem};

fn read(store: &LocalStore, path: &str) -> Option<Bytes> {
    match block_on(async { store.get(&Path::from(path)).await?.bytes().await }) {
        Ok(bytes) => Some(bytes),
        Err(StoreError::NotFound { .. }) => None,
        Err(e) => panic!("{e}"),
    }
}

fn put(store: &LocalStore, path: &str, bytes: &'static [u8], mode: PutMode) -> StoreResult<PutResult> {
    block_on(store.put_opts(&Path::from(path), Bytes::from_static(bytes).into(), mode.into()))
}

fn multipart(store: &LocalStore, path: &str, parts: &[&'static [u8]]) -> StoreResult<PutResult> {
    block_on(async {
        let mut upload = store.put_multipart(&Path::from(path)).await?;
        for part in parts {
            upload.put_part(Bytes::from_static(part).into()).await?;
        }
        upload.complete().await
    })
}

fn names(store: &LocalStore, prefix: &str) -> Vec<String> {
    let prefix = (!prefix.is_empty()).then(|| Path::from(prefix));
    let listed: Vec<ObjectMeta> = block_on(store.list(prefix.as_ref()).try_collect()).unwrap();
    listed.into_iter().map(|meta| meta.location.to_string()).collect()
}

/// The same calls on every file system.
fn behaves(store: &LocalStore) {
    put(store, "a/b/x", b"0123456789", PutMode::Create).unwrap();
    put(store, "a/y", b"y", PutMode::Overwrite).unwrap();
    assert!(matches!(
        put(store, "a/y", b"z", PutMode::Create).unwrap_err(),
        StoreError::AlreadyExists { .. }
    ));
    let version = object_store::UpdateVersion { e_tag: None, version: None };
    assert!(matches!(
        put(store, "a/y", b"z", PutMode::Update(version)).unwrap_err(),
        StoreError::NotImplemented { .. }
    ));
    put(store, "a/y", b"yy", PutMode::Overwrite).unwrap();
    assert_eq!(read(store, "a/y").unwrap(), "yy");
    assert_eq!(read(store, "a/none"), None);
    assert_eq!(read(store, "a/b"), None, "a directory is no object");

    let x = Path::from("a/b/x");
    assert_eq!(block_on(store.head(&x)).unwrap().size, 10);
    assert_eq!(block_on(store.get_range(&x, 2..5)).unwrap(), "234");
    assert_eq!(block_on(store.get_ranges(&x, &[0..1, 8..20])).unwrap(), vec!["0", "89"]);
    block_on(store.get_range(&x, 10..11)).unwrap_err();
    let tail = GetOptions::new().with_range(Some(GetRange::Suffix(3)));
    assert_eq!(block_on(async { store.get_opts(&x, tail).await?.bytes().await }).unwrap(), "789");
    let unmatched = GetOptions::new().with_if_match(Some("etag"));
    assert!(matches!(block_on(store.get_opts(&x, unmatched)).unwrap_err(), StoreError::Precondition { .. }));

    assert_eq!(names(store, ""), ["a/b/x", "a/y"]);
    assert_eq!(names(store, "a/b"), ["a/b/x"]);
    assert!(names(store, "a/b/x").is_empty());
    let listed = block_on(store.list_with_delimiter(Some(&Path::from("a")))).unwrap();
    assert_eq!(listed.common_prefixes, vec![Path::from("a/b")]);
    assert_eq!(listed.objects[0].location, Path::from("a/y"));

    block_on(store.copy(&x, &Path::from("c/copy"))).unwrap();
    block_on(store.copy_if_not_exists(&x, &Path::from("a/y"))).unwrap_err();
    block_on(store.rename_if_not_exists(&Path::from("c/copy"), &Path::from("a/y"))).unwrap_err();
    block_on(store.rename_if_not_exists(&Path::from("c/copy"), &Path::from("d/moved"))).unwrap();
    block_on(store.rename(&Path::from("d/moved"), &Path::from("a/y"))).unwrap();
    assert_eq!(read(store, "a/y").unwrap(), "0123456789");
    assert_eq!(names(store, ""), ["a/b/x", "a/y"]);

    multipart(store, "m", &[b"one ", b"two ", b"three"]).unwrap();
    assert_eq!(read(store, "m").unwrap(), "one two three");
    block_on(async {
        let mut upload = store.put_multipart(&Path::from("gone")).await.unwrap();
        upload.put_part(Bytes::from_static(b"x").into()).await.unwrap();
        upload.abort().await.unwrap();
        upload.complete().await.unwrap_err();
    });
    block_on(store.delete(&Path::from("m"))).unwrap();
    block_on(store.delete(&Path::from("m"))).unwrap();
    assert_eq!(names(store, ""), ["a/b/x", "a/y"]);
    assert_eq!(store.0.fs.list("").unwrap().len(), 2, "nothing temporary is left");
    put(store, ".tmp-7", b"x", PutMode::Overwrite).unwrap_err();
}

#[test]
fn behaves_on_the_operating_system() {
    let dir = tempfile::tempdir().unwrap();
    let fs = OsFileSystem::new(dir.path().join("root"));
    fs.create_dir_all("").unwrap();
    behaves(&LocalStore::new(Arc::new(fs)));
}

#[test]
fn behaves_on_the_simulated_file_system() {
    behaves(&LocalStore::new(Arc::new(SimFileSystem::new(1))));
}

#[test]
fn a_large_object_streams_and_syncs_on_a_runtime_with_threads() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(Arc::new(OsFileSystem::new(dir.path().to_owned())));
    let bytes = Bytes::from(vec![7u8; 5_000_001]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let back = runtime.block_on(async {
        store.put(&Path::from("large"), bytes.clone().into()).await.unwrap();
        store.get(&Path::from("large")).await.unwrap().bytes().await.unwrap()
    });
    assert!(back == bytes);
}

type Write = fn(&LocalStore) -> StoreResult<PutResult>;

/// Crashes `write` of object `d/x` at every step; `before` is what stood there.
fn crash_everywhere(name: &str, before: Option<&'static [u8]>, after: &'static [u8], write: Write) {
    for seed in 0..60 {
        for step in 1.. {
            let fs = SimFileSystem::new(seed);
            let store = LocalStore::new(Arc::new(fs.clone()));
            put(&store, "d/other", b"other", PutMode::Create).unwrap();
            if let Some(before) = before {
                put(&store, "d/x", before, PutMode::Overwrite).unwrap();
            }
            fs.crash_at_step(fs.steps() + step);
            let acknowledged = write(&store).is_ok();
            let done = !fs.is_dead();
            let found = LocalStore::new(Arc::new(fs.crash(seed * 1000 + step)));
            let case = format!("{name}: seed {seed}, step {step}");
            match read(&found, "d/x") {
                Some(bytes) if bytes == after => {}
                other => {
                    assert!(!acknowledged, "{case}: lost, found {other:?}");
                    assert_eq!(other.as_deref(), before, "{case}: neither old nor new");
                }
            }
            found.remove_temporary().unwrap();
            assert!(found.0.fs.list("").unwrap().iter().all(|(name, _)| !is_temporary(name)), "{case}");
            assert_eq!(read(&found, "d/other").unwrap(), "other", "{case}");
            if done {
                assert!(acknowledged, "{case}");
                break;
            }
        }
    }
}

#[test]
fn an_object_is_whole_or_absent_after_a_crash_at_any_step() {
    crash_everywhere("put", None, b"new", |s| put(s, "d/x", b"new", PutMode::Overwrite));
    crash_everywhere("overwrite", Some(b"old"), b"new", |s| put(s, "d/x", b"new", PutMode::Overwrite));
    crash_everywhere("create", None, b"new", |s| put(s, "d/x", b"new", PutMode::Create));
    crash_everywhere("multipart", None, b"one two", |s| multipart(s, "d/x", &[b"one ", b"two"]));
    crash_everywhere("copy", None, b"other", |s| {
        block_on(s.copy(&Path::from("d/other"), &Path::from("d/x")))?;
        Ok(PutResult { e_tag: None, version: None })
    });
}

#[test]
fn a_rename_never_loses_the_object() {
    for seed in 0..60 {
        for step in 1.. {
            let fs = SimFileSystem::new(seed);
            let store = LocalStore::new(Arc::new(fs.clone()));
            put(&store, "a/x", b"x", PutMode::Create).unwrap();
            put(&store, "b/y", b"y", PutMode::Create).unwrap();
            fs.crash_at_step(fs.steps() + step);
            let mode = if seed % 2 == 0 { RenameTargetMode::Create } else { RenameTargetMode::Overwrite };
            let options = RenameOptions::new().with_target_mode(mode);
            let renamed =
                block_on(store.rename_opts(&Path::from("a/x"), &Path::from("b/x"), options)).is_ok();
            let found = LocalStore::new(Arc::new(fs.crash(seed)));
            let (from, to) = (read(&found, "a/x"), read(&found, "b/x"));
            assert!(from.is_some() || to.is_some(), "seed {seed}, step {step}");
            assert!(!renamed || (from.is_none() && to.is_some()), "seed {seed}, step {step}");
            if !fs.is_dead() {
                break;
            }
        }
    }
}

#[test]
fn a_failure_at_any_step_leaves_the_old_object_or_the_new_and_no_sync_is_tried_again() {
    for seed in 0..40 {
        for step in 1.. {
            let fs = SimFileSystem::new(seed);
            let store = LocalStore::new(Arc::new(fs.clone()));
            put(&store, "d/x", b"old", PutMode::Create).unwrap();
            fs.inject(Fault::Step(step));
            let start = fs.steps();
            let first = put(&store, "d/x", b"new", PutMode::Overwrite).is_ok();
            let second = put(&store, "d/x", b"newer", PutMode::Overwrite).is_ok();
            let done = fs.steps() - start < step;
            let found = read(&LocalStore::new(Arc::new(fs.crash(seed))), "d/x").unwrap();
            let case = format!("seed {seed}, step {step}: {first} {second} {found:?}");
            assert!(!second || found == "newer", "{case}");
            assert!(!first || found != "old", "{case}");
            assert!(["old", "new", "newer"].map(Bytes::from).contains(&found), "{case}");
            assert_eq!(fs.retried_syncs(), 0, "{case}");
            if done {
                break;
            }
        }
    }
}

#[test]
fn nothing_is_written_after_a_failed_directory_sync() {
    let fs = SimFileSystem::new(5);
    let store = LocalStore::new(Arc::new(fs.clone()));
    put(&store, "d/x", b"old", PutMode::Create).unwrap();
    fs.inject(Fault::SyncDir(1));
    put(&store, "d/y", b"y", PutMode::Create).unwrap_err();
    // Else this would find `d/y` there, believe it durable, and be wrong after a power loss.
    let error = put(&store, "d/y", b"y", PutMode::Create).unwrap_err();
    assert!(!matches!(error, StoreError::AlreadyExists { .. }), "{error}");
    assert_eq!(read(&store, "d/x").unwrap(), "old");
    let next = LocalStore::new(Arc::new(fs.restart(6)));
    assert_eq!(read(&next, "d/y"), None, "nor does the next process build on it");
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    for free in 0..20 {
        let fs = SimFileSystem::new(free);
        let store = LocalStore::new(Arc::new(fs.clone()));
        put(&store, "d/x", b"old", PutMode::Create).unwrap();
        fs.limit_free_bytes(free);
        let written = multipart(&store, "d/x", &[b"0123456789", b"012345678"]).is_ok();
        assert_eq!(written, free >= 19);
        assert_eq!(read(&store, "d/x").unwrap().len(), if written { 19 } else { 3 });
        assert_eq!(fs.list("").unwrap().len(), 1);
    }
}

#[test]
fn names_a_killed_process_left_are_durable_after_opening_for_writing() {
    for seed in 0..100 {
        let fs = SimFileSystem::new(seed);
        let store = LocalStore::new(Arc::new(fs.clone()));
        put(&store, "d/x", b"x", PutMode::Create).unwrap();
        fs.crash_at_step(fs.steps() + 5);
        put(&store, "d/y", b"y", PutMode::Create).unwrap_err();
        let next = fs.restart(seed);
        let store = LocalStore::new(Arc::new(next.clone()));
        store.remove_temporary().unwrap();
        let seen = read(&store, "d/y");
        assert_eq!(read(&LocalStore::new(Arc::new(next.crash(seed))), "d/y"), seen);
    }
}
