//! Nodes as processes, each with its own ports, that make a clique.

use std::{net::SocketAddr, process::ExitStatus, time::Instant};

use nix::sys::signal::Signal;

use super::{
    eventually, extended::Extended, frames::Frames, lines::Lines, ports::Ports, process::Process, socket::Socket,
};

pub struct Clique {
    ports: Vec<Ports>,
    settings: Vec<(String, String)>,
    nodes: Vec<Option<Process>>,
}

impl Clique {
    /// Ports for so many nodes; none is started.
    pub fn new(count: usize) -> Self {
        let ports = (0..count).map(|_| Ports::claim()).collect();
        Self { ports, settings: Vec::new(), nodes: (0..count).map(|_| None).collect() }
    }

    /// So many nodes, started and whole.
    pub fn of(count: usize) -> Self {
        Self::new(count).started()
    }

    /// A setting for every node that is started from now on.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn started(mut self) -> Self {
        (0..self.ports.len()).for_each(|index| self.start(index));
        self.wait_whole();
        self
    }

    pub fn start(&mut self, index: usize) {
        self.start_with(index, &[]);
    }

    /// Starts a node with settings of its own, which go before those of all.
    pub fn start_with(&mut self, index: usize, settings: &[(&str, String)]) {
        self.spawn_with(index, settings);
        eventually(&format!("node {index} is ready"), || {
            let node = self.nodes[index].as_mut().unwrap();
            assert!(node.is_running(), "node {index} has ended: {}", node.err());
            self.ready(index)
        });
    }

    /// The same, and does not wait until it is ready.
    pub fn spawn_with(&mut self, index: usize, settings: &[(&str, String)]) {
        let ports: Vec<String> = self.ports.iter().map(|ports| ports.chat.to_string()).collect();
        let mut all =
            vec![("CLIQUE_PORTS".to_owned(), ports.join(",")), ("CLIQUE_INDEX".to_owned(), index.to_string())];
        all.extend(self.settings.iter().cloned());
        all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.nodes[index] = Some(Process::spawn(&format!("node {index}"), &["node"], &all));
    }

    pub fn node(&self, index: usize) -> &Process {
        self.nodes[index].as_ref().expect("the node runs")
    }

    /// The hard way: nothing is flushed, nobody is told.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].take().expect("the node runs").kill();
    }

    /// The way of service managers.
    pub fn terminate(&mut self, index: usize) -> ExitStatus {
        let mut node = self.nodes[index].take().expect("the node runs");
        node.signal(Signal::SIGTERM);
        node.wait()
    }

    /// Waits until the node ends by itself.
    pub fn wait(&mut self, index: usize) -> ExitStatus {
        self.nodes[index].take().expect("the node runs").wait()
    }

    /// Its connections stay open, but nobody is at the other end.
    pub fn pause(&self, index: usize) {
        self.node(index).signal(Signal::SIGSTOP);
    }

    pub fn resume(&self, index: usize) {
        self.node(index).signal(Signal::SIGCONT);
    }

    pub fn ports(&self, index: usize) -> &Ports {
        &self.ports[index]
    }

    pub fn chat(&self, index: usize) -> SocketAddr {
        self.ports[index].chat()
    }

    pub fn frames(&self, index: usize, name: &str) -> Frames {
        Frames::named(self.chat(index), name)
    }

    pub fn lines(&self, index: usize, name: &str) -> Lines {
        Lines::named(self.chat(index), name)
    }

    pub fn extended(&self, index: usize, name: &str) -> Extended {
        Extended::named(self.chat(index), name)
    }

    /// Waits until every node that runs knows of so many people: news of them takes a moment to get around.
    pub fn wait_people(&self, count: usize) {
        for index in (0..self.nodes.len()).filter(|index| self.nodes[*index].is_some()) {
            eventually(&format!("node {index} sees {count} people"), || {
                (self.metric(index, "clique_people") == Some(count)).then_some(())
            });
        }
    }

    /// A number that the node shows to scrapers.
    pub fn metric(&self, index: usize, name: &str) -> Option<usize> {
        let (_, text) = get(self.ports[index].http(), "/metrics")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// What the node says of itself; `None` if it does not answer, or is not ready.
    pub fn ready(&self, index: usize) -> Option<String> {
        let (status, body) = get(self.ports[index].http(), "/ready")?;
        status.contains(" 200 ").then_some(body)
    }

    /// Waits until a node sees this many of that many nodes.
    pub fn wait_for(&self, index: usize, reachable: usize, known: usize) {
        let wanted = format!("ready: {reachable} of {known} nodes\n");
        let mut last = None;
        eventually(&format!("node {index} says {wanted:?}"), || {
            last = self.ready(index);
            (last.as_ref() == Some(&wanted)).then_some(())
        });
    }

    /// Waits until every node that runs sees every node. Gives how long that took, in milliseconds.
    pub fn wait_whole(&self) -> u128 {
        let began = Instant::now();
        let running = self.nodes.iter().flatten().count();
        for index in (0..self.nodes.len()).filter(|index| self.nodes[*index].is_some()) {
            self.wait_for(index, running, self.nodes.len());
        }
        began.elapsed().as_millis()
    }
}

/// The status line and the body of an answer; `None` if nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut socket = Socket::try_connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.try_send(request.as_bytes()).ok()?;
    let answer = String::from_utf8(socket.rest()).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.lines().next()?.to_owned(), body.to_owned()))
}
