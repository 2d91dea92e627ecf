//! Messages that were refused and whose senders have not heard of it yet: in runs, which wait where an output has no room.

use std::collections::BTreeMap;

use super::{ClientId, Hub, Ports};
use crate::wire::extended::{MAX_RUN, Receipt, ReceiptRun, State};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Of this turn.
    news: BTreeMap<ClientId, Vec<ReceiptRun>>,
    /// For want of room. Nothing is read from these clients meanwhile, so what they can add is what was read already.
    held_back: BTreeMap<ClientId, Vec<ReceiptRun>>,
}

impl Refusals {
    pub(super) fn add(&mut self, client: ClientId, reference: u64, reason: String) {
        let runs = self.news.entry(client).or_default();
        if let Some(ReceiptRun { first: Some(first), count }) = runs.last_mut()
            && *count < MAX_RUN
            && first.reference.checked_add((*count).into()) == Some(reference)
            && first.reason == reason
        {
            *count += 1;
            return;
        }
        let first = Receipt { reference, state: State::Refused.into(), reason, ..Receipt::default() };
        runs.push(ReceiptRun { first: Some(first), count: 1 });
    }

    /// A client is gone.
    pub(super) fn listener_left(&mut self, client: ClientId) {
        self.news.remove(&client);
        self.held_back.remove(&client);
    }
}

impl Hub {
    /// Tells senders what was refused in this turn.
    pub(super) fn tell_refusals(&mut self, ports: &mut impl Ports) {
        for (client, runs) in std::mem::take(&mut self.refusals.news) {
            match self.refusals.held_back.get_mut(&client) {
                Some(before) => before.extend(runs),
                None => self.tell_refused(client, runs, ports),
            }
        }
    }

    /// A client's output has room again.
    pub(super) fn release_refusals(&mut self, client: ClientId, ports: &mut impl Ports) {
        if let Some(runs) = self.refusals.held_back.remove(&client) {
            self.tell_refused(client, runs, ports);
        }
    }

    fn tell_refused(&mut self, client: ClientId, runs: Vec<ReceiptRun>, ports: &mut impl Ports) {
        let mut runs = runs.into_iter();
        while ports.client_has_room(client) {
            let Some(run) = runs.next() else { return };
            Self::send_receipts(client, run, ports);
        }
        if runs.len() > 0 {
            self.refusals.held_back.insert(client, runs.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_the_same_reason_is_one_run() {
        let mut refusals = Refusals::default();
        (1..=5_000).for_each(|reference| refusals.add(7, reference, "full".into()));
        refusals.add(7, 5_001, "nobody".into());
        refusals.add(7, 5_003, "nobody".into());
        refusals.add(8, 5_004, "nobody".into());
        let run = |reference, count, reason: &str| {
            let state = State::Refused.into();
            let first = Receipt { reference, state, reason: reason.into(), ..Receipt::default() };
            ReceiptRun { first: Some(first), count }
        };
        let of_seven = [
            run(1, MAX_RUN, "full"),
            run(1 + u64::from(MAX_RUN), 5_000 - MAX_RUN, "full"),
            run(5_001, 1, "nobody"),
            run(5_003, 1, "nobody"),
        ];
        assert_eq!(refusals.news[&7], of_seven);
        assert_eq!(refusals.news[&8], [run(5_004, 1, "nobody")]);
        refusals.listener_left(7);
        assert_eq!(refusals.news.len(), 1);
    }
}
