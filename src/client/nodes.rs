//! Which node to connect to, and which one next.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::{task::JoinSet, time::timeout};

use super::{SettingsError, connection::Connection};

/// Within this time a node must have taken the connection.
pub const CONNECT_TIMEOUT_MS: u64 = 1_500;
/// Within this time a node must have answered an echo to count as near.
const ECHO_TIMEOUT_MS: u64 = 1_000;
/// Most addresses that are remembered from what nodes tell.
const MAX_LEARNED: usize = 64;

/// The node somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeChoice {
    /// Its place in the list of nodes.
    Index(usize),
    /// Its `host:port`, in the list or not.
    Address(String),
}

impl std::str::FromStr for NodeChoice {
    type Err = SettingsError;
    fn from_str(written: &str) -> Result<Self, SettingsError> {
        if let Ok(index) = written.parse() {
            return Ok(Self::Index(index));
        }
        check_address(written)?;
        Ok(Self::Address(written.to_owned()))
    }
}

impl NodeChoice {
    /// The address that is meant.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn address(&self, nodes: &[String]) -> Result<String, SettingsError> {
        match self {
            Self::Index(index) => nodes
                .get(*index)
                .cloned()
                .ok_or(SettingsError::Index { index: *index, last: nodes.len().saturating_sub(1) }),
            Self::Address(address) => Ok(address.clone()),
        }
    }
}

/// # Errors
/// If it is not `host:port`.
pub fn check_address(address: &str) -> Result<(), SettingsError> {
    let legal = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if legal { Ok(()) } else { Err(SettingsError::Address(address.to_owned())) }
}

/// All known nodes, and the one that comes first.
#[derive(Debug)]
pub struct Nodes {
    configured: Vec<String>,
    learned: Vec<String>,
    current: String,
}

impl Nodes {
    /// Begins with `first`, which need not be in the list.
    pub fn new(configured: Vec<String>, first: String) -> Self {
        Self { configured, learned: Vec::new(), current: first }
    }

    /// Every address once: the current one, those that follow it in the list, round to its beginning, then those that
    /// nodes told of. The latter come last because they may be names of another network, such as a container's.
    pub fn round(&self) -> Vec<String> {
        let at = self.configured.iter().position(|address| *address == self.current);
        let (before, from) = self.configured.split_at(at.unwrap_or(0));
        let mut round = vec![self.current.clone()];
        for address in from.iter().chain(before).chain(&self.learned) {
            if !round.contains(address) {
                round.push(address.clone());
            }
        }
        round
    }

    /// The same, but the one that was just lost comes last.
    pub fn round_after_loss(&self) -> Vec<String> {
        let mut round = self.round();
        round.rotate_left(1);
        round
    }

    pub fn settle_at(&mut self, address: &str) {
        address.clone_into(&mut self.current);
    }

    /// A node told of another.
    pub fn learn(&mut self, address: &str) {
        let known = |list: &[String]| list.iter().any(|known| known == address);
        if check_address(address).is_ok()
            && !known(&self.configured)
            && !known(&self.learned)
            && self.learned.len() < MAX_LEARNED
        {
            self.learned.push(address.to_owned());
        }
    }
}

/// Pauses between rounds of attempts: from 50 ms to 2 s, each with up to as much again, for ever.
pub fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .without_max_times()
        .build()
}

/// The node that answers an echo first, with the time it took; `None` if none does.
pub async fn nearest(nodes: &[String]) -> Option<(usize, Duration)> {
    let mut probes = JoinSet::new();
    for (index, address) in nodes.iter().cloned().enumerate() {
        probes.spawn(async move {
            let limit = Duration::from_millis(ECHO_TIMEOUT_MS);
            let echo = timeout(limit, async { Connection::open(&address).await?.round_trip().await }).await;
            echo.ok()?.ok().map(|took| (took, index))
        });
    }
    let answers = probes.join_all().await;
    answers.into_iter().flatten().min().map(|(took, index)| (index, took))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ports: &[u16]) -> Vec<String> {
        ports.iter().map(|port| format!("h:{port}")).collect()
    }

    #[test]
    fn a_choice_is_an_index_or_an_address() {
        let nodes = list(&[1, 2]);
        let address = |written: &str| written.parse::<NodeChoice>().and_then(|choice| choice.address(&nodes));
        assert_eq!(address("1"), Ok("h:2".to_owned()));
        assert_eq!(address("far:9"), Ok("far:9".to_owned()));
        assert_eq!(address("2"), Err(SettingsError::Index { index: 2, last: 1 }));
        for wrong in ["far", ":9", "far:", "far:0", "far:99999"] {
            assert_eq!(address(wrong), Err(SettingsError::Address(wrong.to_owned())));
        }
    }

    #[test]
    fn a_round_begins_where_one_is_and_ends_with_what_was_learned() {
        let mut nodes = Nodes::new(list(&[1, 2, 3]), "h:2".to_owned());
        nodes.learn("h:1");
        nodes.learn("other:4");
        nodes.learn("no address");
        assert_eq!(nodes.round(), ["h:2", "h:3", "h:1", "other:4"]);
        assert_eq!(nodes.round_after_loss(), ["h:3", "h:1", "other:4", "h:2"]);
        nodes.settle_at("other:4");
        assert_eq!(nodes.round(), ["other:4", "h:1", "h:2", "h:3"]);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_never_end() {
        let pauses: Vec<Duration> = pauses().take(200).collect();
        assert_eq!(pauses.len(), 200);
        assert!(pauses[0] <= Duration::from_millis(100), "{:?}", pauses[0]);
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(4)));
    }
}
