//! Events in their two forms: core `v1`, as they are stored, and `events.k8s.io/v1`, as new recorders write them.

use serde_json::Value;

/// The fields with two names: core's, and that of `events.k8s.io`.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

pub(crate) fn to_core(event: &mut Value) {
    RENAMED.iter().for_each(|(core, new)| rename(event, new, core));
}

pub(crate) fn from_core(event: &mut Value) {
    RENAMED.iter().for_each(|(core, new)| rename(event, core, new));
}

fn rename(event: &mut Value, from: &str, to: &str) {
    if let Some(map) = event.as_object_mut()
        && let Some(value) = map.remove(from)
    {
        map.insert(to.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_goes_there_and_back() {
        let new = json!({"regarding": {"name": "a"}, "note": "n", "reportingController": "c", "deprecatedCount": 2, "reason": "R"});
        let mut event = new.clone();
        to_core(&mut event);
        assert_eq!(
            event,
            json!({"involvedObject": {"name": "a"}, "message": "n", "reportingComponent": "c", "count": 2, "reason": "R"})
        );
        from_core(&mut event);
        assert_eq!(event, new);
    }
}
