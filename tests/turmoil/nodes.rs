//! Nodes: whole ones, as the program starts them, on hosts of the simulated network.

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::Duration,
};

use clique::{
    clique::Secret,
    node::{
        Limits, Node, NodeSettings, Status,
        store::{StoreSettings, Sync},
    },
    telemetry::Spans,
};
use tokio::{sync::Notify, time::sleep};
use turmoil::Sim;

use crate::{disk::SimDisk, faults::Fault, sockets::Sockets, world::SimWorld};

pub const CHAT_PORT: u16 = 4_000;
const PEER_PORT: u16 = 5_000;
const HTTP_PORT: u16 = 8_000;
/// Of each origin, what a start takes into memory.
const MAX_TAIL_BYTES: usize = 3_000;
/// How often a node's state is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub fn host(node: u16) -> String {
    format!("node{node}")
}

/// What is known of a node from outside while it runs.
#[derive(Clone)]
pub struct Handle {
    pub status: Rc<RefCell<Option<Status>>>,
    /// Asks it to stop in good order.
    pub stop: Rc<Notify>,
    pub sockets: Sockets,
    pub disk: SimDisk,
}

/// How a clique is told of itself.
#[derive(Debug, Clone, Copy)]
pub enum Topology {
    /// Everybody of everybody.
    Full,
    /// Everybody of the first.
    Star,
    /// Everybody of the next.
    Ring,
}

impl Topology {
    fn targets(self, index: u16, count: u16) -> Vec<String> {
        let targets: Vec<u16> = match self {
            Self::Full => (0..count).collect(),
            Self::Star => vec![0],
            Self::Ring => vec![(index + 1) % count],
        };
        targets
            .into_iter()
            .filter(|target| *target != index)
            .map(|target| format!("{}:{PEER_PORT}", host(target)))
            .collect()
    }
}

/// What all nodes of a run have in common.
#[derive(Debug, Clone, Copy)]
pub struct Common {
    pub seed: u64,
    pub count: u16,
    pub topology: Topology,
    pub max_client_output_bytes: usize,
    pub has_disks: bool,
    pub fault: Option<Fault>,
}

impl Common {
    fn settings(self, index: u16) -> NodeSettings {
        NodeSettings {
            listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            chat_port: CHAT_PORT,
            peer_port: PEER_PORT,
            http_port: HTTP_PORT,
            peers: self.topology.targets(index, self.count),
            expected_nodes: usize::from(self.count),
            advertise: format!("{}:{PEER_PORT}", host(index)),
            secret: Secret::new(Some("simulated".to_owned())),
            drain_ms: 2_000,
            // The model knows what is new only.
            history_shown: 0,
            store: self.has_disks.then(|| StoreSettings {
                directory: format!("node-{index}").into(),
                node: index,
                sync: Sync::Always,
                max_tail_bytes: MAX_TAIL_BYTES,
            }),
            limits: Limits { max_client_output_bytes: self.max_client_output_bytes, ..Limits::default() },
            ..NodeSettings::on_loopback(index)
        }
    }
}

/// Puts a node on a host of its own. Each start of the host is a new life of the node.
pub fn add(sim: &mut Sim<'_>, index: u16, common: Common) -> Handle {
    let seed = common.seed ^ u64::from(index);
    let (sockets, disk) = (Sockets::default(), SimDisk::new(!seed, common.fault));
    let world = SimWorld::new(seed, common.fault, sockets.clone(), disk.clone());
    let handle = Handle { status: Rc::default(), stop: Rc::default(), sockets, disk };
    let outside = handle.clone();
    sim.host(host(index), move || {
        outside.sockets.set_dying(false);
        let (settings, world, outside) = (common.settings(index), world.clone(), outside.clone());
        async move {
            let node = Node::start(settings, world, Spans::disabled()).await?;
            let look = async {
                loop {
                    *outside.status.borrow_mut() = node.status().await;
                    sleep(LOOK_EVERY).await;
                }
            };
            tokio::select! {
                biased;
                () = outside.stop.notified() => {}
                () = look => {}
            }
            node.stop().await;
            Ok(())
        }
    });
    handle
}
