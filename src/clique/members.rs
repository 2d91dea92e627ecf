//! The nodes that are known, and which link to each is the one that counts.

use std::collections::BTreeMap;

use super::{LinkId, Origin};

/// A node of the clique, as others speak of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub node: u16,
    /// "host:port" of its gRPC port.
    pub advertise: String,
    pub chat_port: u16,
}

/// A link that has proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    pub link: LinkId,
    pub origin: Origin,
    pub dialed_by_us: bool,
}

#[derive(Debug)]
struct Known {
    member: Member,
    linked: Option<Linked>,
}

/// What to do with a new link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Take it up; the older link named here, if any, is closed.
    Take { instead_of: Option<LinkId> },
    /// Close it, for this reason.
    Refuse { reason: LinkRefusal },
}

/// Why a link is not taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    #[error("this is the node itself")]
    Myself,
    #[error("the two nodes are linked already")]
    AlreadyLinked,
    #[error("both nodes have index {0}; give each node of a clique its own CLIQUE_INDEX")]
    SameIndex(u16),
}

/// All nodes of the clique that this one has heard of, itself excepted.
#[derive(Debug)]
pub struct Members {
    me: Origin,
    expected: usize,
    known: BTreeMap<u16, Known>,
}

impl Members {
    /// `expected` is how many nodes the settings name, this one included; it counts where fewer are known.
    #[must_use]
    pub fn new(me: Origin, expected: usize) -> Self {
        Self { me, expected, known: BTreeMap::new() }
    }

    /// Size of the clique: nodes known or expected, this one included.
    #[must_use]
    pub fn known_count(&self) -> usize {
        self.expected.max(self.known.len() + 1)
    }

    /// Nodes reachable now, this one included.
    #[must_use]
    pub fn reachable_count(&self) -> usize {
        1 + self.known.values().filter(|known| known.linked.is_some()).count()
    }

    /// The nodes heard of and whether each is linked, by index.
    pub fn iter(&self) -> impl Iterator<Item = (&Member, Option<Linked>)> {
        self.known.values().map(|known| (&known.member, known.linked))
    }

    #[must_use]
    pub fn linked(&self, node: u16) -> Option<Linked> {
        self.known.get(&node).and_then(|known| known.linked)
    }

    /// Takes note of a node that another one knows. True if it is news: then it should be dialled.
    pub fn learn(&mut self, member: &Member) -> bool {
        if member.node == self.me.node || self.known.contains_key(&member.node) {
            return false;
        }
        self.known.insert(member.node, Known { member: member.clone(), linked: None });
        true
    }

    /// Decides on a link that has proved itself, and enters it if it is taken.
    ///
    /// Of two links between the same two nodes the one that the smaller index dialled stays. A node that has
    /// restarted replaces its former self.
    pub fn admit(&mut self, linked: Linked, member: Member) -> Admission {
        if linked.origin == self.me {
            return Admission::Refuse { reason: LinkRefusal::Myself };
        }
        if linked.origin.node == self.me.node {
            return Admission::Refuse { reason: LinkRefusal::SameIndex(self.me.node) };
        }
        let present = self.linked(linked.origin.node);
        if let Some(present) = present
            && present.origin == linked.origin
        {
            let preferred = linked.dialed_by_us == (self.me.node < linked.origin.node);
            let present_preferred = present.dialed_by_us == (self.me.node < linked.origin.node);
            // Two that are equally good: the one that is there, or both sides could keep another.
            if preferred == present_preferred || present_preferred {
                return Admission::Refuse { reason: LinkRefusal::AlreadyLinked };
            }
        }
        self.known.insert(linked.origin.node, Known { member, linked: Some(linked) });
        Admission::Take { instead_of: present.map(|present| present.link) }
    }

    /// A link has ended. Returns the node that cannot be reached any more, if it was the one that counted.
    pub fn unlink(&mut self, link: LinkId) -> Option<u16> {
        let known = self.known.values_mut().find(|known| known.linked.is_some_and(|linked| linked.link == link))?;
        known.linked = None;
        Some(known.member.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(node: u16, incarnation: u64) -> Origin {
        Origin { node, incarnation }
    }

    fn member(node: u16) -> Member {
        Member { node, advertise: format!("n{node}:1"), chat_port: 4000 }
    }

    fn link(link: LinkId, from: Origin, dialed_by_us: bool) -> Linked {
        Linked { link, origin: from, dialed_by_us }
    }

    #[test]
    fn when_both_dial_both_keep_the_link_that_the_smaller_index_dialled() {
        let (small, large) = (origin(0, 7), origin(1, 8));
        for order in [[1, 2], [2, 1]] {
            let mut at_small = Members::new(small, 2);
            let mut at_large = Members::new(large, 2);
            for id in order {
                // Link 1 is dialled by the smaller.
                at_small.admit(link(id, large, id == 1), member(1));
                at_large.admit(link(id, small, id == 2), member(0));
            }
            assert_eq!(at_small.linked(1).unwrap().link, 1);
            assert_eq!(at_large.linked(0).unwrap().link, 1);
        }
    }

    #[test]
    fn a_restarted_node_replaces_its_former_self() {
        let mut members = Members::new(origin(0, 1), 2);
        members.admit(link(1, origin(1, 5), true), member(1));
        assert_eq!(members.admit(link(2, origin(1, 6), false), member(1)), Admission::Take { instead_of: Some(1) });
        assert_eq!(members.unlink(1), None);
        assert_eq!(members.unlink(2), Some(1));
    }

    #[test]
    fn a_node_with_the_same_index_is_refused_with_the_reason() {
        let mut members = Members::new(origin(0, 1), 2);
        let Admission::Refuse { reason } = members.admit(link(1, origin(0, 2), true), member(0)) else { panic!() };
        assert!(reason.to_string().contains("CLIQUE_INDEX"));
    }
}
