//! What was sent and is not settled yet, across connections.
//!
//! ```text
//! written ──▶ unanswered ──▶ accepted: named when resuming, so that its receipts go on ──▶ settled
//!                  └─ connection lost ──▶ in doubt ──▶ a receipt after all, or unknown
//! ```
//!
//! Pure: receipts and the time come in.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::input::is_for_many;
use crate::wire::extended::{self, MessageId, Receipt, State};

/// Most messages that are named to the next node; beyond it the oldest are not heard of again after a change of node.
pub const MAX_UNSETTLED: usize = 256;
/// Most messages in doubt; beyond it the oldest are called unknown at once.
const MAX_IN_DOUBT: usize = 4_096;
/// So long after the next registration a receipt may still come for what was not answered on the former connection.
const DOUBT_MS: u64 = 2_000;

/// Messages by their reference.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// Written, without a receipt yet; whether it is for many.
    unanswered: BTreeMap<u64, bool>,
    /// The same, of a former connection.
    in_doubt: BTreeMap<u64, bool>,
    doubt_ends: Option<Instant>,
    accepted: BTreeMap<u64, Accepted>,
}

#[derive(Debug)]
struct Accepted {
    id: MessageId,
    is_for_many: bool,
}

impl Unsettled {
    /// A message goes to the node.
    pub fn written(&mut self, reference: u64, to: &str) {
        self.unanswered.insert(reference, is_for_many(to));
    }

    /// Messages on this connection without any answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// The node says how far a message got; whether this is its first answer.
    pub fn receipt(&mut self, receipt: &Receipt) -> bool {
        let reference = receipt.reference;
        let first = self.unanswered.remove(&reference).or_else(|| self.in_doubt.remove(&reference));
        let Some(is_for_many) = first.or_else(|| self.accepted.get(&reference).map(|known| known.is_for_many)) else {
            return false;
        };
        let is_everywhere = receipt.nodes_known > 0 && receipt.nodes_holding >= receipt.nodes_known;
        let is_settled = match receipt.state() {
            State::Refused | State::Undelivered => true,
            State::Delivered if !is_for_many => true,
            State::Kept => false,
            _ => is_for_many && is_everywhere,
        };
        match receipt.id {
            Some(id) if !is_settled => drop(self.accepted.insert(reference, Accepted { id, is_for_many })),
            _ => drop(self.accepted.remove(&reference)),
        }
        if self.accepted.len() > MAX_UNSETTLED {
            self.accepted.pop_first();
        }
        first.is_some()
    }

    /// The connection is lost; gives what there is no room to doubt.
    pub fn lost(&mut self) -> Vec<u64> {
        self.doubt_ends = None;
        self.in_doubt.append(&mut self.unanswered);
        let too_many = self.in_doubt.len().saturating_sub(MAX_IN_DOUBT);
        (0..too_many).filter_map(|_| self.in_doubt.pop_first()).map(|(reference, _)| reference).collect()
    }

    /// The next node has taken this client, and has been told what is awaited.
    pub fn registered(&mut self, now: Instant) {
        self.doubt_ends = (!self.in_doubt.is_empty()).then(|| now + Duration::from_millis(DOUBT_MS));
    }

    /// When what is still in doubt becomes unknown.
    pub fn due(&self) -> Option<Instant> {
        self.doubt_ends
    }

    /// What is unknown for good.
    pub fn unknown(&mut self, now: Instant) -> Vec<u64> {
        if self.doubt_ends.is_none_or(|end| end > now) {
            return Vec::new();
        }
        self.doubt_ends = None;
        std::mem::take(&mut self.in_doubt).into_keys().collect()
    }

    /// The session is over: everything without an answer.
    pub fn end(&mut self) -> Vec<u64> {
        self.in_doubt.append(&mut self.unanswered);
        std::mem::take(&mut self.in_doubt).into_keys().collect()
    }

    /// What a node is to go on telling about.
    pub fn named(&self) -> Vec<extended::Unsettled> {
        let name =
            |(reference, known): (&u64, &Accepted)| extended::Unsettled { reference: *reference, id: Some(known.id) };
        self.accepted.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(reference: u64, state: State, holding: u32) -> Receipt {
        let id = Some(MessageId { origin: None, number: reference });
        Receipt { reference, state: state.into(), id, nodes_holding: holding, nodes_known: 3, ..Receipt::default() }
    }

    fn named(unsettled: &Unsettled) -> Vec<u64> {
        unsettled.named().iter().map(|named| named.reference).collect()
    }

    #[test]
    fn a_message_is_named_until_it_is_settled() {
        let mut unsettled = Unsettled::default();
        unsettled.written(1, "bob");
        unsettled.written(2, "#ship");
        assert_eq!((named(&unsettled), unsettled.unanswered()), (vec![], 2));
        assert!(unsettled.receipt(&receipt(1, State::Accepted, 1)));
        assert!(unsettled.receipt(&receipt(2, State::Accepted, 1)));
        assert!(!unsettled.receipt(&receipt(1, State::Replicated, 3)), "only the first answer counts as one");
        assert!(!unsettled.receipt(&receipt(2, State::Delivered, 1)));
        assert_eq!(named(&unsettled), [1, 2]);
        unsettled.receipt(&receipt(1, State::Delivered, 3));
        unsettled.receipt(&receipt(2, State::Replicated, 3));
        assert_eq!(named(&unsettled), [] as [u64; 0]);
        unsettled.receipt(&receipt(1, State::Replicated, 3));
        assert_eq!(named(&unsettled), [] as [u64; 0], "what is settled stays so");
    }

    #[test]
    fn what_was_not_answered_is_in_doubt_until_a_while_after_the_next_registration() {
        let (mut unsettled, begin) = (Unsettled::default(), Instant::now());
        (1..=3).for_each(|reference| unsettled.written(reference, "bob"));
        assert_eq!(unsettled.lost(), [] as [u64; 0]);
        assert_eq!((unsettled.unanswered(), unsettled.due()), (0, None));
        unsettled.registered(begin);
        assert!(unsettled.receipt(&receipt(2, State::Accepted, 1)), "it was taken after all");
        let end = unsettled.due().unwrap();
        assert!(unsettled.unknown(begin).is_empty());
        assert_eq!(unsettled.unknown(end), [1, 3]);
        assert_eq!((unsettled.unknown(end), unsettled.due()), (vec![], None), "once");
    }

    #[test]
    fn its_memory_is_bounded() {
        let mut unsettled = Unsettled::default();
        for reference in 1..=MAX_UNSETTLED as u64 + 10 {
            unsettled.written(reference, "bob");
            unsettled.receipt(&receipt(reference, State::Accepted, 1));
        }
        assert_eq!((named(&unsettled).len(), named(&unsettled)[0]), (MAX_UNSETTLED, 11));
        (1_000..1_000 + MAX_IN_DOUBT as u64 + 2).for_each(|reference| unsettled.written(reference, "bob"));
        assert_eq!(unsettled.lost(), [1_000, 1_001]);
        assert_eq!(unsettled.end().len(), MAX_IN_DOUBT);
    }
}
