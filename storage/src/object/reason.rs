//! What an error of a store means: its reason in one line, and whether asking again can help.
//!
//! Owns: reading the texts of `object_store`, whose errors tell the status and body of a reply in their messages only. Does
//! not own: asking again (`steady`). No text made here has more than one line, a query (signatures stand there) or
//! credentials in it.

use std::error::Error as StdError;
use std::fmt;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::error::{Error, ErrorKind};

/// What to do when a store can't be reached.
pub(super) const NETWORK_HINT: &str = "check the network and the endpoint (AWS_ENDPOINT_URL, GOOGLE_BASE_URL, \
                                       AZURE_STORAGE_ENDPOINT), then try again";

/// What to do when a store lets nobody in.
const CREDENTIALS_HINT: &str = "check the credentials (AWS_…, GOOGLE_… or AZURE_… variables, a profile, the role of this \
                                machine) and that they may list, read, write and delete objects there";

/// Longest text of a reason, in characters.
const REASON_CHARS_MAX: usize = 300;

/// Addresses that only hand out credentials.
const CREDENTIAL_HOSTS: [&str; 4] =
    ["://169.254.169.254", "://169.254.170.2", "://metadata.google.internal", "://[fd00:ec2::254]"];

/// How the client's transport words that a connection could not be made.
const CONNECTING: &str = "client error (Connect)";

/// Codes of replies that say "not now", with nothing done.
const REFUSED_CODES: [&str; 4] = ["SlowDown", "ServiceUnavailable", "ServerBusy", "TooManyRequests"];

/// Codes of replies to a request that can succeed when it is sent again; it may have been done.
const BROKEN_CODES: [&str; 7] = [
    "InternalError",
    "OperationTimedOut",
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "OperationAborted",
];

/// Codes of replies to somebody who may not do what was asked.
const DENIED_CODES: [&str; 10] = [
    "AccessDenied",
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "AuthenticationFailed",
    "AuthorizationFailure",
    "AuthorizationPermissionMismatch",
];

/// Whether a request that failed may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The store answered, and would answer the same again.
    Answer,
    /// It failed, and would fail again.
    Final,
    /// The store had no time or was not reached: nothing was done.
    Refused,
    /// Nobody knows whether it was done.
    Unknown,
    /// There were no credentials to send it with; nothing was done.
    NoCredentials,
}

