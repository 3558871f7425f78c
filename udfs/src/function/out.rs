//! What functions answer with: numbers, and texts and lists of texts within the limit of their call.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringViewBuilder,
};
use datafusion::common::Result;

use super::Call;
use crate::bounded::TooLarge;

/// BIGINT for each row.
pub(crate) fn integers(call: &Call<'_>, of: impl Fn(usize) -> Result<Option<i64>>) -> Result<ArrayRef> {
    let mut out = Int64Builder::with_capacity(call.rows());
    for row in 0..call.rows() {
        out.append_option(of(row)?);
    }
    Ok(Arc::new(out.finish()))
}

/// DOUBLE for each row.
pub(crate) fn numbers(call: &Call<'_>, of: impl Fn(usize) -> Result<Option<f64>>) -> Result<ArrayRef> {
    let mut out = Float64Builder::with_capacity(call.rows());
    for row in 0..call.rows() {
        out.append_option(of(row)?);
    }
    Ok(Arc::new(out.finish()))
}

/// BOOLEAN for each row.
pub(crate) fn booleans(call: &Call<'_>, of: impl Fn(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
    let mut out = BooleanBuilder::with_capacity(call.rows());
    for row in 0..call.rows() {
        out.append_option(of(row)?);
    }
    Ok(Arc::new(out.finish()))
}

/// Bytes made, and how many there may be.
struct Made {
    name: &'static str,
    rows: usize,
    bytes: u64,
    limit: u64,
}

impl Made {
    fn of(call: &Call<'_>) -> Self {
        Self { name: call.name(), rows: call.rows(), bytes: 0, limit: call.limit() }
    }

    fn add(&mut self, bytes: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes <= self.limit {
            return Ok(());
        }
        let (name, rows) = (self.name, self.rows);
        Err(TooLarge::error(format!("{name} would make more than {} bytes in {rows} rows", self.limit)))
    }
}

/// A text for each row.
pub(crate) struct TextRows {
    builder: StringViewBuilder,
    made: Made,
}

impl TextRows {
    /// For the rows of `call`.
    pub(crate) fn new(call: &Call<'_>) -> Self {
        Self { builder: StringViewBuilder::with_capacity(call.rows()), made: Made::of(call) }
    }

    /// The next row.
    ///
    /// # Errors
    /// When there are more bytes than the limit.
    pub(crate) fn push(&mut self, text: Option<&str>) -> Result<()> {
        match text {
            Some(text) => {
                self.made.add(text.len())?;
                self.builder.try_append_value(text)?;
            }
            None => self.builder.append_null(),
        }
        Ok(())
    }

    /// All rows.
    pub(crate) fn finish(mut self) -> ArrayRef {
        Arc::new(self.builder.finish())
    }

    /// Rows that `of` writes behind what it is given; false: NULL.
    pub(crate) fn written(
        call: &Call<'_>,
        mut of: impl FnMut(usize, &mut String) -> Result<bool>,
    ) -> Result<ArrayRef> {
        let mut rows = Self::new(call);
        let mut text = String::new();
        for row in 0..call.rows() {
            text.clear();
            let there = of(row, &mut text)?;
            rows.push(there.then_some(text.as_str()))?;
        }
        Ok(rows.finish())
    }

    /// Rows that are parts of others.
    pub(crate) fn parts<'a>(
        call: &Call<'_>,
        of: impl Fn(usize) -> Result<Option<&'a str>>,
    ) -> Result<ArrayRef> {
        let mut rows = Self::new(call);
        for row in 0..call.rows() {
            rows.push(of(row)?)?;
        }
        Ok(rows.finish())
    }
}

/// A list of texts for each row.
pub(crate) struct TextLists {
    builder: ListBuilder<StringViewBuilder>,
    made: Made,
}

impl TextLists {
    /// For the rows of `call`.
    pub(crate) fn new(call: &Call<'_>) -> Self {
        let builder = ListBuilder::with_capacity(StringViewBuilder::new(), call.rows());
        Self { builder, made: Made::of(call) }
    }

    /// One more text in the row that is being made.
    ///
    /// # Errors
    /// When there are more bytes than the limit.
    pub(crate) fn push(&mut self, text: Option<&str>) -> Result<()> {
        self.made.add(16 + text.map_or(0, str::len))?;
        match text {
            Some(text) => self.builder.values().try_append_value(text)?,
            None => self.builder.values().append_null(),
        }
        Ok(())
    }

    /// Ends the row; false: it is NULL.
    pub(crate) fn end_row(&mut self, there: bool) {
        self.builder.append(there);
    }

    /// All rows.
    pub(crate) fn finish(mut self) -> ArrayRef {
        Arc::new(self.builder.finish())
    }
}
