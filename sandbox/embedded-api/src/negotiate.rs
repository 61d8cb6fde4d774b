//! The `Accept` header: which representation a client wants.

use crate::status::{Answer, Status};

/// A representation of an object, or of a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    Plain,
    /// Rows for kubectl.
    Table,
    /// Only metadata.
    Metadata,
}

/// One media range of an `Accept` header.
struct Range<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or("");
        Self { media_type, parameters: parts.filter_map(|p| p.split_once('=')).collect() }
    }

    fn parameter(&self, key: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
    }

    fn is_json(&self) -> bool {
        matches!(self.media_type, "application/json" | "application/*" | "*/*")
    }
}

fn ranges(headers: &http::HeaderMap) -> Vec<Range<'_>> {
    let values = headers.get_all(http::header::ACCEPT).iter().filter_map(|h| h.to_str().ok());
    values.flat_map(|v| v.split(',')).map(Range::parse).filter(|r| !r.media_type.is_empty()).collect()
}

/// The first representation of the header that is served.
pub(crate) fn form(headers: &http::HeaderMap) -> Answer<Form> {
    let ranges = ranges(headers);
    if ranges.is_empty() {
        return Ok(Form::Plain);
    }
    let known = |range: &Range<'_>| match (
        range.is_json(),
        range.parameter("as"),
        range.parameter("g"),
        range.parameter("v"),
    ) {
        (true, None, _, _) => Some(Form::Plain),
        (true, Some("Table"), Some("meta.k8s.io"), Some("v1")) => Some(Form::Table),
        (
            true,
            Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
            Some("meta.k8s.io"),
            Some("v1"),
        ) => Some(Form::Metadata),
        _ => None,
    };
    ranges.iter().find_map(known).ok_or_else(|| Status::not_acceptable("application/json"))
}

/// Whether a client takes the aggregated discovery of version v2. Older kubectls know only v2beta1; they get the
/// legacy documents, which they understand as well.
pub(crate) fn aggregated_discovery(headers: &http::HeaderMap) -> bool {
    let v2 = |r: &Range<'_>| {
        r.is_json()
            && r.parameter("as") == Some("APIGroupDiscoveryList")
            && r.parameter("g") == Some("apidiscovery.k8s.io")
            && r.parameter("v") == Some("v2")
    };
    ranges(headers).iter().any(v2)
}

/// Whether a client takes JSON at all.
pub(crate) fn accepts_json(headers: &http::HeaderMap) -> bool {
    let ranges = ranges(headers);
    ranges.is_empty() || ranges.iter().any(Range::is_json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &str) -> http::HeaderMap {
        [(http::header::ACCEPT, text.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn the_first_known_form_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(form(&accept(table)).unwrap(), Form::Table);
        assert_eq!(
            form(&accept("application/vnd.kubernetes.protobuf,application/json")).unwrap(),
            Form::Plain
        );
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(form(&accept(metadata)).unwrap(), Form::Metadata);
        assert_eq!(form(&accept("application/vnd.kubernetes.protobuf")).unwrap_err().code, 406);
        assert_eq!(form(&http::HeaderMap::new()).unwrap(), Form::Plain);
    }

    #[test]
    fn only_v2_gets_aggregated_discovery() {
        let ask = |v: &str| {
            accept(&format!(
                "application/json;g=apidiscovery.k8s.io;v={v};as=APIGroupDiscoveryList,application/json"
            ))
        };
        assert!(aggregated_discovery(&ask("v2")));
        assert!(!aggregated_discovery(&ask("v2beta1")));
    }
}
