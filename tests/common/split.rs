//! A clique whose links can be cut.

use super::{cliques::Clique, frames::Frames, proxy::Proxy};

/// Nodes that reach each other through proxies only, one for each pair and direction.
pub struct Split {
    pub clique: Clique,
    proxies: Vec<(usize, usize, Proxy)>,
}

impl Split {
    pub fn of(count: usize) -> Self {
        let mut clique = Clique::new(count);
        let mut proxies = Vec::new();
        for from in 0..count {
            let to: Vec<usize> = (0..count).filter(|to| *to != from).collect();
            proxies.extend(to.iter().map(|to| (from, *to, Proxy::to(clique.ports(*to).grpc()))));
        }
        for index in 0..count {
            let mine = proxies.iter().filter(|(from, ..)| *from == index);
            let peers: Vec<String> = mine.map(|(.., proxy)| proxy.address.to_string()).collect();
            // A single peer would count as a name for any number of nodes.
            let peers = peers.join(",");
            // Nobody listens there: what is learned from others leads nowhere.
            let nowhere = "127.0.0.1:1".to_owned();
            clique.start_with(index, &[("CLIQUE_PEERS", peers), ("CLIQUE_ADVERTISE", nowhere)]);
        }
        clique.wait_whole();
        Self { clique, proxies }
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
