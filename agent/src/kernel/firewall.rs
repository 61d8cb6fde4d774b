//! The packet filter: our table as a whole, and our accepts in the chains of others.

use std::collections::BTreeMap;

use agent_core::firewall::{
    ActualFirewall, ChainState, ForwardChain, Table, iptables_chain, nft_accept_rule, nft_chain,
    nft_forward_chains, nft_own_handles,
};
use agent_core::{Refusal, Step};
use api::Family;
use netlink::nft::{Nft, NftError};
use serde_json::{Value, json};

use super::iptables::{self, Program};

/// `nft` and the iptables programs.
#[derive(Debug, Default)]
pub(super) struct Filter {
    nft: Nft,
    /// Other versions of `nft` may list a table in other words than ours: what we wrote, and what it was listed as.
    listed_as: Option<(Table, Table)>,
}

impl Filter {
    pub(super) fn read(&mut self) -> ActualFirewall {
        let mut found = ActualFirewall::default();
        match self.table() {
            Ok(table) => found.table = table,
            Err(error) => {
                found.table_unreadable = true;
                found.absent = is_absent(&error);
                found.unreadable.push(explain(&error));
            }
        }
        if !found.table_unreadable
            && let Err(error) = self.nft_chains(&mut found)
        {
            found.unreadable.push(explain(&error));
        }
        let unreadable = found.unreadable.len();
        for family in Family::ALL {
            legacy_chains(family, &mut found);
        }
        // A chain of iptables that cannot be read may hold an accept of ours.
        found.absent &= found.unreadable.len() == unreadable;
        found
    }

    /// Whether nftables can be read here.
    pub(super) fn works(&self) -> bool {
        self.table().is_ok()
    }

    fn table(&self) -> Result<Option<Table>, NftError> {
        let listing = self.nft.list_table("inet", agent_core::firewall::TABLE_NAME)?;
        let table = listing.as_ref().map(Table::from_listing);
        Ok(match (table, &self.listed_as) {
            (Some(found), Some((written, listed))) if found == *listed => Some(written.clone()),
            (table, _) => table,
        })
    }

    fn nft_chains(&self, found: &mut ActualFirewall) -> Result<(), NftError> {
        let mut listings: BTreeMap<(String, String), Value> = BTreeMap::new();
        for chain in nft_forward_chains(&self.nft.list_chains()?) {
            let ForwardChain::Nft { family, table, chain: name } = &chain else { continue };
            if let Some((chain, state)) = iptables_nft_chain(family, table, name) {
                found.chains.insert(chain, state);
                continue;
            }
            let key = (family.clone(), table.clone());
            if !listings.contains_key(&key) {
                // Gone since the chains were listed: nothing to say about it.
                let Some(listing) = self.nft.list_table(family, table)? else { continue };
                listings.insert(key.clone(), listing);
            }
            found.chains.insert(chain.clone(), nft_chain(&listings[&key], name));
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::WriteTable(table) => self.write_table(table),
            Step::DeleteTable => self.nft.apply(&Table::deletion()).map_err(refusal),
            Step::InsertAccept(chain, mark) => self.insert_accept(chain, *mark),
            Step::DeleteAccept(chain) => self.delete_accept(chain),
            _ => Err(Refusal::without_errno("is not a step of the packet filter")),
        }
    }

    fn write_table(&mut self, table: &Table) -> Result<(), Refusal> {
        self.listed_as = None;
        let present = self.table().ok().flatten();
        let change = present.and_then(|present| table.change(&present));
        // Some kernels cannot empty and fill a set at once: then the table as a whole.
        if change.is_none_or(|change| self.nft.apply(&change).is_err()) {
            self.nft.apply(&table.replacement()).map_err(refusal)?;
        }
        // Where it has gone again already, or somebody was quicker with a rule, there is nothing to learn.
        if let Some(listed) = self.table().map_err(refusal)?
            && listed != *table
            && table.may_be_listed_as(&listed)
        {
            tracing::debug!("nft lists our table in other words than it was written in");
            self.listed_as = Some((table.clone(), listed));
        }
        Ok(())
    }

    fn insert_accept(&self, chain: &ForwardChain, mark: u32) -> Result<(), Refusal> {
        match chain {
            ForwardChain::Iptables { family, legacy, table } => {
                Program { family: *family, legacy: *legacy }.insert_accept(table, mark)
            }
            ForwardChain::Nft { family, table, chain } => {
                let mut commands =
                    vec![json!({"insert": {"rule": nft_accept_rule(family, table, chain, mark)}})];
                commands.extend(self.deletions(family, table, chain)?);
                self.nft.apply(&json!({"nftables": commands})).map_err(refusal)
            }
        }
    }

    fn delete_accept(&self, chain: &ForwardChain) -> Result<(), Refusal> {
        match chain {
            ForwardChain::Iptables { family, legacy, table } => {
                Program { family: *family, legacy: *legacy }.delete_accepts(table, None)
            }
            ForwardChain::Nft { family, table, chain } => {
                let commands = self.deletions(family, table, chain)?;
                self.nft.apply(&json!({"nftables": commands})).map_err(refusal)
            }
        }
    }

    fn deletions(&self, family: &str, table: &str, chain: &str) -> Result<Vec<Value>, Refusal> {
        let listing = self.nft.list_table(family, table).map_err(refusal)?.unwrap_or_default();
        let delete = |handle: u64| json!({"delete": {"rule": {"family": family, "table": table, "chain": chain, "handle": handle}}});
        Ok(nft_own_handles(&listing, chain).into_iter().map(delete).collect())
    }
}

/// The chain as iptables sees it, if it is iptables' and iptables can read it.
fn iptables_nft_chain(family: &str, table: &str, chain: &str) -> Option<(ForwardChain, ChainState)> {
    let family = match family {
        "ip" => Family::V4,
        "ip6" => Family::V6,
        _ => return None,
    };
    if chain != "FORWARD" || !iptables::TABLES.contains(&table) {
        return None;
    }
    let program = Program { family, legacy: false };
    match program.list(table) {
        Ok(listing) => {
            let key = ForwardChain::Iptables { family, legacy: false, table: table.to_owned() };
            Some((key, iptables_chain(&listing)?))
        }
        // Not installed, or a chain that only nft can read: nft serves as well.
        Err(error) => {
            tracing::debug!(program = program.name(), %error, "asking nft instead");
            None
        }
    }
}

/// Whether nothing of nftables can be here, as opposed to something that cannot be read just now.
fn is_absent(error: &NftError) -> bool {
    match error {
        NftError::Missing { .. } => true,
        NftError::Refused { message, .. } => message.contains("not supported"),
        _ => false,
    }
}

fn legacy_chains(family: Family, found: &mut ActualFirewall) {
    let program = Program { family, legacy: true };
    for table in iptables::legacy_tables(family) {
        let key = ForwardChain::Iptables { family, legacy: true, table: table.to_owned() };
        match program.list(table) {
            Ok(listing) => found.chains.extend(iptables_chain(&listing).map(|state| (key, state))),
            Err(refusal) => found.unreadable.push(format!("{key}: {refusal}")),
        }
    }
}

fn refusal(error: NftError) -> Refusal {
    Refusal::without_errno(explain(&error))
}

fn explain(error: &NftError) -> String {
    match error {
        NftError::Missing { .. } => {
            format!("{error}; without it there is no NAT, no filter and no MSS clamp, while routes are kept")
        }
        error @ NftError::Refused { .. } if is_absent(error) => {
            format!("this kernel has no nftables: {error}; load the module nf_tables")
        }
        _ => error.to_string(),
    }
}
