//! Which nodes are linked at this moment, for the dialler.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// The nodes that have a link at this moment, each with how many (two for an instant when both have dialled).
#[derive(Debug, Clone)]
pub struct LinkedNodes(Arc<watch::Sender<BTreeMap<u16, usize>>>);

impl Default for LinkedNodes {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

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

    /// Waits for a link to open or end.
    pub async fn changed(&self) {
        // The sender lives as long as this.
        let _ = self.0.subscribe().changed().await;
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
