//! From whom to get what: anti-entropy over the links.
//!
//! A node asks for each origin on one link at a time: on the link to the origin's own node when there is one (it sends
//! its entries the moment it accepts them), else on a link whose peer says that it has more. So a cut between two nodes
//! only is bridged by a third, and nothing is sent twice.

use std::collections::BTreeMap;

use super::{Held, LinkId, Origin, Stretch, chain::Hash};

/// Ask on this link, or stop asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    From { link: LinkId, origin: Origin, number: u64 },
    Stop { link: LinkId, origin: Origin },
}

#[derive(Debug)]
struct Peer {
    origin: Origin,
    held: BTreeMap<Origin, (u64, u64)>,
    /// Before which nothing is kept any more, where that is not 1, and the running hash there.
    floors: BTreeMap<Origin, (u64, Hash)>,
    /// The running hash that was last said, and up to which entry it goes.
    hashes: BTreeMap<Origin, (u64, Hash)>,
}

/// What each linked peer holds, and on which link each origin is asked for.
#[derive(Debug, Default)]
pub struct Sources {
    peers: BTreeMap<LinkId, Peer>,
    asked: BTreeMap<Origin, LinkId>,
}

impl Sources {
    pub fn link_up(&mut self, link: LinkId, origin: Origin, held: &[Held]) {
        let peer = Peer { origin, held: BTreeMap::new(), floors: BTreeMap::new(), hashes: BTreeMap::new() };
        self.peers.insert(link, peer);
        self.peer_holds(link, held);
    }

    pub fn link_down(&mut self, link: LinkId) {
        self.peers.remove(&link);
        self.asked.retain(|_, asked| *asked != link);
    }

    pub fn peer_holds(&mut self, link: LinkId, held: &[Held]) {
        if let Some(peer) = self.peers.get_mut(&link) {
            peer.held.extend(held.iter().map(|held| (held.origin, (held.first, held.height))));
            peer.hashes.extend(held.iter().map(|held| (held.origin, (held.hashed_to, held.hash))));
            let floors = held.iter().filter(|held| held.floor > 1);
            peer.floors.extend(floors.map(|held| (held.origin, (held.floor, held.floor_hash))));
        }
    }

    /// What the peer of a link holds of an origin: its height, 0 if unknown.
    #[must_use]
    pub fn peer_height(&self, link: LinkId, origin: Origin) -> u64 {
        self.peers.get(&link).and_then(|peer| peer.held.get(&origin)).map_or(0, |(_, height)| *height)
    }

    /// The first entry of an origin that the peer of a link still has; 1 if it has not said otherwise.
    #[must_use]
    pub fn peer_first(&self, link: LinkId, origin: Origin) -> u64 {
        self.peers.get(&link).and_then(|peer| peer.held.get(&origin)).map_or(1, |(first, _)| *first)
    }

    /// The running hash of an origin that the peer of a link said last, and up to which entry it goes.
    #[must_use]
    pub fn peer_hash(&self, link: LinkId, origin: Origin) -> Option<(u64, Hash)> {
        self.peers.get(&link)?.hashes.get(&origin).copied()
    }

    /// The highest floor that a linked peer has of each origin, with the running hash before it.
    #[must_use]
    pub fn floors(&self) -> BTreeMap<Origin, (u64, Hash)> {
        let mut highest = BTreeMap::new();
        for (origin, floor) in self.peers.values().flat_map(|peer| &peer.floors) {
            let known = highest.entry(*origin).or_insert(*floor);
            *known = (*known).max(*floor);
        }
        highest
    }

    /// The running hash before a floor that some linked peer has.
    #[must_use]
    pub fn floor_hash(&self, origin: Origin, floor: u64) -> Option<Hash> {
        let floors = self.peers.values().filter_map(|peer| peer.floors.get(&origin));
        floors.copied().find(|(theirs, _)| *theirs == floor).map(|(_, hash)| hash)
    }

    /// The floor of an origin that the peer of a link has said, where it is not 1, and the running hash before it.
    #[must_use]
    pub fn peer_floor(&self, link: LinkId, origin: Origin) -> Option<(u64, Hash)> {
        self.peers.get(&link)?.floors.get(&origin).copied()
    }