/// What asking again after this error can bring.
pub(super) fn verdict(error: &StoreError) -> Verdict {
    match error {
        StoreError::NotFound { .. }
        | StoreError::AlreadyExists { .. }
        | StoreError::Precondition { .. }
        | StoreError::NotModified { .. }
        | StoreError::PermissionDenied { .. }
        | StoreError::Unauthenticated { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::InvalidPath { .. } => Verdict::Answer,
        StoreError::NotSupported { .. } | StoreError::UnknownConfigurationKey { .. } => Verdict::Final,
        StoreError::Generic { source, .. } => match ours(error) {
            Some(ours) if ours.kind() == ErrorKind::Unavailable => Verdict::Unknown,
            Some(_) => Verdict::Final,
            None => verdict_of_text(&source.to_string(), transport(&**source)),
        },
        _ => Verdict::Unknown,
    }
}

fn verdict_of_text(text: &str, transport: Option<HttpErrorKind>) -> Verdict {
    if asks_for_credentials(text) {
        return Verdict::NoCredentials;
    }
    let reply = Reply::find(text);
    match (reply.code.as_deref(), reply.status) {
        (Some(code), _) if REFUSED_CODES.contains(&code) => Verdict::Refused,
        (Some(code), _) if BROKEN_CODES.contains(&code) => Verdict::Unknown,
        (_, Some(429 | 503)) => Verdict::Refused,
        (_, Some(501)) => Verdict::Final,
        (_, Some(408 | 500..)) => Verdict::Unknown,
        (_, Some(_)) | (Some(_), None) => Verdict::Final,
        (None, None) if is_redirect(text) || is_wrong_range(text) => Verdict::Final,
        (None, None) if transport == Some(HttpErrorKind::Connect) => Verdict::Refused,
        (None, None) => Verdict::Unknown,
    }
}

/// Whether what was asked for was surely not done and never will be. Narrower than [`Verdict::Refused`]: what stands between here
/// and the store says a bare 503 also when the connection behind it broke, with the request already on it.
pub(super) fn is_undone(error: &StoreError) -> bool {
    let StoreError::Generic { source, .. } = error else { return false };
    if let Some(failure) = source.downcast_ref::<Failure>() {
        return failure.undone;
    }
    if source.is::<Error>() {
        return false;
    }
    let text = source.to_string();
    if asks_for_credentials(&text) {
        return true;
    }
    let reply = Reply::find(&text);
    match (reply.code.as_deref(), reply.status) {
        (Some(code), _) => REFUSED_CODES.contains(&code),
        (None, Some(status)) => status == 429,
        (None, None) => never_connected(&**source),
    }
}

/// The error of a put that failed, with whether the object may have been written or may still be.
pub(crate) fn judged(error: StoreError) -> (Error, bool) {
    let undone = is_undone(&error);
    let error = Error::from(error);
    // Every other kind is an answer that the store gave instead of doing it.
    let may_stand = error.kind() == ErrorKind::Unavailable && !undone;
    (error, may_stand)
}

/// A failure that travels through the `object_store` trait. Unlike an [`Error`] in its place, which a store of this crate
/// gives, it leaves open whether what was asked for was done (D9), but where it says that it surely was not.
#[derive(Debug)]
struct Failure {
    error: Error,
    undone: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// The error as one of a store that may have done what was asked.
pub(super) fn failure(error: Error) -> StoreError {
    StoreError::Generic { store: "cairn", source: Box::new(Failure { error, undone: false }) }
}

/// The error as one of a store that has surely not done what was asked, and never will.
pub(super) fn refusal(error: Error) -> StoreError {
    StoreError::Generic { store: "cairn", source: Box::new(Failure { error, undone: true }) }
}

/// The error of ours that travelled through the `object_store` trait.
fn ours(error: &StoreError) -> Option<&Error> {
    let StoreError::Generic { source, .. } = error else { return None };
    source.downcast_ref::<Error>().or_else(|| source.downcast_ref::<Failure>().map(|failure| &failure.error))
}

/// What the error says to a user; an error of ours comes back whole.
pub(crate) fn describe(error: StoreError) -> Error {
    describe_at(error, None)
}

/// As [`describe`], of a request for the object at `at`.
pub(super) fn describe_at(error: StoreError, at: Option<&str>) -> Error {
    if let Some(ours) = ours(&error) {
        return ours.clone();
    }
    described(&error, at).with_source(error)
}

fn described(error: &StoreError, at: Option<&str>) -> Error {
    let text = error.to_string();
    let reply = Reply::find(&text);
    if let Some(bucket) = missing_bucket(&text, &reply) {
        return no_bucket(&bucket);
    }
    let reason = reply.reason().unwrap_or_else(|| deepest(error));
    match error {
        StoreError::NotFound { path, .. } => {
            Error::new(ErrorKind::NotFound, format!("{} does not exist", one_line(path)))
        }
        StoreError::AlreadyExists { path, .. } => {
            Error::new(ErrorKind::AlreadyExists, format!("{} is there already", one_line(path)))
        }
        StoreError::Precondition { path, .. } => Error::new(
            ErrorKind::Unavailable,
            format!("{} was changed by somebody else meanwhile", one_line(path)),
        ),
        StoreError::NotModified { path, .. } => {
            Error::new(ErrorKind::Unavailable, format!("{} has not changed", one_line(path)))
        }
        StoreError::PermissionDenied { path, .. } | StoreError::Unauthenticated { path, .. } => {
            denied(Some(path.as_str()), &reason)
        }
        StoreError::InvalidPath { .. } => {
            Error::new(ErrorKind::InvalidInput, format!("not the name of an object: {reason}"))
        }
        StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => cannot(&reason),
        StoreError::UnknownConfigurationKey { key, .. } => {
            Error::new(ErrorKind::InvalidInput, format!("'{}' configures no object store", one_line(key)))
        }
        _ => {
            let made = failed(&text, &reply, at, &reason, transport(error).is_some());
            match url_of(&text) {
                Some(url) => made.with_detail(url),
                None => made,
            }
        }
    }
}

/// A failure whose meaning only its text tells.
fn failed(text: &str, reply: &Reply, at: Option<&str>, reason: &str, transport: bool) -> Error {
    let at_object = at.map(|at| format!("{}: ", one_line(at))).unwrap_or_default();
    let unavailable = |what: &str| {
        Error::new(ErrorKind::Unavailable, format!("{at_object}the object store {what}: {reason}"))
    };
    if asks_for_credentials(text) {
        let message = format!("no credentials for the object store could be had: {reason}");
        return Error::new(ErrorKind::PermissionDenied, message).with_hint(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (GOOGLE_APPLICATION_CREDENTIALS, \
             AZURE_STORAGE_ACCOUNT_KEY), or give this machine a role",
        );
    }
    if is_redirect(text) || reply.elsewhere() {
        let message = format!("the bucket is in another region or behind another endpoint: {reason}");
        return Error::new(ErrorKind::InvalidInput, message).with_hint(
            "set AWS_REGION to the region of the bucket, and AWS_ENDPOINT_URL if it is not at AWS",
        );
    }
    if is_wrong_range(text) {
        return Error::new(ErrorKind::Unavailable, format!("{at_object}these bytes are not there: {reason}"));
    }
    match (reply.code.as_deref(), reply.status) {
        (Some(code), _) if DENIED_CODES.contains(&code) => denied(at, reason),
        (_, Some(401 | 403)) => denied(at, reason),
        (Some("NotImplemented"), _) | (_, Some(501)) => cannot(reason),
        (_, Some(408 | 429 | 500..)) => unavailable("is busy or failing").with_hint("try again later"),
        (_, Some(_)) | (Some(_), None) => unavailable("refused the request").with_hint(NETWORK_HINT),
        (None, None) if transport => unavailable("can't be reached").with_hint(NETWORK_HINT),
        (None, None) => unavailable("failed").with_hint(NETWORK_HINT),
    }
}

fn denied(path: Option<&str>, reason: &str) -> Error {
    let message = match path.filter(|path| !path.is_empty()) {
        Some(path) => format!("the object store does not allow access to {}: {reason}", one_line(path)),
        None => format!("the object store does not allow the request: {reason}"),
    };
    Error::new(ErrorKind::PermissionDenied, message).with_hint(CREDENTIALS_HINT)
}

fn cannot(reason: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the object store can't do this: {reason}"))
}

fn no_bucket(bucket: &str) -> Error {
    let name = if bucket.is_empty() { "the bucket".to_owned() } else { format!("bucket '{bucket}'") };
    Error::new(ErrorKind::InvalidInput, format!("{name} does not exist at the object store"))
        .with_sqlstate("3D000")
        .with_hint("create it, or check its name, the region and the endpoint (AWS_REGION, AWS_ENDPOINT_URL)")
}

/// "Not found" of an object in a bucket that is not there, which is no answer about the object: an error of its own.
pub(super) fn settled(error: StoreError) -> StoreError {
    if !matches!(error, StoreError::NotFound { .. }) {
        return error;
    }
    let text = error.to_string();
    match missing_bucket(&text, &Reply::find(&text)) {
        Some(bucket) => failure(no_bucket(&bucket).with_source(error)),
        None => error,
    }
}

/// Whether the error speaks of the bucket, not of an object in it.
pub(super) fn is_missing_bucket(error: &StoreError) -> bool {
    let text = error.to_string();
    missing_bucket(&text, &Reply::find(&text)).is_some()
}

/// The name of the bucket that is not there, empty when the reply does not tell it.
fn missing_bucket(text: &str, reply: &Reply) -> Option<String> {
    let by_code = matches!(reply.code.as_deref(), Some("NoSuchBucket" | "ContainerNotFound"));
    let by_text = reply.message.as_deref().is_some_and(|message| {
        message.contains("bucket does not exist") || message.contains("container does not exist")
    });
    (by_code || by_text)
        .then(|| between(text, "<BucketName>", "</BucketName>").map(one_line).unwrap_or_default())
}

/// A store's reply, as far as it stands in an error's text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reply {
    status: Option<u16>,
    /// "403 Forbidden"
    status_text: String,
    code: Option<String>,
    message: Option<String>,
}

impl Reply {
    fn find(text: &str) -> Self {
        let mut reply = Self::default();
        let mut body = text;
        if let Some((_, rest)) = text.split_once("status code: ") {
            let (status, after) = rest.split_once(": ").unwrap_or((rest, ""));
            reply.status = status.split(' ').next().and_then(|number| number.parse().ok());
            reply.status_text = one_line(status.trim_end_matches(':'));
            body = after;
        }
        reply.code = between(body, "<Code>", "</Code>").map(one_line);
        reply.message = between(body, "<Message>", "</Message>").map(unescaped);
        if let Some((before, code)) = text.rsplit_once(" (code: ") {
            // One object of a request that deletes many.
            reply.code = code.split(')').next().map(one_line);
            reply.message = before.rsplit_once(": ").map(|(_, message)| one_line(message));
        }
        if reply.code.is_none() && body.trim_start().starts_with('{') {
            reply.read_json(body);
        }
        reply
    }

    /// `{"error": {"message": …}}`, or `{"error": …, "error_description": …}` of those who hand out tokens.
    fn read_json(&mut self, body: &str) {
        let Ok(body) = serde_json::from_str::<serde_json::Value>(body.trim()) else { return };
        let text = |value: &serde_json::Value| value.as_str().map(one_line);
        let error = &body["error"];
        self.message =
            text(&error["message"]).or_else(|| text(&body["error_description"])).or_else(|| text(error));
    }

    fn reason(&self) -> Option<String> {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => Some(one_line(&format!("{code}: {message}"))),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => (!self.status_text.is_empty()).then(|| self.status_text.clone()),
        }
    }

    /// Whether the reply says that another address has the bucket.
    fn elsewhere(&self) -> bool {
        let code = matches!(
            self.code.as_deref(),
            Some("PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed")
        );
        code || matches!(self.status, Some(301 | 302 | 307 | 308))
    }
}

