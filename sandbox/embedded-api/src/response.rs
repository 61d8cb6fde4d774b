//! Answers as HTTP responses.

use axum::body::Body;
use bytes::Bytes;
use futures::Stream;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WARNING};

use crate::status::Status;
use crate::table::encode;

/// A response of this server.
pub type Response = http::Response<Body>;

fn build(code: u16, content_type: &'static str, body: Body) -> Response {
    let mut response = http::Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub(crate) fn json(code: u16, body: Bytes) -> Response {
    build(code, "application/json", Body::from(body))
}

/// A JSON document under a media type of its own.
pub(crate) fn document(content_type: &'static str, body: Bytes) -> Response {
    build(200, content_type, Body::from(body))
}

pub(crate) fn text(body: &'static str) -> Response {
    build(200, "text/plain; charset=utf-8", Body::from(body))
}

pub(crate) fn status(status: &Status) -> Response {
    json(status.code, encode(&status.to_value()))
}

pub(crate) fn stream(
    body: impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
) -> Response {
    build(200, "application/json", Body::from_stream(body))
}

/// Adds a `Warning` header for each text; kubectl prints them.
pub(crate) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}