    /// The latest link to a node.
    #[must_use]
    pub fn link_to(&self, node: u16) -> Option<LinkId> {
        self.peers.iter().rev().find(|(_, peer)| peer.origin.node == node).map(|(link, _)| *link)
    }

    /// What the nodes of all links have said last of an origin's running hash: the node, up to which entry, the hash.
    #[must_use]
    pub fn hashes_of(&self, origin: Origin) -> Vec<(u16, u64, Hash)> {
        let hashes = self.peers.values().filter_map(|peer| Some((peer.origin.node, *peer.hashes.get(&origin)?)));
        hashes.filter(|(_, (to, _))| *to > 0).map(|(node, (to, hash))| (node, to, hash)).collect()
    }

    /// The links whose peers hold all of a stretch.
    #[must_use]
    pub fn holders(&self, stretch: Stretch) -> Vec<LinkId> {
        let holds = |peer: &Peer| {
            let held = peer.held.get(&stretch.origin);
            held.is_some_and(|(first, height)| *first <= stretch.first && stretch.last <= *height)
        };
        self.peers.iter().filter(|(_, peer)| holds(peer)).map(|(link, _)| *link).collect()
    }

    /// The node of a link.
    #[must_use]
    pub fn node(&self, link: LinkId) -> Option<u16> {
        self.peers.get(&link).map(|peer| peer.origin.node)
    }

    /// All that the peer of a link holds, as far as it has said.
    pub fn peer_heights(&self, link: LinkId) -> impl Iterator<Item = (Origin, u64)> + '_ {
        self.peers
            .get(&link)
            .into_iter()
            .flat_map(|peer| peer.held.iter().map(|(origin, (_, height))| (*origin, *height)))
    }

    /// Asks for an origin no longer, until it is planned anew.
    pub fn forget(&mut self, origin: Origin) {
        self.asked.remove(&origin);
    }

    /// Whether an origin is asked for on this link.
    #[must_use]
    pub fn is_asked(&self, link: LinkId, origin: Origin) -> bool {
        self.asked.get(&origin) == Some(&link)
    }

    /// Whether an origin is asked for on the link to its own node: then its entries come by themselves.
    #[must_use]
    pub fn is_streamed(&self, origin: Origin) -> bool {
        self.asked.get(&origin).and_then(|link| self.peers.get(link)).is_some_and(|peer| peer.origin == origin)
    }

    /// Whether some linked peer has an entry.
    #[must_use]
    pub fn anyone_has(&self, origin: Origin, number: u64) -> bool {
        self.peers.values().any(|peer| peer.held.get(&origin).is_some_and(|(_, height)| *height >= number))
    }

    /// What those who are asked hold, where they have dropped all of it. They say so on the link on which the entries
    /// would come, after all that did come.
    #[must_use]
    pub fn asked_in_vain(&self) -> Vec<Held> {
        let asked = self.asked.iter().filter_map(|(origin, link)| {
            let (first, height) = *self.peers.get(link)?.held.get(origin)?;
            Some(Held::new(*origin, first, height))
        });
        asked.filter(|held| held.first > held.height).collect()
    }

    /// Whether some linked peer still has something of an origin beyond `height`.
    #[must_use]
    pub fn anyone_holds_beyond(&self, origin: Origin, height: u64) -> bool {
        let held = self.peers.values().filter_map(|peer| peer.held.get(&origin));
        held.copied().any(|(first, theirs)| theirs > height && first <= theirs)
    }

    /// Whether a linked peer other than that of `link` can go on right after `height`.
    #[must_use]
    pub fn other_continues(&self, link: LinkId, origin: Origin, height: u64) -> bool {
        self.peers.iter().any(|(other, peer)| *other != link && continues(peer, origin, height))
    }

    /// Decides anew for every origin but `me`; `height` is how far this node holds one.
    pub fn plan(&mut self, me: Origin, height: impl Fn(Origin) -> u64) -> Vec<Ask> {
        let mut origins: Vec<Origin> = self.peers.values().flat_map(|peer| peer.held.keys().copied()).collect();
        origins.extend(self.peers.values().map(|peer| peer.origin));
        origins.sort_unstable();
        origins.dedup();
        let mut asks = Vec::new();
        for origin in origins.into_iter().filter(|origin| *origin != me) {
            let height = height(origin);
            let best = self.best(origin, height);
            let asked = self.asked.get(&origin).copied();
            let Some(best) = best else { continue };
            if asked == Some(best) {
                continue;
            }
            if let Some(link) = asked {
                asks.push(Ask::Stop { link, origin });
            }
            asks.push(Ask::From { link: best, origin, number: height + 1 });
            self.asked.insert(origin, best);
        }
        asks
    }

    fn best(&self, origin: Origin, height: u64) -> Option<LinkId> {
        let own = self.peers.iter().find(|(_, peer)| peer.origin == origin).map(|(link, _)| *link);
        let has_hole = |link: LinkId| self.peers[&link].held.get(&origin).is_some_and(|(first, _)| *first > height + 1);
        let whole = || {
            let asked = self.asked.get(&origin).filter(|link| continues(&self.peers[*link], origin, height));
            asked
                .copied()
                .or_else(|| self.peers.iter().find(|(_, peer)| continues(peer, origin, height)).map(|(link, _)| *link))
        };
        match own {
            Some(own) if !has_hole(own) => Some(own),
            // Its own node has dropped what is needed next; perhaps another has it still.
            Some(own) => whole().or(Some(own)),
            None => whole().or_else(|| {
                self.peers
                    .iter()
                    .filter(|(_, peer)| peer.held.get(&origin).is_some_and(|(_, theirs)| *theirs > height))
                    .min_by_key(|(_, peer)| peer.held[&origin].0)
                    .map(|(link, _)| *link)
            }),
        }
    }
}

