//! Counters and gauges, in the OpenMetrics text format.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::hub::{FromClient, History, NodeOverview, Overview};

/// A summary of the node's state.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    pub nodes_reachable: usize,
    pub nodes_known: usize,
    pub clients: usize,
    pub people: usize,
    pub log_bytes: usize,
    pub taken_over_entries: u64,
    /// Nothing is lost if the node goes now.
    pub is_drained: bool,
    /// Those who can go on at another node have gone.
    pub is_vacated: bool,
}

/// Of which node a number is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabel {
    node: u16,
}

/// What one node counts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    messages_received: Counter<u64, AtomicU64>,
    messages_written: Counter<u64, AtomicU64>,
    bytes_written: Counter<u64, AtomicU64>,
    connections: Counter<u64, AtomicU64>,
    refused_connections: Counter<u64, AtomicU64>,
    protocol_errors: Counter<u64, AtomicU64>,
    refused_peers: Counter<u64, AtomicU64>,
    clients: Gauge<i64, AtomicI64>,
    people: Gauge<i64, AtomicI64>,
    nodes_reachable: Gauge<i64, AtomicI64>,
    nodes_known: Gauge<i64, AtomicI64>,
    log_bytes: Gauge<i64, AtomicI64>,
    entries_lacking: Family<NodeLabel, Gauge<i64, AtomicI64>>,
    oldest_lacking_seconds: Gauge<f64, AtomicU64>,
    damaged: Gauge<i64, AtomicI64>,
    diverging: Gauge<i64, AtomicI64>,
    taken_over: Counter<u64, AtomicU64>,
    histories_equal: Gauge<i64, AtomicI64>,
    store_writable: Gauge<i64, AtomicI64>,
    alarms: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("clique");
        let counter = |registry: &mut Registry, name: &str, help: &str| {
            let counter = Counter::<u64, AtomicU64>::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let gauge = |registry: &mut Registry, name: &str, help: &str| {
            let gauge = Gauge::<i64, AtomicI64>::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let entries_lacking = Family::default();
        registry.register(
            "entries_lacking",
            "Entries that a node lacks and another has, as this node sees it",
            entries_lacking.clone(),
        );
        let oldest_lacking_seconds = Gauge::<f64, AtomicU64>::default();
        registry.register(
            "oldest_lacking_seconds",
            "Age of the oldest entry that some node lacks; 0 if all have everything",
            oldest_lacking_seconds.clone(),
        );
        Self {
            messages_received: counter(&mut registry, "messages_received", "Messages received from clients"),
            messages_written: counter(
                &mut registry,
                "messages_written",
                "Direct and traced messages written to clients",
            ),
            bytes_written: counter(&mut registry, "client_bytes_written", "Bytes written to clients"),
            connections: counter(&mut registry, "connections", "Client connections accepted"),
            refused_connections: counter(&mut registry, "connections_refused", "Client connections over a limit"),
            protocol_errors: counter(&mut registry, "protocol_errors", "Client connections closed for what they sent"),
            refused_peers: counter(&mut registry, "peers_refused", "Links that did not prove the secret"),
            clients: gauge(&mut registry, "clients", "Client connections open"),
            people: gauge(&mut registry, "people", "People present in the clique, as this node sees it"),
            nodes_reachable: gauge(&mut registry, "nodes_reachable", "Nodes this node can reach, itself included"),
            nodes_known: gauge(&mut registry, "nodes_known", "Nodes of the clique, itself included"),
            log_bytes: gauge(&mut registry, "log_bytes", "Memory used by the log"),
            entries_lacking,
            oldest_lacking_seconds,
            damaged: gauge(&mut registry, "damaged_stretches", "Stretches of this node's log that cannot be read back"),
            diverging: gauge(
                &mut registry,
                "diverging_stretches",
                "Stretches on which this node's history contradicts another's",
            ),
            taken_over: counter(
                &mut registry,
                "entries_taken_over",
                "Entries that were replaced here, because a node with the better claim held others",
            ),
            histories_equal: gauge(
                &mut registry,
                "histories_equal",
                "1 if all nodes that this one reaches hold the same history",
            ),
            store_writable: gauge(&mut registry, "store_writable", "1 if messages can be accepted"),
            alarms: gauge(&mut registry, "alarms", "Things that are wrong, as clique status lists them"),
            registry,
        }
    }
}

impl Metrics {
    /// Counts what a client sent.
    pub fn count_input(&self, input: &FromClient) {
        if let FromClient::Submit(messages) = input {
            self.messages_received.inc_by(messages.len() as u64);
        }
    }

    pub fn count_written(&self, bytes: usize, marked_messages: usize) {
        self.bytes_written.inc_by(bytes as u64);
        self.messages_written.inc_by(marked_messages as u64);
    }

    pub fn count_connection(&self) {
        self.connections.inc();
    }

    pub fn count_refused_connection(&self) {
        self.refused_connections.inc();
    }

    pub fn count_protocol_error(&self) {
        self.protocol_errors.inc();
    }

    pub fn count_refused_peer(&self) {
        self.refused_peers.inc();
    }

    /// The text for a scraper. `None` if it cannot be written, which only a broken allocator could cause.
    #[must_use]
    pub fn render(&self, status: &Status, overview: &Overview) -> Option<String> {
        let size = |size: usize| i64::try_from(size).unwrap_or(i64::MAX);
        self.clients.set(size(status.clients));
        self.people.set(size(status.people));
        self.nodes_reachable.set(size(status.nodes_reachable));
        self.nodes_known.set(size(status.nodes_known));
        self.log_bytes.set(size(status.log_bytes));
        self.taken_over.inc_by(status.taken_over_entries.saturating_sub(self.taken_over.get()));
        self.set_overview(overview);
        let mut text = String::new();
        encode(&mut text, &self.registry).ok()?;
        Some(text)
    }

    fn set_overview(&self, overview: &Overview) {
        for node in &overview.nodes {
            let lacking = i64::try_from(node.lacks).unwrap_or(i64::MAX);
            self.entries_lacking.get_or_create(&NodeLabel { node: node.node }).set(lacking);
        }
        self.oldest_lacking_seconds.set(overview.oldest_lacking_ms.unwrap_or(0) as f64 / 1_000.0);
        let is_mine = |node: &&NodeOverview| node.node == overview.asked;
        if let Some(mine) = overview.nodes.iter().find(is_mine) {
            self.damaged.set(mine.damaged.into());
            self.diverging.set(mine.diverging.into());
            self.store_writable.set(mine.unwritable.is_empty().into());
        }
        self.histories_equal.set((overview.histories == History::Equal).into());
        self.alarms.set(i64::try_from(overview.alarms.len()).unwrap_or(i64::MAX));
    }
}
