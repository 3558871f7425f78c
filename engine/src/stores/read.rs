//! Reading one object: by ranges, as a text from some place on, as a Parquet file.
//!
//! Owns: which ranges are asked for, and that they are of one version of the object where its store has tags. Does not own: what the bytes
//! mean (`copy`, `files`). Readers block: they are for threads of blocking work, which the object's runtime serves meanwhile.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_storage::ErrorKind;
use datafusion::common::runtime::SpawnedTask;
use datafusion::object_store::{GetOptions, OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, coalesce_ranges};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;

use super::open::OpenStore;
use super::place::url_of;

/// First range that a reader asks for; each further one is twice as long.
const BLOCK_BYTES_MIN: u64 = 1 << 20;
/// Longest range of a reader, of which it holds two.
const BLOCK_BYTES_MAX: u64 = 8 << 20;
/// End of a Parquet file that is asked for first, since its description stands there.
const FOOTER_BYTES: usize = 64 << 10;

type StoreResult<T> = Result<T, cairn_storage::Error>;

/// An object, as it was when it was listed.
#[derive(Clone, Debug)]
pub(crate) struct ObjectFile {
    open: Arc<OpenStore>,
    meta: Arc<ObjectMeta>,
    runtime: Handle,
}

impl ObjectFile {
    /// The object `meta` of a bucket, read on `runtime`.
    pub(super) fn new(open: Arc<OpenStore>, meta: ObjectMeta, runtime: Handle) -> Self {
        Self { open, meta: Arc::new(meta), runtime }
    }

    /// As `s3://bucket/key`.
    pub(crate) fn url(&self) -> String {
        url_of(self.open.bucket(), self.meta.location.as_ref())
    }

    /// Its bytes.
    pub(crate) fn length(&self) -> u64 {
        self.meta.size
    }

    /// What it was listed as.
    pub(crate) fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    /// Its bucket.
    pub(crate) fn open(&self) -> &Arc<OpenStore> {
        &self.open
    }

    /// What serves its requests.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// A reader of it from its first byte on.
    pub(crate) fn reader(&self) -> ObjectReader {
        ObjectReader { object: self.clone(), at: 0, block: Bytes::new(), next: BLOCK_BYTES_MIN, ahead: None }
    }

    async fn range(&self, range: Range<u64>) -> StoreResult<Bytes> {
        let mut options = GetOptions::new().with_range(Some(range.clone()));
        if self.open.has_tags() {
            options = options.with_if_match(self.meta.e_tag.clone());
        }
        let bytes = self.open.store().get_opts(&self.meta.location, options).await?.bytes().await?;
        if bytes.len() as u64 == range.end - range.start {
            return Ok(bytes);
        }
        Err(cairn_storage::Error::new(ErrorKind::Unavailable, format!("{} ended early", self.url()))
            .with_sqlstate("58030")
            .with_detail(format!("{} of {} bytes came", bytes.len(), range.end - range.start))
            .with_hint("run the statement again"))
    }
}

fn in_parquet(error: cairn_storage::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for ObjectFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        async move { self.range(range).await.map_err(in_parquet) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let object: &Self = self;
        async move {
            let fetched =
                coalesce_ranges(&ranges, move |range| object.range(range), OBJECT_STORE_COALESCE_DEFAULT)
                    .await;
            fetched.map_err(in_parquet)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let length = self.length();
            let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
            Ok(Arc::new(reader.load_and_finish(self, length).await?))
        }
        .boxed()
    }
}

/// The bytes of an object in order, the next ones asked for while these are read.
pub(crate) struct ObjectReader {
    object: ObjectFile,
    /// Where the reader stands.
    at: u64,
    /// What is there already.
    block: Bytes,
    /// Bytes to ask for next.
    next: u64,
    /// What comes from there on.
    ahead: Option<(u64, SpawnedTask<StoreResult<Bytes>>)>,
}

