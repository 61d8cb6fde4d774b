//! The paths that are no resources: health, version, discovery, OpenAPI.

use std::sync::Arc;

use http::HeaderMap;

use crate::discovery;
use crate::negotiate;
use crate::openapi;
use crate::request::{RequestInfo, Verb};
use crate::response::{self, Response};
use crate::server::Shared;
use crate::status::{Answer, Status};
use crate::table::encode;

/// What may be asked without a token, as in kube-apiserver.
pub(crate) fn is_public(path: &str) -> bool {
    path == "/version" || is_health(path)
}

fn is_health(path: &str) -> bool {
    ["/healthz", "/livez", "/readyz"]
        .iter()
        .any(|p| path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

pub(crate) fn answer(shared: &Arc<Shared>, info: &RequestInfo, headers: &HeaderMap) -> Answer<Response> {
    if !matches!(info.verb, Verb::Get | Verb::List | Verb::Watch) {
        return Err(Status::method_not_allowed());
    }
    let path = info.path.trim_end_matches('/');
    if is_health(path) {
        return Ok(response::text("ok"));
    }
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    // kubectl asks for OpenAPI v2 as protobuf when v3 does not answer; 406 makes it go on without.
    if let ["openapi", "v2"] = segments.as_slice() {
        return Err(Status::not_acceptable("none: /openapi/v2 is not served, /openapi/v3 is"));
    }
    if !negotiate::accepts_json(headers) {
        return Err(Status::not_acceptable("application/json"));
    }
    let mut state = shared.lock();
    if let ["openapi", "v3"] = segments.as_slice() {
        return Ok(response::json(200, encode(&state.open_api_index())));
    }
    let registry = &state.registry;
    let value = match segments.as_slice() {
        ["version"] => discovery::version(shared.config.minor_version),
        ["api" | "apis"] if negotiate::aggregated_discovery(headers) => {
            let value = discovery::aggregated(registry, segments[0] == "api");
            return Ok(response::document(discovery::AGGREGATED, encode(&value)));
        }
        ["api"] => discovery::core_versions(),
        ["apis"] => discovery::group_list(registry),
        ["api", version] => discovery::resources(registry, "", version)?,
        ["apis", group] => discovery::group(registry, group)?,
        ["apis", group, version] => discovery::resources(registry, group, version)?,
        ["openapi", "v3", "api", version] => openapi::document(registry, "", version)?,
        ["openapi", "v3", "apis", group, version] => openapi::document(registry, group, version)?,
        [] => {
            serde_json::json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]})
        }
        ["metrics" | "logs" | "debug" | "swagger-2.0.0.pb-v1", ..] => {
            return Err(Status::not_implemented(&format!("the path {path}")));
        }
        _ => return Err(Status::no_such_resource()),
    };
    Ok(response::json(200, encode(&value)))
}
