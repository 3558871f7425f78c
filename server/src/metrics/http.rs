//! Requests over HTTP: how many, by route, method and status, and how long until the head of the answer was there.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use cairn_storage::metrics::{Counter, Histogram};

use super::text::Page;
use crate::http::{METHODS, ROUTES};

/// Statuses that are told apart; the last stands for all others.
const CODES: [u16; 21] =
    [200, 400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 415, 422, 429, 431, 500, 501, 503, 504, 507, 0];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HttpMetrics {
    /// By route, method and status.
    answers: [[[Counter; CODES.len()]; METHODS.len()]; ROUTES.len()],
    times: [Histogram; ROUTES.len()],
    running: Counter,
}

/// A request that was counted and not answered yet.
pub(crate) struct Counted<'a> {
    metrics: &'a HttpMetrics,
    route: usize,
    method: usize,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.running.subtract(1);
    }
}

impl HttpMetrics {
    /// A request has come.
    pub(crate) fn request(&self, method: &Method, path: &str) -> Counted<'_> {
        self.running.one();
        let place =
            |of: &[&str], name: &str| of.iter().position(|known| *known == name).unwrap_or(of.len() - 1);
        Counted { metrics: self, route: place(&ROUTES, path), method: place(&METHODS, method.as_str()) }
    }

    /// The head of its answer is ready.
    pub(crate) fn answered(&self, counted: Counted<'_>, status: StatusCode, after: Duration) {
        let code = CODES.iter().position(|code| *code == status.as_u16()).unwrap_or(CODES.len() - 1);
        self.answers[counted.route][counted.method][code].one();
        self.times[counted.route].observe(after);
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.counter("cairn_http_requests_total", "Requests over HTTP that were answered.");
        for (route, methods) in ROUTES.iter().zip(&self.answers) {
            for (method, codes) in METHODS.iter().zip(methods) {
                for (code, answers) in CODES.iter().zip(codes) {
                    let answers = answers.value();
                    if answers > 0 {
                        let code = if *code == 0 { "other".to_owned() } else { code.to_string() };
                        page.value(&[("route", route), ("method", method), ("code", &code)], answers);
                    }
                }
            }
        }
        page.histogram(
            "cairn_http_request_duration_seconds",
            "Time from a request over HTTP to the head of its answer; rows that follow are in cairn_statement_duration_seconds.",
        );
        for (route, times) in ROUTES.iter().zip(&self.times) {
            page.buckets(&[("route", route)], &times.figures());
        }
        page.gauge("cairn_http_requests_running", "Requests over HTTP whose answer has not begun.");
        page.value(&[], self.running.value());
    }
}
