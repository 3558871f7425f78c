//! In which form rows are answered.
//!
//! Owns: names and media types of the forms, the choice by `format` or `Accept`. Does not own: writing (`answer`).

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::error::Problem;

/// A form of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// One document: columns, then rows as arrays.
    Json,
    /// One object a line.
    Ndjson,
    /// RFC 4180 with a header.
    Csv,
    /// Arrow's IPC stream.
    Arrow,
}

impl Format {
    const ALL: [Self; 4] = [Self::Json, Self::Ndjson, Self::Csv, Self::Arrow];

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The form that a request's headers prefer; JSON when they leave it open.
    ///
    /// # Errors
    /// 406 when they accept none.
    pub(super) fn accepted(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut asked = false;
        let mut best: Option<(f32, Self)> = None;
        for value in headers.get_all(header::ACCEPT) {
            for range in
                value.to_str().unwrap_or_default().split(',').filter(|range| !range.trim().is_empty())
            {
                asked = true;
                let mut parts = range.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default().to_ascii_lowercase();
                let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
                if let Some(format) = Self::of_range(&name)
                    && weight > 0.0
                    && best.is_none_or(|(known, _)| weight > known)
                {
                    best = Some((weight, format));
                }
            }
        }
        match best {
            Some((_, format)) => Ok(format),
            None if !asked => Ok(Self::Json),
            None => Err(Problem::request(StatusCode::NOT_ACCEPTABLE, "no media type of Accept can be answered")
                .with_hint(
                    "application/json, application/x-ndjson, text/csv and application/vnd.apache.arrow.stream can",
                )),
        }
    }

    fn of_range(name: &str) -> Option<Self> {
        match name {
            "*/*" | "application/*" => Some(Self::Json),
            "text/*" => Some(Self::Csv),
            "application/ndjson" | "application/jsonl" => Some(Self::Ndjson),
            _ => Self::ALL.into_iter().find(|f| f.media_type().split(';').next() == Some(name)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_most_wanted_form_is_chosen() {
        for (accept, expected) in [
            (None, Some(Format::Json)),
            (Some("*/*"), Some(Format::Json)),
            (Some("text/csv"), Some(Format::Csv)),
            (Some("text/csv;q=0.5, application/x-ndjson"), Some(Format::Ndjson)),
            (Some("application/vnd.apache.arrow.stream, application/json;q=0.1"), Some(Format::Arrow)),
            (Some("text/html, */*;q=0.8"), Some(Format::Json)),
            (Some("application/json;q=0, text/csv"), Some(Format::Csv)),
            (Some("image/png"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(Format::accepted(&headers).ok(), expected, "{accept:?}");
        }
    }
}
