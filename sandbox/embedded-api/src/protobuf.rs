//! Kubernetes' protobuf, as far as `kubectl create configmap|namespace|secret|service|serviceaccount` sends it: its
//! typed clients prefer protobuf for bodies since 1.33, and do not fall back. Answers are always JSON.
//!
//! A body is the four bytes `k8s\0`, then a `runtime.Unknown` whose `raw` is the object. Field numbers are those of
//! `generated.proto` of each API group; a field that is not in the tables here is refused, never dropped.

use serde_json::{Map, Value, json};

use crate::status::{Answer, Status};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

enum Kind {
    Text,
    Number,
    Truth,
    Texts,
    TextMap,
    BytesMap,
    Message(&'static [Field]),
    Messages(&'static [Field]),
    IntOrString,
    /// What the server writes itself.
    Ignored,
}

struct Field(u64, &'static str, Kind);

const OWNER: &[Field] = &[
    Field(1, "kind", Kind::Text),
    Field(3, "name", Kind::Text),
    Field(4, "uid", Kind::Text),
    Field(5, "apiVersion", Kind::Text),
    Field(6, "controller", Kind::Truth),
    Field(7, "blockOwnerDeletion", Kind::Truth),
];
const META: &[Field] = &[
    Field(1, "name", Kind::Text),
    Field(2, "generateName", Kind::Text),
    Field(3, "namespace", Kind::Text),
    Field(4, "selfLink", Kind::Ignored),
    Field(5, "uid", Kind::Text),
    Field(6, "resourceVersion", Kind::Text),
    Field(7, "generation", Kind::Ignored),
    Field(8, "creationTimestamp", Kind::Ignored),
    Field(11, "labels", Kind::TextMap),
    Field(12, "annotations", Kind::TextMap),
    Field(13, "ownerReferences", Kind::Messages(OWNER)),
    Field(14, "finalizers", Kind::Texts),
];
const CONFIG_MAP: &[Field] = &[
    Field(1, "metadata", Kind::Message(META)),
    Field(2, "data", Kind::TextMap),
    Field(3, "binaryData", Kind::BytesMap),
    Field(4, "immutable", Kind::Truth),
];
const SECRET: &[Field] = &[
    Field(1, "metadata", Kind::Message(META)),
    Field(2, "data", Kind::BytesMap),
    Field(3, "type", Kind::Text),
    Field(4, "stringData", Kind::TextMap),
    Field(5, "immutable", Kind::Truth),
];
const NAMESPACE: &[Field] = &[
    Field(1, "metadata", Kind::Message(META)),
    Field(2, "spec", Kind::Ignored),
    Field(3, "status", Kind::Ignored),
];
const NAMED: &[Field] = &[Field(1, "name", Kind::Text)];
const SERVICE_ACCOUNT: &[Field] = &[
    Field(1, "metadata", Kind::Message(META)),
    Field(3, "imagePullSecrets", Kind::Messages(NAMED)),
    Field(4, "automountServiceAccountToken", Kind::Truth),
];
const PORT: &[Field] = &[
    Field(1, "name", Kind::Text),
    Field(2, "protocol", Kind::Text),
    Field(3, "port", Kind::Number),
    Field(4, "targetPort", Kind::IntOrString),
    Field(5, "nodePort", Kind::Number),
    Field(6, "appProtocol", Kind::Text),
];
const SERVICE_SPEC: &[Field] = &[
    Field(1, "ports", Kind::Messages(PORT)),
    Field(2, "selector", Kind::TextMap),
    Field(3, "clusterIP", Kind::Text),
    Field(4, "type", Kind::Text),
    Field(5, "externalIPs", Kind::Texts),
    Field(7, "sessionAffinity", Kind::Text),
    Field(8, "loadBalancerIP", Kind::Text),
    Field(9, "loadBalancerSourceRanges", Kind::Texts),
    Field(10, "externalName", Kind::Text),
    Field(11, "externalTrafficPolicy", Kind::Text),
    Field(12, "healthCheckNodePort", Kind::Number),
    Field(13, "publishNotReadyAddresses", Kind::Truth),
    Field(17, "ipFamilyPolicy", Kind::Text),
    Field(18, "clusterIPs", Kind::Texts),
    Field(19, "ipFamilies", Kind::Texts),
    Field(22, "internalTrafficPolicy", Kind::Text),
];
const SERVICE: &[Field] = &[
    Field(1, "metadata", Kind::Message(META)),
    Field(2, "spec", Kind::Message(SERVICE_SPEC)),
    Field(3, "status", Kind::Ignored),
];
const TYPE_META: &[Field] = &[Field(1, "apiVersion", Kind::Text), Field(2, "kind", Kind::Text)];

/// One field on the wire.
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Decodes an object of one of the kinds above.
pub(crate) fn object(body: &[u8]) -> Answer<Value> {
    let envelope = body.strip_prefix(MAGIC).ok_or_else(|| malformed("it does not begin with k8s\\0"))?;
    let (mut header, mut raw): (Value, &[u8]) = (json!({}), &[]);
    for (number, wire) in fields(envelope)? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => header = message(bytes, TYPE_META, "TypeMeta")?,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let kind = header["kind"].as_str().unwrap_or_default();
    let table = match (header["apiVersion"].as_str(), kind) {
        (Some("v1"), "ConfigMap") => CONFIG_MAP,
        (Some("v1"), "Secret") => SECRET,
        (Some("v1"), "Namespace") => NAMESPACE,
        (Some("v1"), "ServiceAccount") => SERVICE_ACCOUNT,
        (Some("v1"), "Service") => SERVICE,
        _ => return Err(Status::unsupported_media_type("application/json, application/yaml")),
    };
    let mut object = message(raw, table, kind)?;
    object["apiVersion"] = header["apiVersion"].clone();
    object["kind"] = header["kind"].clone();
    Ok(object)
}

fn malformed(why: &str) -> Status {
    Status::bad_request(format!("the protobuf body cannot be read: {why}"))
}

/// Go writes zero values too: what is empty is left out, as in JSON.
fn message(bytes: &[u8], table: &[Field], of: &str) -> Answer<Value> {
    let mut object = Map::new();
    for (number, wire) in fields(bytes)? {
        let Some(Field(_, name, kind)) = table.iter().find(|f| f.0 == number) else {
            return Err(malformed(&format!("field {number} of {of} is not known here; send JSON")));
        };
        let wrong = || malformed(&format!("field {name} of {of} has the wrong type"));
        match (kind, wire) {
            (Kind::Ignored, _) => {}
            (Kind::Text, Wire::Bytes(b)) if !b.is_empty() => {
                drop(object.insert((*name).to_owned(), json!(text(b)?)))
            }
            (Kind::Number, Wire::Varint(n)) if n > 0 => drop(object.insert((*name).to_owned(), json!(n))),
            (Kind::Truth, Wire::Varint(n)) if n > 0 => drop(object.insert((*name).to_owned(), json!(true))),
            (Kind::Text, Wire::Bytes(_)) | (Kind::Number | Kind::Truth, Wire::Varint(_)) => {}
            (Kind::Texts, Wire::Bytes(b)) => push(&mut object, name, json!(text(b)?)),
            (Kind::Messages(table), Wire::Bytes(b)) => push(&mut object, name, message(b, table, name)?),
            (Kind::Message(table), Wire::Bytes(b)) => {
                drop(object.insert((*name).to_owned(), message(b, table, name)?))
            }
            (Kind::IntOrString, Wire::Bytes(b)) => {
                if let Some(value) = int_or_string(b)? {
                    object.insert((*name).to_owned(), value);
                }
            }
            (Kind::TextMap, Wire::Bytes(b)) => {
                let (key, value) = entry(b)?;
                object.entry(*name).or_insert_with(|| json!({}))[key] = json!(text(value)?);
            }
            (Kind::BytesMap, Wire::Bytes(b)) => {
                use base64::Engine as _;
                let (key, value) = entry(b)?;
                let encoded = base64::engine::general_purpose::STANDARD.encode(value);
                object.entry(*name).or_insert_with(|| json!({}))[key] = json!(encoded);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(Value::Object(object))
}

fn push(object: &mut Map<String, Value>, name: &str, item: Value) {
    if let Value::Array(items) = object.entry(name).or_insert_with(|| json!([])) {
        items.push(item);
    }
}

fn text(bytes: &[u8]) -> Answer<&str> {
    std::str::from_utf8(bytes).map_err(|_| malformed("a string is not UTF-8"))
}

fn entry(bytes: &[u8]) -> Answer<(String, &[u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for (number, wire) in fields(bytes)? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => return Err(malformed("a map entry has a third field")),
        }
    }
    Ok((text(key)?.to_owned(), value))
}

/// `type` (0 for a number), `intVal`, `strVal`; the zero number stands for nothing.
fn int_or_string(bytes: &[u8]) -> Answer<Option<Value>> {
    let (mut is_text, mut number, mut word) = (false, 0, "");
    for (field, wire) in fields(bytes)? {
        match (field, wire) {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(n)) => number = n,
            (3, Wire::Bytes(bytes)) => word = text(bytes)?,
            _ => return Err(malformed("an int-or-string has an unknown field")),
        }
    }
    Ok(if is_text { Some(json!(word)) } else { (number > 0).then(|| json!(number)) })
}

/// The fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Answer<Vec<(u64, Wire<'_>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).unwrap_or(usize::MAX);
                let (content, rest) =
                    bytes.split_at_checked(length).ok_or_else(|| malformed("it ends too early"))?;
                bytes = rest;
                Wire::Bytes(content)
            }
            other => return Err(malformed(&format!("wire type {other} is not used by Kubernetes"))),
        };
        found.push((tag >> 3, wire));
    }
    Ok(found)
}

fn varint(bytes: &mut &[u8]) -> Answer<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(|| malformed("it ends too early"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(malformed("a number is longer than 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    fn body(kind: &str, raw: &[u8]) -> Vec<u8> {
        let header = [tagged(1, b"v1"), tagged(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), tagged(1, &header), tagged(2, raw)].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        // Go writes the empty namespace and the zero creation time as well.
        let meta = [tagged(1, b"m"), tagged(3, b""), tagged(8, b"")].concat();
        let raw =
            [tagged(1, &meta), tagged(2, &[tagged(1, b"k"), tagged(2, b"v")].concat()), vec![4 << 3, 1]]
                .concat();
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}, "immutable": true});
        assert_eq!(object(&body("ConfigMap", &raw)).unwrap(), expected);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert_eq!(object(&body("Pod", b"")).unwrap_err().code, 415);
        let error = object(&body("ConfigMap", &tagged(9, b"x"))).unwrap_err();
        assert!(error.message.contains("field 9 of ConfigMap"), "{}", error.message);
        assert_eq!(object(b"{}").unwrap_err().code, 400);
        assert_eq!(object(&[MAGIC, &[0x0a, 0x7f]].concat()).unwrap_err().code, 400);
    }
}
