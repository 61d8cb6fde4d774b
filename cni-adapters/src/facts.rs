//! What an adapter found, and what stood in its way.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

/// The CIDRs of a cluster's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The adapter that read them, and why that one: `calico (auto: IPPools found)`.
    pub adapter: String,
    /// CIDRs of all pods: canonical, aggregated, ordered.
    pub pod_cidrs: Vec<IpNetwork>,
    /// CIDRs of the pods of each Node, likewise.
    pub per_node: BTreeMap<String, Vec<IpNetwork>>,
    /// The objects that the cluster's CIDRs were read from.
    pub source: String,
    /// What could not be read, in the order in which it was met.
    pub problems: Vec<Problem>,
}

impl Facts {
    /// The first problem that makes the facts as a whole unfit to replace older ones.
    pub fn stale(&self) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.is_about_the_source())
    }
}

/// Something that could not be read: which object, which field, which value, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A value is not what stands there in a valid object. What depends on it is left out, nothing else.
    #[error("{object}: {field} is {value:?}, which is not {expected}; correct it")]
    Invalid {
        /// Kind and name.
        object: String,
        /// Path of the field.
        field: String,
        /// Its text.
        value: String,
        /// What stands there in a valid object, with its article.
        expected: &'static str,
    },
    /// The object that holds the facts holds nonsense as a whole.
    #[error("{object}: {field} is {value:?}, which is not {expected}; correct it")]
    Unusable {
        /// Kind and name.
        object: String,
        /// Path of the field.
        field: String,
        /// Its text.
        value: String,
        /// What stands there in a valid object, with its article.
        expected: &'static str,
    },
    /// The objects that hold the facts are not there.
    #[error("{adapter}: no {object} in the member cluster; {remedy}")]
    Missing {
        /// The adapter in use.
        adapter: &'static str,
        /// What was looked for.
        object: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The objects that hold the facts cannot be read (any more).
    #[error("{object} cannot be read: {error}; what is known of it may be out of date")]
    Unreadable {
        /// What was looked for.
        object: String,
        /// The API's answer.
        error: String,
    },
    /// No adapter has that name.
    #[error("Cluster {cluster}: {field} is {value:?}; it must be one of {valid}", field = crate::CNI_FIELD)]
    UnknownCni {
        /// Name of the Cluster.
        cluster: String,
        /// The field's value.
        value: String,
        /// The names there are.
        valid: String,
    },
    /// The CNI hands out addresses in a way that no adapter knows.
    #[error("{object}: {field} is {value:?}, which is not supported; supported are {valid}")]
    Unsupported {
        /// Kind and name.
        object: String,
        /// Path of the field.
        field: String,
        /// Its value.
        value: String,
        /// The values that are supported.
        valid: &'static str,
    },
}

impl Problem {
    /// Whether it speaks of the source of all facts, not of one value in it.
    pub fn is_about_the_source(&self) -> bool {
        !matches!(self, Problem::Invalid { .. })
    }

    /// One CamelCase word for a condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Problem::Invalid { .. } | Problem::Unusable { .. } => "InvalidValue",
            Problem::Missing { .. } => "SourceMissing",
            Problem::Unreadable { .. } => "SourceUnreadable",
            Problem::UnknownCni { .. } => "UnknownCNI",
            Problem::Unsupported { .. } => "UnsupportedIPAM",
        }
    }
}
