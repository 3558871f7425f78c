//! Calls of Flight: how many, by method and code.

use cairn_storage::metrics::Counter;
use tonic::Code;

use super::text::Page;

/// Methods of Flight; the last stands for what is none.
const METHODS: [&str; 11] = [
    "Handshake",
    "ListFlights",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "DoGet",
    "DoPut",
    "DoExchange",
    "DoAction",
    "ListActions",
    "other",
];

/// Names of gRPC's codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct FlightMetrics {
    calls: [[Counter; CODES.len()]; METHODS.len()],
}

impl FlightMetrics {
    /// A call of the method at `path` has ended.
    pub(crate) fn answered(&self, path: &str, code: Code) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let method = METHODS.iter().position(|known| *known == name).unwrap_or(METHODS.len() - 1);
        self.calls[method][code as usize].one();
    }

    pub(super) fn write(&self, page: &mut Page) {
        page.counter(
            "cairn_flight_requests_total",
            "Calls of Flight SQL that have ended, by method and code.",
        );
        for (method, codes) in METHODS.iter().zip(&self.calls) {
            for (code, calls) in CODES.iter().zip(codes) {
                let calls = calls.value();
                if calls > 0 {
                    page.value(&[("method", method), ("code", code)], calls);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_under_their_names() {
        let metrics = FlightMetrics::default();
        metrics.answered("/arrow.flight.protocol.FlightService/ListActions", Code::Ok);
        metrics.answered("/arrow.flight.protocol.FlightService/DoGet", Code::Unauthenticated);
        metrics.answered("/nothing", Code::Unimplemented);
        let mut page = Page::default();
        metrics.write(&mut page);
        let text = page.finish();
        assert!(text.contains("{method=\"ListActions\",code=\"OK\"} 1"), "{text}");
        assert!(text.contains("{method=\"DoGet\",code=\"UNAUTHENTICATED\"} 1"), "{text}");
        assert!(text.contains("{method=\"other\",code=\"UNIMPLEMENTED\"} 1"), "{text}");
    }
}
