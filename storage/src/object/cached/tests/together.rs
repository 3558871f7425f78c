//! Readers at the same time.

use super::*;

#[tokio::test]
async fn a_block_is_fetched_once_for_all() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a", 5 * BLOCK).await;
    fixture.inner.hold();
    let read = |range: Range<u64>| {
        let store = Arc::clone(&fixture.store);
        tokio::spawn(async move { store.get_range(&Path::from("table/1/a"), range).await })
    };
    let waiting = async || {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    };
    let first = read(0..2 * BLOCK);
    waiting().await;
    let others = [read(10..20), read(BLOCK..3 * BLOCK), read(0..2 * BLOCK)];
    waiting().await;
    assert_eq!(fixture.inner.ranges(), [0..2 * BLOCK, 2 * BLOCK..3 * BLOCK]);
    // Whoever asked first gives up; the others go on with its request.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    fixture.inner.release(2);
    for (read, range) in others.into_iter().zip([10..20, BLOCK..3 * BLOCK, 0..2 * BLOCK]) {
        assert_eq!(read.await.unwrap().unwrap(), content[range.start as usize..range.end as usize]);
    }
    assert_eq!(fixture.inner.count(), 0);
    // When all give up, so does the request; the next reader begins another.
    let gone = read(4 * BLOCK..5 * BLOCK);
    waiting().await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    let next = read(4 * BLOCK..5 * BLOCK);
    waiting().await;
    assert_eq!(fixture.inner.count(), 2);
    fixture.inner.release(1);
    assert_eq!(next.await.unwrap().unwrap(), content[4 * BLOCK_BYTES..]);
}

#[tokio::test]
async fn whole_objects_are_fetched_once_for_all() {
    let fixture = Fixture::new(PLENTY);
    let content = fixture.object("table/1/a", 100_000).await;
    fixture.inner.hold();
    let path = Path::from("table/1/a");
    let whole = async || fixture.store.get(&path).await.unwrap().bytes().await.unwrap();
    let range = fixture.store.get_range(&path, 5..10);
    let release = async {
        tokio::task::yield_now().await;
        fixture.inner.release(1);
    };
    let (first, second, range, ()) = tokio::join!(whole(), whole(), range, release);
    assert_eq!((&first, &second, range.unwrap()), (&content, &content, content.slice(5..10)));
    assert_eq!(fixture.inner.count(), 1);
}

#[tokio::test]
async fn errors_reach_all_who_wait() {
    let fixture = Fixture::new(PLENTY);
    let path = Path::from("table/1/none");
    fixture.inner.hold();
    let read = async |path: &Path| fixture.store.get_range(path, 0..10).await.unwrap_err();
    let release = async {
        tokio::task::yield_now().await;
        fixture.inner.release(1);
    };
    let (first, second, ()) = tokio::join!(read(&path), read(&path), release);
    for error in [first, second] {
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
        assert_eq!(Error::from(error).kind(), ErrorKind::NotFound);
    }
    assert_eq!(fixture.inner.count(), 1);
    // An error is told, not kept.
    fixture.inner.release(10);
    let content = fixture.object("table/1/a", 100).await;
    fixture.inner.fail(true);
    assert!(fixture.store.get(&Path::from("table/1/a")).await.is_err());
    assert!(fixture.store.get_range(&Path::from("table/1/a"), 0..1).await.is_err());
    fixture.inner.fail(false);
    assert_eq!(fixture.whole("table/1/a").await, content);
}
