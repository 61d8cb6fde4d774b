//! What tests ask etcd itself, over its socket and its JSON gateway.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::files::base64;

/// A key that is no object's.
const KEY: &str = "/history";

/// Makes etcd forget every revision that an object has been in until now.
pub(crate) fn forget_history(socket: &Path) -> io::Result<()> {
    // What is compacted is the past of a revision. A write of our own makes all objects' revisions past.
    let written = post(socket, "/v3/kv/put", &json!({"key": base64(KEY), "value": base64("")}))?;
    let revision: Option<i64> = written["header"]["revision"].as_str().and_then(|text| text.parse().ok());
    let revision = revision.ok_or_else(|| io::Error::other(format!("etcd says no revision: {written}")))?;
    let answer = post(socket, "/v3/kv/compaction", &json!({"revision": revision, "physical": true}))?;
    match answer.get("error") {
        Some(error) => Err(io::Error::other(format!("etcd refuses to compact {revision}: {error}"))),
        None => Ok(()),
    }
}

fn post(socket: &Path, path: &str, body: &Value) -> io::Result<Value> {
    let body = body.to_string();
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let _ = stream.shutdown(Shutdown::Both);
    let unreadable = || io::Error::other(format!("etcd says: {text}"));
    // The body is one JSON object, in a chunk or not.
    let (from, to) = (text.find('{').ok_or_else(unreadable)?, text.rfind('}').ok_or_else(unreadable)?);
    serde_json::from_str(&text[from..=to]).map_err(|_| unreadable())
}
