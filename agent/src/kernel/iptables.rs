//! Chain FORWARD of iptables, through the programs of the backend that really holds it.

use std::error::Error;
use std::fs;
use std::io;

use agent_core::Refusal;
use agent_core::firewall::{COMMENT, iptables_position};
use api::Family;
use iptables::IPTables;

/// Tables of iptables that have a chain FORWARD.
pub(super) const TABLES: [&str; 3] = ["filter", "mangle", "security"];

/// Seconds to wait for whoever holds the lock of iptables, not for ever: everything else waits behind it.
const LOCK_TIMEOUT: &str = "5";

/// One of the four programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) family: Family,
    pub(super) legacy: bool,
}

impl Program {
    pub(super) fn name(self) -> &'static str {
        match (self.family, self.legacy) {
            (Family::V4, false) => "iptables-nft",
            (Family::V6, false) => "ip6tables-nft",
            (Family::V4, true) => "iptables-legacy",
            (Family::V6, true) => "ip6tables-legacy",
        }
    }

    /// What `-S` prints of a table that exists. To ask for another one would create it.
    pub(super) fn list(self, table: &str) -> Result<String, Refusal> {
        self.run(table, &["-S"])
    }

    /// Puts our accept in its place, then takes away what else of ours stands in the chain.
    pub(super) fn insert_accept(self, table: &str, mark: u32) -> Result<(), Refusal> {
        let position = iptables_position(&self.list(table)?);
        let (place, mark) = (position.to_string(), format!("{mark:#x}/{mark:#x}"));
        let condition = ["-m", "mark", "--mark", &mark, "-m", "comment", "--comment", COMMENT];
        self.run(table, &[&["-I", "FORWARD", &place][..], &condition, &["-j", "ACCEPT"]].concat())?;
        self.delete_accepts(table, Some(position))
    }

    /// Deletes the rules with our comment, except the one at this place.
    pub(super) fn delete_accepts(self, table: &str, except: Option<i32>) -> Result<(), Refusal> {
        let listing = self.list(table)?;
        let rules = listing.lines().filter(|line| line.starts_with("-A FORWARD "));
        let ours: Vec<i32> = (1..)
            .zip(rules)
            .filter(|(number, rule)| is_ours(rule) && Some(*number) != except)
            .map(|(number, _)| number)
            .collect();
        // From the end, so that the numbers of the others hold.
        for number in ours.into_iter().rev() {
            self.run(table, &["-D", "FORWARD", &number.to_string()])?;
        }
        Ok(())
    }

    fn run(self, table: &str, command: &[&str]) -> Result<String, Refusal> {
        let command = command.join(" ");
        // The crate's own `--wait` has no end, so ours stands among the arguments.
        let tables = IPTables { cmd: self.name(), has_check: true, has_wait: false, is_numeric: true };
        let output = tables
            .execute(table, &format!("-w {LOCK_TIMEOUT} {command}"))
            .map_err(|error| self.failed(error.as_ref()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Refusal::without_errno(format!("{} -t {table} {command} failed: {words}", self.name())))
    }

    fn failed(self, error: &(dyn Error + 'static)) -> Refusal {
        let missing =
            error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound);
        let message = if missing {
            format!(
                "cannot find `{}`: install iptables, or accept mark packets in that chain yourself",
                self.name()
            )
        } else {
            format!("cannot run `{}`: {error}", self.name())
        };
        Refusal::without_errno(message)
    }
}

fn is_ours(rule: &str) -> bool {
    let mut words = rule.split_whitespace().skip_while(|word| *word != "--comment");
    words.next();
    words.next().is_some_and(|comment| comment.trim_matches('"') == COMMENT)
}

/// The tables that the legacy interface holds in this thread's namespace, of those with a chain FORWARD.
pub(super) fn legacy_tables(family: Family) -> Vec<&'static str> {
    let file = match family {
        Family::V4 => "/proc/thread-self/net/ip_tables_names",
        Family::V6 => "/proc/thread-self/net/ip6_tables_names",
    };
    // Without the module there is no file, and no table.
    let names = fs::read_to_string(file).unwrap_or_default();
    TABLES.into_iter().filter(|table| names.lines().any(|name| name == *table)).collect()
}