impl ObjectReader {
    /// Gets what stands where the reader does; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        if self.at >= self.object.length() {
            return Ok(false);
        }
        let runtime = self.object.runtime.clone();
        self.block = match self.ahead.take() {
            Some((from, task)) if from == self.at => {
                runtime.block_on(task).map_err(io::Error::other)?.map_err(io::Error::other)?
            }
            // Nobody reads there any more.
            Some(_) | None => {
                runtime.block_on(self.object.range(self.next_from(self.at))).map_err(io::Error::other)?
            }
        };
        // A first block may be all that is looked at: a header, a footer.
        if self.next > BLOCK_BYTES_MIN {
            let from = self.at + self.block.len() as u64;
            let range = self.next_from(from);
            if !range.is_empty() {
                let (object, _runtime) = (self.object.clone(), runtime.enter());
                self.ahead = Some((from, SpawnedTask::spawn(async move { object.range(range).await })));
            }
        }
        self.next = (2 * self.next).min(BLOCK_BYTES_MAX);
        Ok(true)
    }

    fn next_from(&self, from: u64) -> Range<u64> {
        from..from.saturating_add(self.next).min(self.object.length())
    }
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() && !self.advance()? {
            return Ok(0);
        }
        let taken = self.block.split_to(buffer.len().min(self.block.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        self.at += taken.len() as u64;
        Ok(taken.len())
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let wanted = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.object.length().checked_add_signed(by),
        };
        let wanted = wanted.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let skipped = wanted.checked_sub(self.at).and_then(|bytes| usize::try_from(bytes).ok());
        match skipped.filter(|bytes| *bytes <= self.block.len()) {
            Some(bytes) => drop(self.block.split_to(bytes)),
            None => self.block = Bytes::new(),
        }
        self.at = wanted;
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::execution::runtime_env::RuntimeEnv;
    use datafusion::object_store::memory::InMemory;
    use datafusion::object_store::path::Path;
    use datafusion::object_store::{ObjectStore, ObjectStoreExt};

    use super::super::open::EngineStores;
    use super::super::place::ObjectPlace;
    use super::*;

    async fn object(bytes: Vec<u8>) -> (Arc<InMemory>, ObjectFile) {
        let memory = Arc::new(InMemory::new());
        memory.put(&Path::from("x"), bytes.into()).await.unwrap();
        let instead = [("s3://data".to_owned(), Arc::clone(&memory) as Arc<dyn ObjectStore>)];
        let stores = EngineStores::new(&instead, Arc::new(RuntimeEnv::default())).unwrap();
        let place = ObjectPlace::parse("s3://data/x").unwrap();
        let open = stores.of_environment(place.bucket()).unwrap();
        let meta = open.store().head(&Path::from("x")).await.unwrap();
        (memory, ObjectFile::new(open, meta, Handle::current()))
    }

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[tokio::test]
    async fn an_object_reads_as_a_file() {
        let bytes: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
        let (_memory, object) = object(bytes.clone()).await;
        blocking(move || {
            let mut reader = object.reader();
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == bytes);
            assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
            for at in [0, 5, 1 << 20, (1 << 20) + 3, 19_999_990, 7, 8] {
                reader.seek(SeekFrom::Start(at)).unwrap();
                let mut few = [0; 8];
                reader.read_exact(&mut few).unwrap();
                let at = usize::try_from(at).unwrap();
                assert_eq!(few, bytes[at..at + 8]);
                assert_eq!(reader.stream_position().unwrap(), at as u64 + 8);
            }
            assert_eq!(reader.seek(SeekFrom::End(-3)).unwrap(), 19_999_997);
            assert_eq!(reader.seek(SeekFrom::Current(-7)).unwrap(), 19_999_990);
            reader.seek(SeekFrom::Start(30_000_000)).unwrap();
            assert_eq!(reader.read(&mut [0; 4]).unwrap(), 0);
            assert!(reader.seek(SeekFrom::End(-30_000_000)).is_err());
        })
        .await;
    }

    #[tokio::test]
    async fn another_version_is_not_read_on() {
        let (memory, object) = object(vec![1; 3 << 20]).await;
        let mut reader = object.reader();
        let (mut reader, first) = blocking(move || {
            let mut first = vec![0; 1 << 20];
            reader.read_exact(&mut first).unwrap();
            (reader, first)
        })
        .await;
        assert_eq!(first, vec![1; 1 << 20]);
        memory.put(&Path::from("x"), vec![2; 3 << 20].into()).await.unwrap();
        let error = blocking(move || reader.read_to_end(&mut Vec::new()).unwrap_err()).await;
        let error = crate::stores::store_error(&error).unwrap();
        assert!(error.message().contains("s3://data/x was changed"), "{error}");
    }
}