/// Whether a peer has the entry after `height`.
fn continues(peer: &Peer, origin: Origin, height: u64) -> bool {
    peer.held.get(&origin).is_some_and(|(first, theirs)| *first <= height + 1 && *theirs > height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(node: u16) -> Origin {
        Origin { node, incarnation: 1 }
    }

    fn held(node: u16, first: u64, height: u64) -> Held {
        Held::new(origin(node), first, height)
    }

    #[test]
    fn an_origin_is_asked_of_its_own_node_first() {
        let mut sources = Sources::default();
        sources.link_up(1, origin(1), &[held(1, 1, 5), held(2, 1, 9)]);
        sources.link_up(2, origin(2), &[held(2, 1, 7)]);
        let asks = sources.plan(origin(0), |_| 0);
        assert_eq!(
            asks,
            [Ask::From { link: 1, origin: origin(1), number: 1 }, Ask::From { link: 2, origin: origin(2), number: 1 },]
        );
        assert_eq!(sources.plan(origin(0), |_| 3), []);
    }

    #[test]
    fn a_cut_between_two_nodes_is_bridged_by_a_third_and_ends_with_the_cut() {
        let mut sources = Sources::default();
        sources.link_up(1, origin(1), &[held(2, 1, 9)]);
        assert_eq!(sources.plan(origin(0), |_| 4)[1], Ask::From { link: 1, origin: origin(2), number: 5 });
        sources.link_up(2, origin(2), &[held(2, 1, 12)]);
        let asks = sources.plan(origin(0), |_| 9);
        assert_eq!(
            asks,
            [Ask::Stop { link: 1, origin: origin(2) }, Ask::From { link: 2, origin: origin(2), number: 10 }]
        );
    }

    #[test]
    fn what_the_origin_has_dropped_is_asked_of_whoever_has_it() {
        let mut sources = Sources::default();
        sources.link_up(1, origin(1), &[held(1, 50, 60)]);
        sources.link_up(2, origin(2), &[held(1, 10, 60)]);
        let asks = sources.plan(origin(0), |_| 20);
        assert!(asks.contains(&Ask::From { link: 2, origin: origin(1), number: 21 }));
        assert!(sources.other_continues(1, origin(1), 20) && !sources.other_continues(2, origin(1), 20));
    }
}
