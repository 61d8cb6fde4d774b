//! Request bodies: JSON or YAML to a value, with every duplicate field noted.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::protobuf;
use crate::status::{Answer, Status};

/// The size above which a body is refused, as in kube-apiserver.
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

/// A decoded body.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Body {
    pub(crate) value: Value,
    /// The paths of fields that stood there twice; the last one counts.
    pub(crate) duplicates: Vec<String>,
}

/// The media type of a `Content-Type` header, without its parameters; JSON where there is none.
pub(crate) fn media_type(headers: &http::HeaderMap) -> String {
    let header = headers.get(http::header::CONTENT_TYPE).and_then(|h| h.to_str().ok()).unwrap_or("");
    match header.split(';').next().unwrap_or("").trim() {
        "" => "application/json".to_owned(),
        other => other.to_ascii_lowercase(),
    }
}

/// Decodes an object.
pub(crate) fn object(media_type: &str, bytes: &[u8]) -> Answer<Body> {
    let body = match media_type {
        "application/json" => json(bytes)?,
        protobuf::MEDIA_TYPE => Body { value: protobuf::object(bytes)?, duplicates: Vec::new() },
        "application/yaml" | "application/apply-patch+yaml" => yaml(bytes)?,
        _ => return Err(Status::unsupported_media_type("application/json, application/yaml")),
    };
    if !body.value.is_object() {
        return Err(Status::bad_request("the request body is not an object"));
    }
    Ok(body)
}

/// Decodes JSON.
pub(crate) fn json(bytes: &[u8]) -> Answer<Body> {
    let duplicates = RefCell::new(Vec::new());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Tracked { path: "", duplicates: &duplicates };
    let value = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    let value = value.map_err(|e| Status::bad_request(format!("error decoding the request body: {e}")))?;
    Ok(Body { value, duplicates: duplicates.into_inner() })
}

fn yaml(bytes: &[u8]) -> Answer<Body> {
    // kubectl and kube-rs send JSON under the YAML media type.
    if bytes.trim_ascii_start().starts_with(b"{")
        && let Ok(body) = json(bytes)
    {
        return Ok(body);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Status::bad_request(format!("the YAML body is not UTF-8: {e}")))?;
    let value =
        serde_saphyr::from_str(text).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
    Ok(Body { value, duplicates: Vec::new() })
}

struct Tracked<'a> {
    path: &'a str,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Tracked<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tracked<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // A whole number is one, however it was written: Go writes 1.0 as 1.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
            return Ok((value as i64).into());
        }
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match seq.next_element_seed(Tracked { path: &path, duplicates: self.duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            let value = map.next_value_seed(Tracked { path: &path, duplicates: self.duplicates })?;
            if fields.insert(key, value).is_some() {
                self.duplicates.borrow_mut().push(path);
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_noted_with_their_paths() {
        let body =
            object("application/json", br#"{"a": 1, "l": [{"x": 1, "x": 2}], "a": {"b": null}}"#).unwrap();
        assert_eq!(body.value, json!({"a": {"b": null}, "l": [{"x": 2}]}));
        assert_eq!(body.duplicates, ["l[0].x", "a"]);
    }

    #[test]
    fn yaml_and_json_are_both_taken_as_an_apply_patch() {
        let yaml = object("application/apply-patch+yaml", b"metadata:\n  name: x\n").unwrap();
        let json = object("application/apply-patch+yaml", br#"{"metadata": {"name": "x"}}"#).unwrap();
        assert_eq!(yaml, json);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(object("application/cbor", b"").unwrap_err().code, 415);
        assert_eq!(object("application/json", b"{").unwrap_err().code, 400);
        assert_eq!(object("application/json", b"[]").unwrap_err().code, 400);
        assert_eq!(object("application/json", b"{} x").unwrap_err().code, 400);
    }
}
