//! Deleting objects. Gone is gone: an object that is not there counts as deleted, whatever the store calls it.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{Error as StoreError, Result as StoreResult};
use tokio::time::Instant;

use super::Inner;
use super::attempts::{Repeat, within};
use crate::error::{Error, ErrorKind};
use crate::object::reason::{self, Verdict};

/// Objects deleted by one request, where a store can do so.
const BATCH_OBJECTS: usize = 1000;

/// Deletes `locations`, and hands on each when it is gone.
pub(super) fn deleted(
    inner: Arc<Inner>,
    locations: BoxStream<'static, StoreResult<Path>>,
) -> BoxStream<'static, StoreResult<Path>> {
    locations
        .chunks(BATCH_OBJECTS)
        .then(move |batch| {
            let inner = Arc::clone(&inner);
            async move { stream::iter(inner.delete(batch).await) }
        })
        .flatten()
        .boxed()
}

/// What one attempt to delete a batch brought.
#[derive(Default)]
struct Attempt {
    /// The places of those that are gone.
    gone: Vec<usize>,
    /// Answers that say why one is not.
    refused: Vec<(usize, StoreError)>,
    /// Why the rest is not; it may be.
    failed: Option<StoreError>,
}

impl Inner {
    /// An answer for each of the batch in its order, and one for those that a request failed for together.
    async fn delete(&self, batch: Vec<StoreResult<Path>>) -> Vec<StoreResult<Path>> {
        let mut answers: Vec<Option<StoreResult<Path>>> = Vec::with_capacity(batch.len());
        let mut left: Vec<(usize, Path)> = Vec::with_capacity(batch.len());
        for (place, location) in batch.into_iter().enumerate() {
            match location {
                Ok(path) => {
                    left.push((place, path));
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut attempts = 0;
        let mut failure = None;
        while let Some((_, first)) = left.first() {
            let at = first.to_string();
            let mut attempt = self.delete_once(&left).await;
            for gone in attempt.gone.drain(..) {
                let (place, path) = &left[gone];
                answers[*place] = Some(Ok(path.clone()));
            }
            for (refused, error) in attempt.refused.drain(..) {
                let (place, path) = &left[refused];
                answers[*place] = Some(Err(self.ended(path.as_ref(), 1, error)));
            }
            left.retain(|(place, _)| answers[*place].is_none());
            if left.is_empty() {
                break;
            }
            let error = attempt.failed.unwrap_or_else(|| unanswered(&at));
            if let Err(error) = self.again(&at, Repeat::Always, &mut attempts, error).await {
                failure = Some(Err(error));
                break;
            }
        }
        answers.into_iter().flatten().chain(failure).collect()
    }

    /// One attempt. A store answers for each object in order, or once for all of them.
    async fn delete_once(&self, left: &[(usize, Path)]) -> Attempt {
        self.metrics.deletes.add(left.len() as u64);
        let at = left.first().map_or("", |(_, path)| path.as_ref());
        let paths: Vec<StoreResult<Path>> = left.iter().map(|(_, path)| Ok(path.clone())).collect();
        let begun = Instant::now();
        let mut stream = self.store.delete_stream(stream::iter(paths).boxed());
        let mut answers = Vec::with_capacity(left.len());
        let mut silent = None;
        loop {
            let next = async { Ok::<_, StoreError>(stream.next().await) };
            match within(at, self.limits.time_for(0), next).await {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => break,
                Err(error) => {
                    silent = Some(error);
                    break;
                }
            }
        }
        self.metrics.waits.observe(begun.elapsed());
        let mut attempt =
            if answers.len() == left.len() { in_order(answers) } else { by_name(left, answers) };
        attempt.failed = silent.or(attempt.failed);
        if attempt.failed.is_none() {
            self.budget.give();
        }
        attempt
    }
}

/// One answer for each object.
fn in_order(answers: Vec<StoreResult<Path>>) -> Attempt {
    let mut attempt = Attempt::default();
    for (place, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(_) => attempt.gone.push(place),
            Err(error) if is_gone(&error) => attempt.gone.push(place),
            Err(error) => match reason::verdict(&error) {
                Verdict::Answer | Verdict::Final => attempt.refused.push((place, error)),
                _ => attempt.failed = Some(error),
            },
        }
    }
    attempt
}

/// Answers that name the objects that are gone; an error speaks for all the others.
fn by_name(left: &[(usize, Path)], answers: Vec<StoreResult<Path>>) -> Attempt {
    let places: HashMap<&Path, usize> = left.iter().enumerate().map(|(i, (_, path))| (path, i)).collect();
    let mut attempt = Attempt::default();
    for answer in answers {
        match answer {
            Ok(path) => attempt.gone.extend(places.get(&path)),
            Err(error) => attempt.failed = Some(error),
        }
    }
    attempt
}

/// Whether the error says that there is no such object in a bucket that there is.
fn is_gone(error: &StoreError) -> bool {
    matches!(error, StoreError::NotFound { .. }) && !reason::is_missing_bucket(error)
}

/// The store gave fewer answers than there were objects.
fn unanswered(at: &str) -> StoreError {
    let message = format!("{at}: the object store did not say whether it was deleted");
    reason::failure(Error::new(ErrorKind::Unavailable, message))
}
