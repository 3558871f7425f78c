#![allow(clippy::unwrap_used)]
use std::io;

use super::*;

/// An error of a client, with the cause it names.
#[derive(Debug)]
struct Told {
    text: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Told {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// What a client says of a reply.
fn reply(status: &str, body: &str) -> Box<dyn StdError + Send + Sync> {
    let text = format!(
        "Error performing GET https://user:secret@s3.eu-west-1.amazonaws.com/data/db/CAIRN?X-Amz-Signature=secret in 12ms \
         - Server returned non-2xx status code: {status}: {body}"
    );
    Box::new(Told { text, cause: None })
}

fn xml(code: &str, message: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <BucketName>data</BucketName><RequestId>1</RequestId><SignatureProvided>secret</SignatureProvided></Error>"
    )
}

fn generic(source: Box<dyn StdError + Send + Sync>) -> StoreError {
    StoreError::Generic { store: "S3", source }
}

fn path() -> String {
    "db/CAIRN".to_owned()
}

fn unreachable(kind: HttpErrorKind, why: io::Error) -> StoreError {
    let cause = HttpError::new(kind, why);
    let text = "Error performing PUT http://localhost:9000/data/x?sig=secret in 3ms - HTTP error: error sending request";
    generic(Box::new(Told { text: text.to_owned(), cause: Some(Box::new(cause)) }))
}

/// What is said of an error must be one line without secrets.
fn checked(error: StoreError) -> Error {
    let error = describe(error);
    for text in [Some(error.message()), error.detail(), error.hint()].into_iter().flatten() {
        assert!(!text.contains("secret") && !text.contains('?') && !text.contains('\n'), "{text}");
    }
    error
}

#[test]
fn replies_are_told_in_the_words_of_the_store() {
    let denied = StoreError::PermissionDenied {
        path: path(),
        source: reply("403 Forbidden", &xml("AccessDenied", "Access Denied")),
    };
    assert_eq!(verdict(&denied), Verdict::Answer);
    let denied = checked(denied);
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    assert_eq!(
        denied.message(),
        "the object store does not allow access to db/CAIRN: AccessDenied: Access Denied"
    );
    assert!(denied.hint().unwrap().contains("credentials"));
    // A reply to HEAD has no body.
    let head = StoreError::PermissionDenied { path: path(), source: reply("403 Forbidden", "") };
    assert_eq!(checked(head).message(), "the object store does not allow access to db/CAIRN: 403 Forbidden");
    let listed =
        generic(reply("403 Forbidden", &xml("InvalidAccessKeyId", "The key does not exist &amp; so on")));
    assert_eq!(verdict(&listed), Verdict::Final);
    let listed = checked(listed);
    assert_eq!(listed.kind(), ErrorKind::PermissionDenied);
    assert!(listed.message().ends_with("InvalidAccessKeyId: The key does not exist & so on"), "{listed}");
    let busy = generic(reply("503 Slow Down", &xml("SlowDown", "Please reduce your request rate.")));
    assert_eq!(verdict(&busy), Verdict::Refused);
    let busy = checked(busy);
    assert_eq!(busy.kind(), ErrorKind::Unavailable);
    assert_eq!(
        busy.message(),
        "the object store is busy or failing: SlowDown: Please reduce your request rate."
    );
    assert_eq!(busy.detail(), Some("GET https://s3.eu-west-1.amazonaws.com/data/db/CAIRN"));
    let json = generic(reply("400 Bad Request", r#"{"error": {"code": 400, "message": "Bad\nthing"}}"#));
    assert_eq!(verdict(&json), Verdict::Final);
    assert_eq!(checked(json).message(), "the object store refused the request: Bad thing");
    let token = reply("400 Bad Request", r#"{"error": "invalid_grant", "error_description": "Expired"}"#);
    assert_eq!(checked(generic(token)).message(), "the object store refused the request: Expired");
}

#[test]
fn objects_are_named_without_more() {
    let cases: [(StoreError, ErrorKind, &str); 4] = [
        (
            StoreError::NotFound { path: path(), source: reply("404 Not Found", &xml("NoSuchKey", "No.")) },
            ErrorKind::NotFound,
            "db/CAIRN does not exist",
        ),
        (
            StoreError::AlreadyExists { path: path(), source: reply("412 Precondition Failed", "") },
            ErrorKind::AlreadyExists,
            "db/CAIRN is there already",
        ),
        (
            StoreError::Precondition { path: path(), source: reply("412 Precondition Failed", "") },
            ErrorKind::Unavailable,
            "db/CAIRN was changed by somebody else meanwhile",
        ),
        (
            StoreError::NotImplemented { operation: "update".to_owned(), implementer: "X".to_owned() },
            ErrorKind::Unsupported,
            "the object store can't do this: Operation update not yet implemented by X.",
        ),
    ];
    for (error, kind, message) in cases {
        assert_eq!(verdict(&error), Verdict::Answer);
        assert!(matches!(
            settled(StoreError::NotFound { path: path(), source: "".into() }),
            StoreError::NotFound { .. }
        ));
        let error = checked(error);
        assert_eq!((error.kind(), error.message()), (kind, message));
    }
}

#[test]
fn a_missing_bucket_is_named() {
    let bodies = [
        xml("NoSuchBucket", "The specified bucket does not exist"),
        xml("ContainerNotFound", "The specified container does not exist.\nRequestId:1"),
        r#"{"error": {"code": 404, "message": "The specified bucket does not exist."}}"#.to_owned(),
    ];
    for body in bodies {
        for found in [true, false] {
            let source = reply("404 Not Found", &body);
            let error = if found { StoreError::NotFound { path: path(), source } } else { generic(source) };
            let error = settled(error);
            assert!(!matches!(error, StoreError::NotFound { .. }));
            assert_eq!(verdict(&error), Verdict::Final);
            let error = checked(error);
            assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::InvalidInput, "3D000"));
            assert!(
                error.message().contains("bucket") && error.message().contains("does not exist"),
                "{error}"
            );
        }
    }
    let error =
        StoreError::NotFound { path: path(), source: reply("404 Not Found", &xml("NoSuchBucket", "No")) };
    assert_eq!(checked(error).message(), "bucket 'data' does not exist at the object store");
}

#[test]
fn what_does_not_answer_is_told_by_its_deepest_cause() {
    let refused = unreachable(HttpErrorKind::Connect, io::Error::other("Connection refused (os error 111)"));
    assert_eq!(verdict(&refused), Verdict::Refused);
    let refused = checked(refused);
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(refused.message(), "the object store can't be reached: Connection refused (os error 111)");
    assert_eq!(refused.detail(), Some("PUT http://localhost:9000/data/x"));
    let at = unreachable(HttpErrorKind::Timeout, io::Error::other("operation timed out"));
    assert_eq!(verdict(&at), Verdict::Unknown);
    assert_eq!(
        describe_at(at, Some("wal/7")).message(),
        "wal/7: the object store can't be reached: operation timed out"
    );
    let nobody = Told {
        text: "Error performing PUT http://169.254.169.254/latest/api/token in 1s - HTTP error: no"
            .to_owned(),
        cause: None,
    };
    let nobody = generic(Box::new(nobody));
    assert_eq!(verdict(&nobody), Verdict::NoCredentials);
    let nobody = checked(nobody);
    assert_eq!(nobody.kind(), ErrorKind::PermissionDenied);
    assert!(nobody.hint().unwrap().contains("AWS_ACCESS_KEY_ID"));
}

#[test]
fn wrong_requests_are_not_sent_again() {
    let elsewhere = "Error performing GET https://h/x in 1ms - Received redirect without LOCATION, this normally \
                     indicates an incorrectly configured region";
    let elsewhere = generic(elsewhere.into());
    assert_eq!(verdict(&elsewhere), Verdict::Final);
    let elsewhere = checked(elsewhere);
    assert_eq!(elsewhere.kind(), ErrorKind::InvalidInput);
    assert!(elsewhere.hint().unwrap().contains("AWS_REGION"));
    let cannot = generic(reply("501 Not Implemented", &xml("NotImplemented", "A header you provided")));
    assert_eq!(verdict(&cannot), Verdict::Final);
    assert_eq!(checked(cannot).kind(), ErrorKind::Unsupported);
    let range = generic("Invalid range: Wanted range starting at 9, but object was only 3 bytes long".into());
    assert_eq!(verdict(&range), Verdict::Final);
    // Of a request that deletes many; the text of the client.
    let one = generic("DeleteObjects request failed for key db/x: Access Denied (code: AccessDenied)".into());
    assert_eq!(verdict(&one), Verdict::Final);
    let one = checked(one);
    assert_eq!(one.kind(), ErrorKind::PermissionDenied);
    assert!(one.message().ends_with("AccessDenied: Access Denied"), "{one}");
    // Broken on the way, whatever the status says.
    for (status, code) in
        [("400 Bad Request", "RequestTimeout"), ("500 Internal Server Error", "InternalError")]
    {
        assert_eq!(verdict(&generic(reply(status, &xml(code, "again")))), Verdict::Unknown);
    }
    let inside = "Server returned error response: <Error><Code>SlowDown</Code></Error>";
    assert_eq!(verdict(&generic(inside.into())), Verdict::Refused);
}

#[test]
fn an_error_of_ours_comes_back_whole() {
    let ours = || Error::new(ErrorKind::ResourceExhausted, "full").with_hint("make room");
    let back = Error::from(StoreError::from(ours()));
    assert_eq!(
        (back.kind(), back.message(), back.hint()),
        (ErrorKind::ResourceExhausted, "full", Some("make room"))
    );
    let failed = failure(ours());
    // Not to be taken for an error of a store that knows what it did.
    assert!(matches!(&failed, StoreError::Generic { source, .. } if !source.is::<Error>()));
    assert_eq!(verdict(&failed), Verdict::Final);
    assert_eq!(Error::from(failed).kind(), ErrorKind::ResourceExhausted);
    assert_eq!(verdict(&failure(Error::new(ErrorKind::Unavailable, "silent"))), Verdict::Unknown);
}

#[test]
fn a_line_is_short_and_its_addresses_are_plain() {
    assert_eq!(one_line("a\n b\t c"), "a b c");
    assert_eq!(one_line("see https://k:s@h.example/p?sig=1#x now"), "see https://h.example/p now");
    assert_eq!(one_line("http://h?x"), "http://h");
    let long = one_line(&"ä".repeat(1000));
    assert_eq!(long.chars().count(), REASON_CHARS_MAX + 1);
}

#[test]
fn only_what_was_surely_not_done_is_told_so() {
    let undone = |error: StoreError| !judged(error).1;
    // Answered by the store itself, or never sent.
    for code in REFUSED_CODES {
        assert!(
            undone(generic(reply("503 Slow Down", &xml(code, "Please reduce your request rate.")))),
            "{code}"
        );
    }
    assert!(undone(generic(reply("429 Too Many Requests", ""))));
    let refused = || io::Error::other("Connection refused (os error 111)");
    assert!(undone(unreachable(HttpErrorKind::Connect, refused())));
    assert!(undone(unreachable(HttpErrorKind::Timeout, io::Error::other(CONNECTING))));
    assert!(undone(StoreError::PermissionDenied { path: path(), source: "no".into() }));
    assert!(undone(refusal(Error::new(ErrorKind::Unavailable, "busy"))));
    // Somebody between may say 503 with the request on its way.
    assert!(!undone(generic(reply("503 Service Unavailable", ""))));
    assert!(!undone(generic(reply("503 Service Unavailable", "upstream connect error or disconnect/reset"))));
    assert!(!undone(generic(reply("500 Internal Server Error", &xml("InternalError", "again")))));
    assert!(!undone(unreachable(HttpErrorKind::Timeout, io::Error::other("operation timed out"))));
    assert!(!undone(unreachable(HttpErrorKind::Interrupted, io::Error::other("connection reset"))));
    assert!(!undone(failure(Error::new(ErrorKind::Unavailable, "silent"))));
}
