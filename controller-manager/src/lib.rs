//! One per member: publishes its Cluster and ClusterNodes, chooses its gateways, mirrors its NodeConfigs down.
