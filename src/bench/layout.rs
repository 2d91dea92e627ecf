//! Which client is on which node, and who sends to whom.

use super::settings::Shape;

/// Clients by node index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The node of each sender.
    pub senders: Vec<usize>,
    /// The node of each recipient.
    pub recipients: Vec<usize>,
    /// Every recipient gets every sender's messages; otherwise those of the sender with its own number.
    pub is_broadcast: bool,
}

impl Layout {
    /// Places the clients of a shape on so many nodes, of which there is at least one.
    #[must_use]
    pub fn new(shape: Shape, nodes: usize) -> Self {
        let nodes = nodes.max(1);
        let over_all = |count: usize| (0..count).map(|client| client % nodes).collect();
        match shape {
            Shape::Direct => Self::pairs(1, nodes),
            Shape::Spread { senders } => Self::pairs(senders.into(), nodes),
            Shape::Broadcast { senders, recipients } => {
                Self { senders: over_all(senders.into()), recipients: over_all(recipients), is_broadcast: true }
            }
        }
    }

    fn pairs(count: usize, nodes: usize) -> Self {
        // Each round over the nodes goes one node further, so that every link is used by enough senders.
        let other = |client: usize| {
            let distance = if nodes > 1 { 1 + (client / nodes) % (nodes - 1) } else { 0 };
            (client + distance) % nodes
        };
        Self {
            senders: (0..count).map(|client| client % nodes).collect(),
            recipients: (0..count).map(other).collect(),
            is_broadcast: false,
        }
    }

    /// The senders whose messages a recipient gets.
    pub fn senders_of(&self, recipient: usize) -> std::ops::Range<usize> {
        if self.is_broadcast { 0..self.senders.len() } else { recipient..recipient + 1 }
    }

    /// The recipients of a sender's messages.
    pub fn recipients_of(&self, sender: usize) -> std::ops::Range<usize> {
        if self.is_broadcast { 0..self.recipients.len() } else { sender..sender + 1 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broadcasts_go_over_all_nodes() {
        let layout = Layout::new(Shape::Broadcast { senders: 1, recipients: 100 }, 5);
        assert!((0..5).all(|node| layout.recipients.iter().filter(|at| **at == node).count() == 20));
        assert_eq!((layout.senders_of(99), layout.recipients_of(0)), (0..1, 0..100));
    }

    proptest! {
        #[test]
        fn recipients_are_never_on_their_senders_node(senders in 1..40_u16, nodes in 2..10_usize) {
            let layout = Layout::new(Shape::Spread { senders }, nodes);
            prop_assert!(layout.senders.iter().zip(&layout.recipients).all(|(from, to)| from != to && *to < nodes));
            prop_assert_eq!(layout.senders_of(usize::from(senders) - 1), layout.recipients_of(usize::from(senders) - 1));
        }

        #[test]
        fn one_node_does_for_all(senders in 1..9_u16) {
            let layout = Layout::new(Shape::Spread { senders }, 1);
            prop_assert!(layout.senders.iter().chain(&layout.recipients).all(|node| *node == 0));
        }
    }
}
