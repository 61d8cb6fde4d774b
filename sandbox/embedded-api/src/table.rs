//! How objects are shown: as they are, as rows of a Table, or as metadata only.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::{Resource, Version};
use crate::negotiate::Form;
use crate::status::{Answer, Status};
use crate::store::Stored;

/// What stands in a row beside its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Include {
    Nothing,
    Metadata,
    Object,
}

/// The representation that one client asked for.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) resource: Arc<Resource>,
    pub(crate) version: String,
    form: Form,
    include: Include,
}

impl View {
    pub(crate) fn new(
        resource: Arc<Resource>,
        version: &str,
        form: Form,
        include: Option<&str>,
    ) -> Answer<Self> {
        let include = match include {
            None | Some("Metadata") => Include::Metadata,
            Some("None") => Include::Nothing,
            Some("Object") => Include::Object,
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "includeObject: Unsupported value: {other:?}: supported values: \"None\", \"Metadata\", \"Object\""
                )));
            }
        };
        Ok(Self { resource, version: version.to_owned(), form, include })
    }

    fn version(&self) -> &Version {
        self.resource.version(&self.version).expect("the registry found this version for the path")
    }

    /// One object, or a Status, which is never turned into a row.
    pub(crate) fn object(&self, object: Value, now: Timestamp) -> Value {
        if object["kind"] == "Status" && object["apiVersion"] == "v1" {
            return object;
        }
        match self.form {
            Form::Plain => object,
            Form::Metadata => partial(&object),
            Form::Table => {
                let metadata = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                self.table(metadata, vec![self.row(&object, now)])
            }
        }
    }

    /// A stored object as it is sent: its own bytes, where nothing has to change.
    pub(crate) fn stored(&self, stored: &Stored, now: Timestamp) -> Bytes {
        if self.form == Form::Plain && self.resource.is_kept_as(&self.version) {
            return stored.bytes.clone();
        }
        encode(&self.object(self.converted(stored), now))
    }

    /// A list.
    pub(crate) fn list(&self, metadata: &Value, items: &[Arc<Stored>], now: Timestamp) -> Bytes {
        if self.form == Form::Table {
            let rows = items.iter().map(|s| self.row(&self.converted(s), now)).collect();
            return encode(&self.table(metadata.clone(), rows));
        }
        let (kind, api_version) = match self.form {
            Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            _ => (self.resource.list_kind.clone(), self.resource.api_version(&self.version)),
        };
        // Written piece by piece: the items are encoded already.
        let mut out = format!(
            "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
            json!(kind),
            json!(api_version)
        )
        .into_bytes();
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&self.stored(item, now));
        }
        out.extend_from_slice(b"]}");
        out.into()
    }

    /// A bookmark: no object, only how far the watch has come.
    pub(crate) fn bookmark(&self, revision: u64, initial_events_end: bool) -> Value {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.form {
            Form::Table => self.table(metadata, Vec::new()),
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Plain => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(&self.version), "metadata": metadata})
            }
        }
    }

    fn converted(&self, stored: &Stored) -> Value {
        let mut object = stored.decode();
        self.resource.show(&mut object, &self.version);
        object
    }

    fn table(&self, metadata: Value, rows: Vec<Value>) -> Value {
        let columns = self.version().columns.definitions();
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows})
    }

    fn row(&self, object: &Value, now: Timestamp) -> Value {
        let mut row = json!({"cells": self.resource.columns_of(&self.version, object, now)});
        match self.include {
            Include::Nothing => {}
            Include::Metadata => row["object"] = partial(object),
            Include::Object => row["object"] = object.clone(),
        }
        row
    }
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

pub(crate) fn encode(value: &Value) -> Bytes {
    serde_json::to_vec(value).expect("a JSON value always encodes").into()
}
