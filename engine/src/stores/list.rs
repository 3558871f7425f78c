//! Which objects a text names.
//!
//! Owns: one object, the matches of a pattern, those below a directory; what of them is no data. Does not own: reading them (`read`). The rules are
//! those of files (`copy::location`): a directory's hidden objects, and those that begin with `_`, are left out.

use std::path::Path as FilePath;

use cairn_storage::ErrorKind;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectMeta, ObjectStoreExt};
use futures::TryStreamExt;

use super::open::OpenStore;
use super::place::{ObjectPlace, url_of};
use crate::copy::{Format, foreign_compression, matches_path};
use crate::error::{Error, Result};

/// Objects that one text may name.
const OBJECTS_MAX: usize = 100_000;

/// Every object that `place` names, by key.
///
/// # Errors
/// 58P01 when there is none; 54000 for more than [`OBJECTS_MAX`]; an object of a compression that is not known; errors of the store.
pub(super) async fn list(open: &OpenStore, place: &ObjectPlace) -> Result<Vec<ObjectMeta>> {
    let mut objects = match single(open, place).await? {
        Some(object) => vec![object],
        None => below(open, place).await?,
    };
    if objects.is_empty() {
        let message = match (place.is_pattern(), place.is_directory()) {
            (true, _) => format!("no object matches '{place}'"),
            (false, true) => format!("'{place}' holds no data files"),
            (false, false) => format!("object '{place}' does not exist"),
        };
        return Err(Error::new(ErrorKind::NotFound, message).map(|e| e.with_sqlstate("58P01")));
    }
    let url = |object: &ObjectMeta| url_of(open.bucket(), object.location.as_ref());
    for object in &objects {
        if let Some(kind) = foreign_compression(FilePath::new(object.location.as_ref())) {
            return Err(Error::not_supported_yet(format!(
                "reading {kind} compressed file '{}'",
                url(object)
            ))
            .map(|e| e.with_hint("decompress it first")));
        }
    }
    objects.sort_unstable_by(|a, b| a.location.cmp(&b.location));
    Ok(objects)
}

/// The object of that very name.
async fn single(open: &OpenStore, place: &ObjectPlace) -> Result<Option<ObjectMeta>> {
    if place.is_pattern() || place.is_directory() {
        return Ok(None);
    }
    match open.store().head(&place.target(false)?).await {
        Ok(object) => Ok(Some(object)),
        Err(error) => match cairn_storage::Error::from(error) {
            // It may be a directory.
            error if error.kind() == ErrorKind::NotFound => Ok(None),
            error => Err(error.into()),
        },
    }
}

/// The matches of a pattern, or the data files of a directory.
async fn below(open: &OpenStore, place: &ObjectPlace) -> Result<Vec<ObjectMeta>> {
    let base = Path::parse(place.base()).map_err(|_| {
        Error::new(ErrorKind::InvalidInput, format!("'{place}' names no object"))
            .map(|e| e.with_sqlstate("22023"))
    })?;
    let prefix = if base.is_root() { None } else { Some(&base) };
    let pattern: Option<Vec<&str>> = place.is_pattern().then(|| place.key().split('/').collect());
    let mut listed = open.store().list(prefix);
    let mut objects = Vec::new();
    while let Some(object) = listed.try_next().await.map_err(cairn_storage::Error::from)? {
        let key = object.location.as_ref();
        let is_named = match &pattern {
            Some(pattern) => matches_path(pattern, &key.split('/').collect::<Vec<_>>()),
            None => is_data(key.strip_prefix(base.as_ref()).unwrap_or(key)),
        };
        if !is_named {
            continue;
        }
        if objects.len() == OBJECTS_MAX {
            let message = format!("'{place}' names more than {OBJECTS_MAX} objects");
            return Err(Error::new(ErrorKind::ResourceExhausted, message)
                .map(|e| e.with_sqlstate("54000").with_hint("name them in several parts")));
        }
        objects.push(object);
    }
    Ok(objects)
}

/// Whether an object of a directory holds data, as its name tells: markers and logs do not.
fn is_data(below: &str) -> bool {
    let shown = below.split('/').all(|part| !part.starts_with(['.', '_']));
    let name = FilePath::new(below);
    shown && (Format::of(name).is_some() || foreign_compression(name).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::object_store::ObjectStore;
    use datafusion::object_store::memory::InMemory;

    use super::super::open::EngineStores;
    use super::*;

    #[tokio::test]
    async fn objects_patterns_and_directories() {
        let memory = Arc::new(InMemory::new());
        let keys = [
            "a/b.csv",
            "a/a.csv",
            "a/c.parquet",
            "a/_SUCCESS",
            "a/_temporary/d.csv",
            "a/.hidden.csv",
            "a/deep/er/e.csv",
            "a/readme",
            "ab/f.csv",
            "packed/g.csv.bz2",
            "top.csv",
        ];
        for key in keys {
            memory.put(&Path::from(key), "x".into()).await.unwrap();
        }
        let instead = [("s3://data".to_owned(), memory as Arc<dyn ObjectStore>)];
        let stores = EngineStores::new(&instead, Arc::new(RuntimeEnv::default())).unwrap();
        let listed = async |text: &str| {
            let place = ObjectPlace::parse(text).unwrap();
            let open = stores.of_environment(place.bucket()).unwrap();
            let objects = list(&open, &place).await;
            objects
                .map(|objects| objects.iter().map(|o| o.location.to_string()).collect::<Vec<_>>().join(" "))
        };
        for (text, expected) in [
            ("s3://data/a/b.csv", "a/b.csv"),
            ("s3://data/a/*.csv", "a/a.csv a/b.csv"),
            ("s3://data/a/[!a].csv", "a/b.csv"),
            ("s3://data/a*/?.csv", "a/a.csv a/b.csv ab/f.csv"),
            ("s3://data/a/**/*.csv", "a/_temporary/d.csv a/a.csv a/b.csv a/deep/er/e.csv"),
            ("s3://data/a", "a/a.csv a/b.csv a/c.parquet a/deep/er/e.csv"),
            ("s3://data/a/", "a/a.csv a/b.csv a/c.parquet a/deep/er/e.csv"),
            ("s3://data/a/readme", "a/readme"),
            ("s3://data/a/.hid*", "a/.hidden.csv"),
        ] {
            assert_eq!(listed(text).await.unwrap(), expected, "{text}");
        }
        for (text, state, named) in [
            ("s3://data/none.csv", "58P01", "object 's3://data/none.csv' does not exist"),
            ("s3://data/none/", "58P01", "'s3://data/none/' holds no data files"),
            ("s3://data/none*", "58P01", "no object matches 's3://data/none*'"),
            ("s3://data/a/b.csv/", "58P01", "holds no data files"),
            ("s3://data/packed/", "0A000", "bzip2 compressed file 's3://data/packed/g.csv.bz2'"),
        ] {
            let error = listed(text).await.unwrap_err();
            assert_eq!(error.sqlstate(), state, "{text}: {error}");
            assert!(error.message().contains(named), "{text}: {error}");
        }
    }
}
