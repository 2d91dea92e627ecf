//! A whole clique in one process, for trying it out.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    config::UpConfig,
    node::{Node, StartError, world::RealWorld},
    telemetry::{ServiceName, Spans, TelemetryError},
};

/// Why the clique could not start.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    #[error("node {index}: {error}")]
    Node { index: u16, error: StartError },
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// Nodes that run in this process.
#[derive(Debug)]
pub struct Up {
    nodes: Vec<Node>,
    /// Where the nodes' data directories are; none without a disk.
    data: Option<PathBuf>,
}

impl Up {
    /// Starts all nodes. If one cannot start, those that did are stopped.
    ///
    /// # Errors
    /// Why the first that could not start did not.
    pub async fn start(config: UpConfig) -> Result<Self, UpError> {
        let stores = config.nodes.iter().filter_map(|settings| settings.store.as_ref());
        let data = stores.filter_map(|store| store.directory.parent()).next().map(Path::to_owned);
        let mut up = Self { nodes: Vec::new(), data };
        for settings in config.nodes {
            let index = settings.index;
            let name = format!("clique-node-{index}");
            let spans = Spans::new(&config.trace, ServiceName::Fixed(&name), &name)?;
            match Node::start(settings, RealWorld, spans).await {
                Ok(node) => up.nodes.push(node),
                Err(error) => {
                    up.stop().await;
                    return Err(UpError::Node { index, error });
                }
            }
        }
        Ok(up)
    }

    /// Where to connect, and an example to type.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text =
            format!("A clique of {} nodes is up.\n\n  node  chat             health and metrics\n", self.nodes.len());
        for node in &self.nodes {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {:<4}  {:<15}  http://{}", node.index(), node.chat_address, node.http_address);
        }
        if let (Some(first), Some(last)) = (self.nodes.first(), self.nodes.last()) {
            let _ = write!(
                text,
                "\nTalk from two other terminals:\n\n  \
                 cargo run --release -- client --node 0 --name alice\n  \
                 nc {} {}        (then type: bob, and: alice hello)\n\n\
                 {} is any of the nodes; everybody hears \"* hello\". {}\n\
                 Ctrl-C stops the clique.\n",
                last.chat_address.ip(),
                last.chat_address.port(),
                first.chat_address,
                self.kept(),
            );
        }
        text
    }

    /// What becomes of what is said when the clique stops.
    fn kept(&self) -> String {
        match &self.data {
            Some(directory) => format!("What is said is kept in {}.", directory.display()),
            None => "What is said is forgotten at the end.".to_owned(),
        }
    }

    /// Stops all nodes in good order, at the same time.
    pub async fn stop(self) {
        let stops: Vec<_> = self.nodes.into_iter().map(|node| tokio::spawn(node.stop())).collect();
        for stop in stops {
            // A node that failed while stopping has said so itself.
            let _ = stop.await;
        }
    }
}
