//! A file of text, plain or compressed, read from a place in its text and written.
//!
//! Owns: which compression a name or an option means, offsets and lines of the text behind it. Does not own: what the text
//! says (`csv_file`, `table_file`). A compressed file has one piece: its text cannot be entered in the middle.

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cairn_storage::ErrorKind;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::CopyOptions;
use super::csv_split::count;
use super::from::shown;
use super::input::{InputFile, ReadSeek};
use super::write_file::OutputFile;
use crate::error::{Error, Result};
use crate::stores::store_error;

const BLOCK: usize = 1 << 20;

/// How the text is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// gzip, of one or several members.
    Gzip,
    /// Zstandard, of one or several frames.
    Zstd,
}

impl Compression {
    /// What a file's extension tells.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()).map(str::to_lowercase).as_deref() {
            Some("gz" | "gzip") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// What the option names, else what the extension tells.
    ///
    /// # Errors
    /// A name that is no compression of text.
    pub(super) fn choose(path: &Path, option: Option<&str>) -> Result<Self> {
        match option {
            None => Ok(Self::of(path)),
            Some("none" | "uncompressed") => Ok(Self::None),
            Some("gzip" | "gz") => Ok(Self::Gzip),
            Some("zstd" | "zst") => Ok(Self::Zstd),
            Some(other) => Err(Error::new(
                ErrorKind::InvalidInput,
                format!("csv and ndjson files have no compression \"{other}\""),
            )
            .map(|e| e.with_sqlstate("22023").with_hint("compressions are gzip, zstd, none"))),
        }
    }
}

/// A file to read text from.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    input: InputFile,
    compression: Compression,
}

impl TextFile {
    pub(super) fn new(input: &InputFile, options: &CopyOptions) -> Result<Self> {
        Ok(Self { input: input.clone(), compression: options.text_compression(input.path())? })
    }

    /// Its name, as messages show it.
    pub(super) fn path(&self) -> &Path {
        self.input.path()
    }

    pub(super) fn is_plain(&self) -> bool {
        self.compression == Compression::None
    }

    /// Whether it may be read in several places at once: an object comes as it is read, from one place on.
    pub(super) fn is_divisible(&self) -> bool {
        self.is_plain() && self.input.as_object().is_none()
    }

    /// A reader of the text from byte `offset` on.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub(super) fn open_at(&self, offset: u64) -> Result<TextReader> {
        let mut file = self.input.open()?;
        if self.is_plain() {
            file.seek(SeekFrom::Start(offset)).map_err(|e| self.error(e))?;
        }
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = Counted { file, consumed: Arc::clone(&consumed) };
        let mut text: Box<dyn Read> = match self.compression {
            Compression::None => Box::new(counted),
            Compression::Gzip => Box::new(MultiGzDecoder::new(counted)),
            Compression::Zstd => Box::new(zstd::Decoder::new(counted).map_err(|e| self.error(e))?),
        };
        if !self.is_plain() {
            std::io::copy(&mut text.by_ref().take(offset), &mut std::io::sink())
                .map_err(|e| self.error(e))?;
        }
        Ok(TextReader { text, consumed, told: 0 })
    }

    /// The line, counted from 1, in which byte `offset` of the text stands.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn line_of(&self, offset: u64) -> Result<u64> {
        let mut text = self.open_at(0)?.take(offset);
        let mut block = vec![0; BLOCK];
        let mut line = 1;
        loop {
            let read = text.read(&mut block).map_err(|e| self.error(e))?;
            if read == 0 {
                return Ok(line);
            }
            line += count(&block[..read], b'\n') as u64;
        }
    }

    /// What an I/O error says about this file.
    pub(super) fn error(&self, error: std::io::Error) -> Error {
        use std::io::ErrorKind as Io;
        if let Some(told) = store_error(&error) {
            return told;
        }
        let damaged = !self.is_plain()
            && matches!(error.kind(), Io::InvalidInput | Io::InvalidData | Io::UnexpectedEof | Io::Other);
        if damaged {
            let what = if self.compression == Compression::Gzip { "gzip" } else { "zstd" };
            return Error::new(
                ErrorKind::InvalidInput,
                format!("{} is not a readable {what} file: {error}", shown(self.path())),
            )
            .map(|e| e.with_sqlstate("22P04"));
        }
        cairn_storage::Error::io(format!("reading {}", shown(self.path())), error).into()
    }
}

/// Text being read.
pub(super) struct TextReader {
    text: Box<dyn Read>,
    consumed: Arc<AtomicU64>,
    told: u64,
}

impl TextReader {
    /// Bytes of the file, compressed as they are, read since the last call.
    pub(super) fn newly_consumed(&mut self) -> u64 {
        let consumed = self.consumed.load(Ordering::Relaxed);
        consumed - std::mem::replace(&mut self.told, consumed)
    }
}

impl Read for TextReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.text.read(buffer)
    }
}

struct Counted {
    file: Box<dyn ReadSeek>,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A file being written.
pub(super) enum TextWriter {
    Plain(BufWriter<OutputFile>),
    Gzip(GzEncoder<BufWriter<OutputFile>>),
    Zstd(zstd::Encoder<'static, BufWriter<OutputFile>>),
}

impl TextWriter {
    pub(super) fn new(out: BufWriter<OutputFile>, compression: Compression) -> std::io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(out),
            Compression::Gzip => Self::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(out, zstd::DEFAULT_COMPRESSION_LEVEL)?),
        })
    }

    /// Ends the compressed form.
    pub(super) fn finish(self) -> std::io::Result<BufWriter<OutputFile>> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(out) => out.finish(),
            Self::Zstd(out) => out.finish(),
        }
    }
}

impl Write for TextWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(out) => out.flush(),
            Self::Zstd(out) => out.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;

    use super::*;

    fn file(path: &Path) -> TextFile {
        TextFile::new(&InputFile::local(path.to_path_buf()), &CopyOptions::default()).unwrap()
    }

    #[test]
    fn text_is_the_same_however_packed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.csv", "a.csv.gz", "a.csv.zst"] {
            let path = dir.path().join(name);
            let out = BufWriter::new(OutputFile::Local(File::create(&path).unwrap()));
            let mut writer = TextWriter::new(out, Compression::of(&path)).unwrap();
            writer.write_all(b"one\ntwo\nthree\n").unwrap();
            writer.finish().unwrap().into_inner().unwrap();
            let file = file(&path);
            let mut text = String::new();
            let mut reader = file.open_at(4).unwrap();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "two\nthree\n", "{name}");
            assert!(reader.newly_consumed() > 0 && reader.newly_consumed() == 0);
            assert_eq!(file.line_of(9).unwrap(), 3, "{name}");
        }
    }

    #[test]
    fn damage_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.ndjson.gz");
        std::fs::write(&path, "plain text").unwrap();
        let error = file(&path).line_of(5).unwrap_err();
        assert!(error.message().contains("bad.ndjson.gz") && error.sqlstate() == "22P04", "{error}");
    }
}
