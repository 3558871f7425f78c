#![allow(clippy::unwrap_used)]

mod flaky;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{Error as StoreError, ObjectStoreExt, UpdateVersion};
use tokio::time::Instant;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::object::ReadMeter;
use flaky::Fault::{
    self, Absent, After, Before, Broken, Busy, Denied, Fine, NoBucket, NoCredentials, Short, Silent,
};
use flaky::{Flaky, reset};

const CONTENT: &str = "ten bytes!";

/// A store with the object "x" that then fails by script.
async fn with_content(script: &[Fault]) -> (Flaky, SteadyStore) {
    let flaky = Flaky::new(&[]);
    flaky.inner.put(&Path::from("x"), CONTENT.into()).await.unwrap();
    flaky.script(script);
    let steady = flaky.steady(RequestLimits::default());
    (flaky, steady)
}

async fn read(store: &dyn ObjectStore) -> StoreResult<Bytes> {
    store.get(&Path::from("x")).await?.bytes().await
}

#[tokio::test(start_paused = true)]
async fn reads_are_sent_again_until_all_bytes_are_here() {
    let (flaky, steady) = with_content(&[Before, Short, Broken, After]).await;
    let meter = ReadMeter::default();
    let options = meter.attach(GetOptions::default());
    let found = steady.get_opts(&Path::from("x"), options).await.unwrap();
    assert_eq!((found.range.clone(), found.meta.size), (0..10, 10));
    assert_eq!(found.bytes().await.unwrap(), CONTENT);
    assert_eq!(flaky.requests(), ["get"; 5]);
    let figures = steady.metrics().figures();
    assert_eq!((figures.gets, figures.retries, figures.failures), (5, 4, 0));
    // Half of it twice, and all of it once.
    assert_eq!(figures.read_bytes, 20);
    assert_eq!(figures.waits.count(), 5);
    let metered = meter.figures();
    assert_eq!((metered.requests, metered.bytes), (5, 20));
    assert_eq!(steady.head(&Path::from("x")).await.unwrap().size, 10);
    assert_eq!((flaky.requests(), steady.metrics().figures().heads), (vec!["head"], 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_has_its_time() {
    let (flaky, steady) = with_content(&[Silent]).await;
    let begun = Instant::now();
    assert_eq!(read(&steady).await.unwrap(), CONTENT);
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(10) && waited < Duration::from_secs(11), "{waited:?}");
    flaky.script(&[Silent]);
    let error = steady.put_opts(&Path::from("y"), CONTENT.into(), PutMode::Create.into()).await.unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.message(), "y: no answer from the object store within 10s");
    assert_eq!(RequestLimits::default().time_for(4 << 20), Duration::from_secs(12));
    // A silent listing goes on as well.
    flaky.inner.put(&Path::from("z"), CONTENT.into()).await.unwrap();
    flaky.script(&[Silent]);
    let listed: Vec<_> = steady.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert_eq!(listed, [Path::from("x"), Path::from("z")]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_given_up_after_its_attempts() {
    let (flaky, steady) = with_content(&[]).await;
    *flaky.always.lock().unwrap() = Before;
    let begun = Instant::now();
    let error = Error::from(read(&steady).await.unwrap_err());
    assert_eq!(flaky.requests().len(), 8);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.message(), "x: the object store failed: connection reset");
    assert_eq!(error.detail(), Some("tried 8 times"));
    // 50, 100 … 3200 ms at most.
    assert!(begun.elapsed() <= Duration::from_millis(6350 + 8), "{:?}", begun.elapsed());
    let figures = steady.metrics().figures();
    assert_eq!((figures.gets, figures.retries, figures.failures), (8, 7, 1));
}

#[tokio::test(start_paused = true)]
async fn what_creates_or_updates_is_sent_once() {
    let tag = UpdateVersion { e_tag: Some("0".to_owned()), version: None };
    for (mode, request) in [(PutMode::Create, "create"), (PutMode::Update(tag), "update")] {
        for fault in [Before, After, Busy] {
            let (flaky, steady) = with_content(&[fault]).await;
            let path = Path::from(if request == "create" { "new" } else { "x" });
            let error = steady.put_opts(&path, "1".into(), mode.clone().into()).await.unwrap_err();
            assert_eq!(flaky.requests(), [request], "{fault:?}");
            // Nobody knows whether it was done: no error of a store that knows what it did.
            assert!(
                matches!(&error, StoreError::Generic { source, .. } if !source.is::<Error>()),
                "{error:?}"
            );
            assert_eq!(Error::from(error).kind(), ErrorKind::Unavailable);
        }
    }
    let (flaky, steady) = with_content(&[Before, After, Busy]).await;
    steady.put(&Path::from("x"), "new".into()).await.unwrap();
    assert_eq!(flaky.requests(), ["put"; 4]);
    assert_eq!(steady.metrics().figures().written_bytes, 12);
    let copied = CopyOptions::new().with_mode(CopyMode::Create);
    flaky.script(&[Before]);
    steady.copy_opts(&Path::from("x"), &Path::from("y"), copied).await.unwrap_err();
    assert_eq!(flaky.requests(), ["copy"]);
    flaky.script(&[Before]);
    steady.rename(&Path::from("x"), &Path::from("y")).await.unwrap();
    assert_eq!(flaky.requests(), ["copy", "copy", "delete"]);
}

#[tokio::test(start_paused = true)]
async fn answers_are_handed_on_as_they_are() {
    let (flaky, steady) = with_content(&[]).await;
    let nothing = steady.get(&Path::from("nothing")).await.unwrap_err();
    assert!(matches!(nothing, StoreError::NotFound { .. }), "{nothing:?}");
    let exists = steady.put_opts(&Path::from("x"), "1".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(exists, StoreError::AlreadyExists { .. }), "{exists:?}");
    flaky.script(&[Denied]);
    let denied = read(&steady).await.unwrap_err();
    assert!(matches!(denied, StoreError::PermissionDenied { .. }), "{denied:?}");
    let beyond = GetOptions::new().with_range(Some(100..200_u64));
    steady.get_opts(&Path::from("x"), beyond).await.unwrap_err();
    assert_eq!(flaky.requests(), ["get", "create", "get", "get"]);
    assert_eq!(steady.metrics().figures().retries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_missing_bucket_is_no_missing_object() {
    let (flaky, steady) = with_content(&[NoBucket]).await;
    let error = read(&steady).await.unwrap_err();
    assert!(!matches!(error, StoreError::NotFound { .. }), "{error:?}");
    assert_eq!(Error::from(error).kind(), ErrorKind::InvalidInput);
    flaky.script(&[NoBucket]);
    assert!(steady.delete(&Path::from("x")).await.is_err());
    assert_eq!(flaky.requests(), ["get", "delete"]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_credentials_is_not_asked_long() {
    let (flaky, steady) = with_content(&[NoCredentials; 8]).await;
    let error = Error::from(read(&steady).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(flaky.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn retries_have_a_budget_together() {
    let (flaky, _) = with_content(&[]).await;
    let steady = flaky.steady(RequestLimits { budget: 3, ..RequestLimits::default() });
    *flaky.always.lock().unwrap() = Before;
    read(&steady).await.unwrap_err();
    assert_eq!(flaky.requests().len(), 4);
    let error = Error::from(read(&steady).await.unwrap_err());
    assert_eq!((flaky.requests().len(), error.detail()), (1, None));
    *flaky.always.lock().unwrap() = Fine;
    for _ in 0..10 {
        read(&steady).await.unwrap();
    }
    flaky.script(&[Before]);
    read(&steady).await.unwrap();
    flaky.script(&[Before]);
    read(&steady).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn ranges_are_read_together_and_again() {
    let flaky = Flaky::new(&[Short]);
    let bytes: Bytes = (0..1_u32 << 20).map(|i| (i / 7) as u8).collect::<Vec<u8>>().into();
    let path = Path::from("large");
    flaky.inner.put(&path, bytes.clone().into()).await.unwrap();
    let steady = flaky.steady(RequestLimits::default());
    let ranges = [0..10, 20..30, 700_000..700_010, 5..25, (1 << 20) - 5..(1 << 20) + 5];
    let read = steady.get_ranges(&path, &ranges).await.unwrap();
    for (range, read) in ranges.iter().zip(&read) {
        let end = (range.end as usize).min(bytes.len());
        assert_eq!(*read, bytes.slice(range.start as usize..end), "{range:?}");
    }
    // Three fetches, of which the short one was sent again.
    assert_eq!(flaky.requests().len(), 4);
    assert!(steady.get_ranges(&path, &[0..5, 5..5]).await.is_err());
    assert!(flaky.requests().is_empty());
    assert!(steady.get_ranges(&path, &[0..10, (1 << 20)..(1 << 20) + 5]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_on_where_it_broke_off() {
    let names = ["p/a", "p/b", "p/c", "p/d", "p/e"];
    let listed = async |flaky: &Flaky, steady: &SteadyStore| {
        for name in names {
            flaky.inner.put(&Path::from(name), "1".into()).await.unwrap();
        }
        let listed = steady.list(Some(&Path::from("p"))).map_ok(|meta| meta.location.to_string());
        listed.collect::<Vec<StoreResult<String>>>().await
    };
    let flaky = Flaky::new(&[Before, Short, Busy, Short, Fine]);
    let steady = flaky.steady(RequestLimits::default());
    let found: Vec<String> = listed(&flaky, &steady).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(found, names);
    assert_eq!(flaky.requests(), ["list", "list", "list behind", "list behind", "list behind"]);
    assert_eq!(steady.metrics().figures().lists, 5);
    let behind: Vec<_> = steady
        .list_with_offset(None, &Path::from("p/c"))
        .map_ok(|meta| meta.location)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(behind, [Path::from("p/d"), Path::from("p/e")]);
    // Nobody knows what is behind the last object of a listing without order.
    let flaky = Flaky::new(&[Short, Fine]).backwards();
    let steady = flaky.steady(RequestLimits::default());
    let found = listed(&flaky, &steady).await;
    assert_eq!(found.len(), 3);
    assert_eq!(found[1].as_ref().unwrap(), "p/d");
    assert!(found[2].is_err());
    assert_eq!(flaky.requests(), ["list"]);
}

#[tokio::test(start_paused = true)]
async fn gone_is_gone() {
    let (flaky, steady) = with_content(&[After, Absent]).await;
    let paths = [Path::from("x"), Path::from("y"), Path::from("z")];
    let deleted = steady.delete_stream(stream::iter(paths.clone().map(Ok)).boxed());
    assert_eq!(deleted.try_collect::<Vec<Path>>().await.unwrap(), paths);
    assert_eq!(flaky.requests(), ["delete", "delete"]);
    let figures = steady.metrics().figures();
    assert_eq!((figures.deletes, figures.retries, figures.failures), (6, 1, 0));
    assert!(flaky.inner.list(None).next().await.is_none());
    flaky.script(&[Silent, Denied]);
    let denied = steady.delete(&paths[0]).await.unwrap_err();
    assert!(matches!(denied, StoreError::PermissionDenied { .. }), "{denied:?}");
    // An error among the names is handed on at its place.
    let mixed = vec![Ok(paths[0].clone()), Err(reset()), Ok(paths[1].clone())];
    let answers: Vec<_> = steady.delete_stream(stream::iter(mixed).boxed()).collect().await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<bool>>(), [true, false, true]);
}

async fn upload(store: &dyn ObjectStore) -> StoreResult<PutResult> {
    let mut upload = store.put_multipart(&Path::from("x")).await?;
    upload.put_part("one ".into()).await?;
    upload.put_part("two".into()).await?;
    upload.complete().await
}

#[tokio::test(start_paused = true)]
async fn numbered_parts_are_sent_again() {
    let flaky = Flaky::new(&[Busy, Fine, Before, After, Fine, Silent, Fine, After, Fine]);
    let steady = flaky.steady(RequestLimits::default());
    upload(&steady).await.unwrap();
    let sent = ["begin", "begin", "part", "part", "part", "part", "part", "complete", "head", "get"];
    assert_eq!(flaky.requests(), sent);
    assert_eq!(read(&steady).await.unwrap(), "one two");
    // Not complete after all: sent again.
    let flaky = Flaky::new(&[Fine, Fine, Fine, Before]);
    let steady = flaky.steady(RequestLimits::default());
    upload(&steady).await.unwrap();
    assert_eq!(flaky.requests(), ["begin", "part", "part", "complete", "head", "complete"]);
    assert_eq!(read(&steady).await.unwrap(), "one two");
    // Begun or not: nobody could name the parts.
    let flaky = Flaky::new(&[Before]);
    assert!(upload(&flaky.steady(RequestLimits::default())).await.is_err());
    assert_eq!(flaky.requests(), ["begin"]);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_given_up_is_aborted() {
    let flaky = Flaky::new(&[Fine, Before]);
    let steady = flaky.steady(RequestLimits::default());
    let mut begun = steady.put_multipart(&Path::from("x")).await.unwrap();
    let lost = begun.put_part("one".into());
    drop(lost);
    assert_eq!(Error::from(begun.complete().await.unwrap_err()).kind(), ErrorKind::Internal);
    begun.abort().await.unwrap();
    assert_eq!(flaky.requests(), ["begin", "abort", "abort"]);
}

#[tokio::test(start_paused = true)]
async fn parts_without_numbers_are_sent_once() {
    let flaky = Flaky::new(&[Fine, Fine, Fine, After]);
    let (store, metrics) = steady(Arc::new(flaky.clone()));
    upload(&*store).await.unwrap();
    assert_eq!(flaky.requests(), ["begin", "part", "part", "complete", "head", "get"]);
    assert_eq!(read(&*store).await.unwrap(), "one two");
    assert_eq!(metrics.figures().written_bytes, 7);
    flaky.script(&[Fine, Before]);
    assert!(upload(&*store).await.is_err());
    assert_eq!(flaky.requests(), ["get", "begin", "part"]);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_object_is_not_taken_for_an_upload() {
    let path = Path::from("x");
    let flaky = Flaky::new(&[]);
    // As long as what is sent.
    flaky.inner.put(&path, "one six".into()).await.unwrap();
    flaky.script(&[Fine, Fine, Fine, Before, Fine, Fine, Before, Fine, Fine]);
    let limits = RequestLimits { attempts: 3, ..RequestLimits::default() };
    upload(&flaky.steady(limits.clone())).await.unwrap();
    // Read once: it has not changed since.
    let sent = ["begin", "part", "part", "complete", "head", "get", "complete", "head", "complete"];
    assert_eq!(flaky.requests(), sent);
    assert_eq!(read(&flaky.steady(limits.clone())).await.unwrap(), "one two");
    flaky.inner.put(&path, "one six".into()).await.unwrap();
    flaky.script(&[Fine, Fine, Fine, Before, Fine, Fine, Before, Fine, Before, Fine]);
    let error = Error::from(upload(&flaky.steady(limits)).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("nobody knows"), "{error:?}");
    assert_eq!(read(&flaky.steady(RequestLimits::default())).await.unwrap(), "one six");
    // Parts without numbers complete once.
    flaky.script(&[Fine, Fine, Fine, Before]);
    let error = Error::from(upload(&*steady(Arc::new(flaky.clone())).0).await.unwrap_err());
    assert!(error.message().contains("nobody knows"), "{error:?}");
    // The same bytes are as good, whoever put them there.
    flaky.inner.put(&path, "one two".into()).await.unwrap();
    flaky.script(&[Fine, Fine, Fine, Before]);
    upload(&*steady(Arc::new(flaky.clone())).0).await.unwrap();
}

/// Each by itself tells whether the object may stand; together they do when one does.
#[tokio::test(start_paused = true)]
async fn a_put_tells_whether_it_may_have_been_done() {
    let bytes = Bytes::from_static(b"1");
    let cases: [(&[Fault], bool); 7] = [
        (&[], false),
        (&[NoCredentials], false),
        (&[Busy, Busy, Denied], false),
        (&[Before], true),
        (&[Silent], true),
        (&[Busy, Before, Busy], true),
        (&[Silent, Busy, Denied], true),
    ];
    for (script, may_stand) in cases {
        let flaky = Flaky::new(script);
        *flaky.always.lock().unwrap() = Busy;
        let steady = flaky.steady(RequestLimits::default());
        let deadline = Instant::now() + Duration::from_secs(30);
        let (error, stands) =
            crate::object::put_settled(&steady, &Path::from("new"), &bytes, deadline).await.unwrap_err();
        assert_eq!(stands, may_stand, "{script:?}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::PermissionDenied), "{error}");
    }
    // What is sent more than once may have been done the first time.
    let (flaky, steady) = with_content(&[Before]).await;
    *flaky.always.lock().unwrap() = Busy;
    let error = steady.put(&Path::from("x"), "1".into()).await.unwrap_err();
    assert!(crate::object::judged(error).1);
}
