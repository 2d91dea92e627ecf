//! Settings of the log: where it is on the disk, how careful, for how long, and how much of it is in memory.

use std::{path::PathBuf, time::Duration};

use super::{ConfigError, Raw, range};
use crate::{
    clique::Keep,
    node::store::{StoreSettings, Sync},
};

/// Instead of a directory: no store.
const MEMORY: &str = ":memory:";
const DEFAULT_DIRECTORY: &str = "./clique-data";
/// Memory for the log, in MiB: with a store only a cache of the latest entries, without one all there is.
const LOG_MIB_WITH_STORE: u64 = 64;
const LOG_MIB_IN_MEMORY: u64 = 256;
const MS_PER_DAY: u64 = 24 * 60 * 60 * 1_000;

/// Where a process keeps the logs of its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `CLIQUE_DATA` is the one node's own directory.
    OneNode,
    /// `CLIQUE_DATA` has a directory for each node.
    ManyNodes,
}

/// What concerns the log.
pub(super) struct Storage {
    pub store: Option<StoreSettings>,
    pub max_log_bytes: usize,
    pub keep: Keep,
}

pub(super) fn storage(raw: &Raw, place: Place, node: u16) -> Result<Storage, ConfigError> {
    let of_node = |base: PathBuf| base.join(format!("node-{node}"));
    let directory = match (raw.data.as_deref().map(str::trim), place) {
        (Some(MEMORY), _) => None,
        (None | Some(""), _) => Some(of_node(DEFAULT_DIRECTORY.into())),
        (Some(directory), Place::OneNode) => Some(directory.into()),
        (Some(directory), Place::ManyNodes) => Some(of_node(directory.into())),
    };
    let default_mib = if directory.is_some() { LOG_MIB_WITH_STORE } else { LOG_MIB_IN_MEMORY };
    let log_mib = range("CLIQUE_LOG_MIB", raw.log_mib.unwrap_or(default_mib), 1, 1 << 20)?;
    let max_log_bytes = usize::try_from(log_mib).unwrap_or(usize::MAX >> 20) << 20;
    let sync = sync(&raw.sync)?;
    Ok(Storage {
        store: directory.map(|directory| StoreSettings { directory, node, sync, max_tail_bytes: max_log_bytes }),
        max_log_bytes,
        keep: Keep {
            max_age_ms: range("CLIQUE_KEEP_DAYS", raw.keep_days, 0, 36_500)? * MS_PER_DAY,
            max_bytes: range("CLIQUE_KEEP_MIB", raw.keep_mib, 0, 1 << 30)? << 20,
        },
    })
}

fn sync(written: &str) -> Result<Sync, ConfigError> {
    let unknown = || ConfigError::Sync(written.to_owned());
    match written.trim() {
        "always" => Ok(Sync::Always),
        "never" => Ok(Sync::Never),
        other => {
            let ms = other.strip_prefix("interval:").and_then(|ms| ms.trim().parse().ok()).ok_or_else(unknown)?;
            Ok(Sync::Interval(Duration::from_millis(range("CLIQUE_SYNC, in ms,", ms, 1, 3_600_000)?)))
        }
    }
}
