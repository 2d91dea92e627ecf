//! Which nodes are linked at this moment, for the dialler.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::watch;

/// The nodes that have a link at this moment, each with how many (two for an instant when both have dialled).
#[derive(Debug, Clone, Default)]
pub struct LinkedNodes(Arc<watch::Sender<BTreeMap<u16, usize>>>);

/// A node counts as linked as long as this lives.
#[must_use]
pub struct LinkedGuard(LinkedNodes, u16);

impl LinkedNodes {
    pub fn enter(&self, node: u16) -> LinkedGuard {
        self.0.send_modify(|nodes| *nodes.entry(node).or_default() += 1);
        LinkedGuard(self.clone(), node)
    }

    #[must_use]
    pub fn contains(&self, node: u16) -> bool {
        self.0.borrow().contains_key(&node)
    }

    /// Waits until a node is linked that is not now.
    pub async fn gained_one(&self) {
        let before: BTreeSet<u16> = self.0.borrow().keys().copied().collect();
        let is_gained = |linked: &BTreeMap<u16, usize>| linked.keys().any(|node| !before.contains(node));
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(is_gained).await;
    }

    /// Waits until one of these nodes is not linked any more.
    pub async fn lost_one(&self, nodes: &[u16]) {
        let is_lost = |linked: &BTreeMap<u16, usize>| !nodes.iter().all(|node| linked.contains_key(node));
        // The sender lives as long as this.
        let _ = self.0.subscribe().wait_for(is_lost).await;
    }
}

impl Drop for LinkedGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|nodes| {
            if let Some(count) = nodes.get_mut(&self.1) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&self.1);
                }
            }
        });
    }
}
