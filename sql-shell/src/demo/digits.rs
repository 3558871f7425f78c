//! Handwritten digits as vectors: real images that are part of the binary. `digits.md` names their source and licence.

use std::io::Write;

use tempfile::NamedTempFile;

/// The table's name.
pub(crate) const NAME: &str = "digits";

/// Its definition. An image is 8 rows of 8 pixels, ink from 0 to 16.
pub(crate) const CREATE: &str =
    "CREATE TABLE digits (id BIGINT PRIMARY KEY, label INTEGER NOT NULL, image VECTOR(64) NOT NULL)";

/// Its rows, as Parquet.
pub(crate) const ROWS: &[u8] = include_bytes!("digits.parquet");

/// The index's name.
pub(crate) const INDEX: &str = "digits_image_idx";

/// Its definition.
pub(crate) const CREATE_INDEX: &str =
    "CREATE INDEX IF NOT EXISTS digits_image_idx ON digits USING hnsw (image) WITH (metric = 'l2')";

/// The view's name.
pub(crate) const VIEW: &str = "pictures";

/// Its definition: an image is nine lines of text, y = 0 names it.
pub(crate) const CREATE_VIEW: &str = "\
CREATE VIEW IF NOT EXISTS pictures AS
SELECT id, label, 0 AS y, rpad(concat(label, ' (id ', id, ')'), 16) AS line FROM digits
UNION ALL
SELECT id, label, 1 + pixel / 8, string_agg(repeat(ink, 2), '' ORDER BY pixel)
FROM (
  SELECT id, label, pixel, substr(' ░▒▓█', 1 + ceil((image::REAL[])[pixel + 1] / 4)::INTEGER, 1) AS ink
  FROM digits, generate_series(0, 63) AS pixels (pixel)
) AS inked
GROUP BY id, label, pixel / 8";

/// The rows as a Parquet file that goes away with the returned handle. The error is a sentence.
pub(crate) fn write() -> Result<NamedTempFile, String> {
    let written = || {
        let mut file = super::temporary()?;
        file.write_all(ROWS)?;
        file.flush()?;
        Ok(file)
    };
    written().map_err(|error: std::io::Error| format!("a temporary file can't be written: {error}"))
}
