//! A clique whose links can be cut.

use std::path::Path;

use super::{cliques::Clique, frames::Frames, proxy::Proxy};

/// Nodes that reach each other through proxies only, one for each pair and direction.
pub struct Split {
    pub clique: Clique,
    proxies: Vec<(usize, usize, Proxy)>,
    /// By node: its peers, and where it keeps its log.
    settings: Vec<Vec<(&'static str, String)>>,
}

impl Split {
    /// Nodes that keep their logs in memory.
    pub fn of(count: usize) -> Self {
        Self::with(count, |_| Vec::new())
    }

    /// Nodes that keep their logs on disk, each in a directory of its own in this one.
    pub fn in_directory(count: usize, directory: &Path) -> Self {
        Self::with(count, |index| {
            vec![("CLIQUE_DATA", directory.join(format!("node-{index}")).to_string_lossy().into_owned())]
        })
    }

    fn with(count: usize, settings_of: impl Fn(usize) -> Vec<(&'static str, String)>) -> Self {
        let clique = Clique::new(count);
        let mut split = Self { clique, proxies: Vec::new(), settings: Vec::new() };
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                split.proxies.push((from, to, Proxy::to(split.clique.ports(to).grpc())));
            }
            let mine = split.proxies.iter().filter(|(dialer, ..)| *dialer == from);
            let peers: Vec<String> = mine.map(|(.., proxy)| proxy.address.to_string()).collect();
            let mut settings = settings_of(from);
            settings.push(("CLIQUE_PEERS", peers.join(",")));
            // Nobody listens there: what is learned from others leads nowhere.
            settings.push(("CLIQUE_ADVERTISE", "127.0.0.1:1".to_owned()));
            split.settings.push(settings);
        }
        (0..count).for_each(|index| split.start(index));
        split.clique.wait_whole();
        split
    }

    /// Starts a node, or starts it again where it was.
    pub fn start(&mut self, index: usize) {
        self.clique.start_with(index, &self.settings[index]);
    }

    fn between<'a>(&'a self, some: &'a [usize], others: &'a [usize]) -> impl Iterator<Item = &'a Proxy> {
        let crosses = |from: &usize, to: &usize| {
            some.contains(from) && others.contains(to) || others.contains(from) && some.contains(to)
        };
        self.proxies.iter().filter(move |(from, to, _)| crosses(from, to)).map(|(.., proxy)| proxy)
    }

    pub fn cut(&self, some: &[usize], others: &[usize]) {
        self.between(some, others).for_each(Proxy::cut);
    }

    /// As if the cable were pulled: connections stay open, and nothing comes through.
    pub fn hold(&self, some: &[usize], others: &[usize]) {
        self.between(some, others).for_each(Proxy::hold);
    }

    pub fn heal(&self) {
        self.proxies.iter().for_each(|(.., proxy)| proxy.heal());
    }

    pub fn frames(&self, index: usize, name: &str) -> Frames {
        self.clique.frames(index, name)
    }
}
