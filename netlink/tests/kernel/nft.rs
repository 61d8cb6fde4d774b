//! nftables through its program.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netlink::nft::{Nft, NftError};
use serde_json::{Value, json};

use crate::world::{in_new_netns, output};

fn table(chain: &str) -> Value {
    json!({"nftables": [
        {"add": {"table": {"family": "inet", "name": "ours"}}},
        {"delete": {"table": {"family": "inet", "name": "ours"}}},
        {"add": {"table": {"family": "inet", "name": "ours"}}},
        {"add": {"chain": {
            "family": "inet", "table": "ours", "name": chain,
            "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"
        }}},
    ]})
}

fn chains(listing: &Value) -> Vec<&str> {
    let objects = listing["nftables"].as_array().expect("a listing is an array");
    objects.iter().filter_map(|object| object["chain"]["name"].as_str()).collect()
}

#[test]
fn a_table_is_replaced_whole_or_not_at_all() {
    if output("nft", &["--version"]).is_none() {
        return skip::skip("there is no `nft` program");
    }
    in_new_netns(|| {
        let nft = Nft::default();
        assert_eq!(nft.list_table("inet", "ours").unwrap(), None);
        nft.apply(&table("first")).unwrap();
        nft.apply(&table("second")).unwrap();
        let listing = nft.list_table("inet", "ours").unwrap().unwrap();
        assert_eq!(chains(&listing), ["second"]);
        assert_eq!(chains(&nft.list_chains().unwrap()), ["second"]);

        let mut broken = table("third");
        let jump = json!({"add": {"rule": {
            "family": "inet", "table": "ours", "chain": "third", "expr": [{"jump": {"target": "nowhere"}}]
        }}});
        broken["nftables"].as_array_mut().unwrap().push(jump);
        let error = nft.apply(&broken).unwrap_err();
        let NftError::Refused { message, .. } = &error else { panic!("{error}") };
        assert!(message.contains("No such file or directory"), "{message}");
        assert_eq!(chains(&nft.list_ruleset().unwrap()), ["second"]);
    });
}

#[test]
fn a_missing_program_has_its_own_error() {
    let error = Nft::with_program("/nowhere/nft").list_ruleset().unwrap_err();
    assert!(matches!(&error, NftError::Missing { program } if program == Path::new("/nowhere/nft")));
    assert_eq!(error.to_string(), "cannot find `/nowhere/nft`: install nftables");
}

/// A program of our own. Another one writes it: what this process has open for writing, a child that another test starts at
/// the same moment has open too, and then the kernel runs it not (`ETXTBSY`).
fn script(directory: &Path, text: &str) -> Nft {
    let path = directory.join("nft");
    let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1"; chmod 755 "$1""#;
    let status = Command::new("sh").args(["-ec", write, "sh"]).arg(&path).arg(text).status().unwrap();
    assert!(status.success());
    Nft::with_program(path)
}

#[test]
fn a_program_that_hangs_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(100);
    for text in ["exec sleep 1000", "exec >&- 2>&-; exec sleep 1000"] {
        let error = script(directory.path(), text).with_timeout(limit).apply(&table("x")).unwrap_err();
        assert!(matches!(error, NftError::Timeout { waited } if waited == limit), "{error}");
    }
}

#[test]
fn what_is_not_json_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let error = script(directory.path(), "echo table inet ours").list_chains().unwrap_err();
    assert!(matches!(&error, NftError::Output { what, .. } if what == "list chains"), "{error}");
    let error = script(directory.path(), "echo broken >&2; exit 3").list_chains().unwrap_err();
    assert_eq!(error.to_string(), "nft list chains failed: broken");
}
