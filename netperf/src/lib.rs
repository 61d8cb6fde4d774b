//! Reachability, RTT, throughput and outage measurement between pods and nodes.
