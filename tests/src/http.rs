//! A small client of HTTP/1.1: one request a connection, everything about the answer visible.
//!
//! Written out because the tests look at what a client library hides: whether an answer is whole, what came before it broke.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// One answer.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Status.
    pub status: u16,
    /// Names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body, without the frames of its chunks.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl HttpAnswer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

/// A request under way.
#[derive(Debug)]
pub struct HttpRequest {
    stream: TcpStream,
    received: Vec<u8>,
}

impl HttpRequest {
    /// Sends a request; `headers` as `name: value`.
    pub async fn send(to: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n");
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a body need not read it.
        let _ = stream.write_all(body).await;
        Self { stream, received: Vec::new() }
    }

    /// Reads until at least `bytes` of the answer are there.
    pub async fn read_at_least(&mut self, bytes: usize) {
        while self.received.len() < bytes {
            assert!(self.read().await > 0, "the answer ended early");
        }
    }

    /// The rest of the answer.
    pub async fn answer(mut self) -> HttpAnswer {
        while self.read().await > 0 {}
        parse(&self.received)
    }

    async fn read(&mut self) -> usize {
        let mut part = [0; 16 << 10];
        let read = tokio::time::timeout(ANSWER_MAX, self.stream.read(&mut part)).await.expect("no answer");
        // A connection that is reset has ended.
        let read = read.unwrap_or(0);
        self.received.extend_from_slice(&part[..read]);
        read
    }
}

/// GET of a path.
pub async fn http_get(to: SocketAddr, path: &str) -> HttpAnswer {
    HttpRequest::send(to, "GET", path, &[], b"").await.answer().await
}

/// POST of a statement's request.
pub async fn http_sql(to: SocketAddr, request: Value) -> HttpAnswer {
    http_sql_as(to, request, &[]).await
}

/// The same with more headers.
pub async fn http_sql_as(to: SocketAddr, request: Value, headers: &[&str]) -> HttpAnswer {
    let mut all = vec!["content-type: application/json"];
    all.extend(headers);
    let body = request.to_string();
    HttpRequest::send(to, "POST", "/v1/sql", &all, body.as_bytes()).await.answer().await
}

fn parse(answer: &[u8]) -> HttpAnswer {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer has a head");
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = HttpAnswer { status, headers, body: answer[end + 4..].to_vec(), whole: true };
    if answer.header("transfer-encoding") == Some("chunked") {
        (answer.body, answer.whole) = chunks(&answer.body);
    } else if let Some(length) = answer.header("content-length") {
        answer.whole = answer.body.len() == length.parse::<usize>().unwrap();
    }
    answer
}

/// The chunks' bytes, and whether the last one is there.
fn chunks(mut framed: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = framed.windows(2).position(|w| w == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&framed[..line]).unwrap(), 16).unwrap();
        framed = &framed[line + 2..];
        if size == 0 {
            return (body, true);
        }
        let there = size.min(framed.len());
        body.extend_from_slice(&framed[..there]);
        if framed.len() < size + 2 {
            return (body, false);
        }
        framed = &framed[size + 2..];
    }
}