fn is_redirect(text: &str) -> bool {
    text.contains("redirect without LOCATION")
}

/// A range that the object does not have.
fn is_wrong_range(text: &str) -> bool {
    text.contains("Wanted range starting at") || text.contains("Range started at")
}

fn asks_for_credentials(text: &str) -> bool {
    CREDENTIAL_HOSTS.iter().any(|host| text.contains(host))
}

/// How the way to the store failed, if that is what failed.
fn transport(error: &(dyn StdError + 'static)) -> Option<HttpErrorKind> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(http) = current.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        cause = current.source();
    }
    None
}

/// Whether there was no connection to send anything on. A connection that took too long counts as a timeout.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    match transport(error) {
        Some(HttpErrorKind::Connect) => true,
        Some(HttpErrorKind::Timeout) => {
            let mut causes = std::iter::successors(Some(error), |&cause| cause.source());
            causes.any(|cause| cause.to_string() == CONNECTING)
        }
        _ => false,
    }
}

/// The text of the cause behind all others.
fn deepest(error: &StoreError) -> String {
    let mut last: &(dyn StdError + 'static) = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    one_line(&last.to_string())
}

/// `GET https://host/bucket/key` of a text that says what was performed.
fn url_of(text: &str) -> Option<String> {
    let (_, performed) = text.rsplit_once("Error performing ")?;
    let (request, _) = performed.split_once(" in ")?;
    request.contains("://").then(|| one_line(request))
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inside, _)| inside)
}

/// The first line of a text in XML.
fn unescaped(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let plain = line.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    one_line(&plain.replace("&amp;", "&"))
}

/// The text on one line, not too long, its addresses without queries and credentials.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(plain_word).collect();
    let line = words.join(" ");
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn plain_word(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests;
