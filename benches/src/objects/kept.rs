//! Objects of a store in memory, kept in a folder between runs: one file for each.

use std::path::Path as FilePath;
use std::sync::Arc;

use cairn_engine::OpenOptions;
use datafusion::object_store::memory::InMemory;
use datafusion::object_store::path::Path;
use datafusion::object_store::{ObjectStore, ObjectStoreExt};
use futures::TryStreamExt;

use super::open;
use crate::Result;
use crate::data::Home;
use crate::database::Bench;

/// The objects of the database `name`: what `fill` made of an empty one, after a checkpoint.
pub(super) async fn database(
    home: &Home,
    name: &str,
    fill: impl AsyncFnOnce(&Bench) -> Result<()>,
) -> Result<Arc<InMemory>> {
    let (path, ready) = home.database(name)?;
    let store = Arc::new(InMemory::new());
    if ready {
        read(&path, &mut Vec::new(), &store).await?;
        return Ok(store);
    }
    // Its segments stay as they are loaded.
    let options = OpenOptions { compacts: false, ..OpenOptions::default() };
    let db = open(Arc::clone(&store) as Arc<dyn ObjectStore>, options).await?;
    fill(&db).await?;
    db.run("CHECKPOINT").await?;
    db.close().await?;
    write(&store, &path).await?;
    home.keep(name, &path)?;
    Ok(store)
}

async fn write(store: &InMemory, folder: &FilePath) -> Result<()> {
    let objects: Vec<_> = store.list(None).try_collect().await?;
    for object in objects {
        let path = folder.join(object.location.as_ref());
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above)?;
        }
        std::fs::write(path, store.get(&object.location).await?.bytes().await?)?;
    }
    Ok(())
}

/// Puts the files of `folder` there, whose name in the store is `above`.
async fn read(folder: &FilePath, above: &mut Vec<String>, store: &InMemory) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|name| format!("{} is no object", name.display()))?;
        above.push(name);
        if entry.file_type()?.is_dir() {
            Box::pin(read(&entry.path(), above, store)).await?;
        } else {
            store.put(&Path::parse(above.join("/"))?, std::fs::read(entry.path())?.into()).await?;
        }
        above.pop();
    }
    Ok(())
}

/// How many objects there are below `prefix`.
pub(super) async fn count(store: &InMemory, prefix: &str) -> Result<usize> {
    let objects: Vec<_> = store.list(Some(&Path::from(prefix))).try_collect().await?;
    Ok(objects.len())
}
