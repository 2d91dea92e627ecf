//! Runs against what a node would keep of each message by itself.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{super::fate::About, *};
use crate::{
    clique::Origin,
    wire::extended::{Receipt, ReceiptRun, State},
};

const ME: Origin = Origin { node: 0, incarnation: 7 };
const CLIENTS: u64 = 3;
const NODES: usize = 4;

fn sender(client: ClientId) -> Registration {
    Registration { time: client, node: 0 }
}

fn about(client: ClientId, is_direct: bool, is_kept: bool) -> About {
    let kept = is_kept.then(|| "kept".into());
    About { listener: Listener::Here(client), sender: sender(client), is_direct, kept, trace_id: None }
}

/// Something that happens, in the numbers of the messages so far.
#[derive(Debug, Clone)]
enum Step {
    Accept {
        client: ClientId,
        is_direct: bool,
        is_kept: bool,
        count: u64,
    },
    Acknowledge {
        part: f64,
    },
    Confirm {
        node: u16,
        part: f64,
    },
    Outcome {
        from: f64,
        to: f64,
        name: u8,
        gone: bool,
    },
    /// The client's output has room, or not any more.
    Room {
        client: ClientId,
        has_room: bool,
    },
    Tell,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, part) = (0..CLIENTS, 0.0..=1.0);
    prop_oneof![
        4 => (client.clone(), any::<bool>(), prop::bool::weighted(0.1), 1..40_u64).prop_map(
            |(client, is_direct, is_kept, count)| Step::Accept { client, is_direct, is_kept, count }
        ),
        2 => part.clone().prop_map(|part| Step::Acknowledge { part }),
        3 => (1..NODES as u16, part.clone()).prop_map(|(node, part)| Step::Confirm { node, part }),
        4 => (part.clone(), part, 0..20_u8, prop::bool::weighted(0.1)).prop_map(
            |(one, other, name, gone): (f64, f64, u8, bool)| Step::Outcome { from: one.min(other), to: one.max(other), name, gone }
        ),
        2 => (client, any::<bool>()).prop_map(|(client, has_room)| Step::Room { client, has_room }),
        4 => Just(Step::Tell),
    ]
}

/// One message, as plainly as can be.
#[derive(Debug, Clone)]
struct Message {
    client: ClientId,
    reference: u64,
    is_direct: bool,
    is_kept: bool,
    is_on_disk: bool,
    recipients: u32,
    names: BTreeSet<String>,
    is_gone: bool,
    holding: u32,
    /// Its sender has heard that nothing more becomes of it.
    is_over: bool,
}

#[derive(Default)]
struct World {
    receipts: Receipts,
    messages: Vec<Message>,
    references: BTreeMap<ClientId, u64>,
    full: BTreeSet<ClientId>,
    confirmed: BTreeMap<u16, u64>,
    /// The receipts of each message, by its number less one.
    heard: Vec<Vec<Receipt>>,
}

impl World {
    fn number(&self, part: f64) -> u64 {
        (part * self.messages.len() as f64) as u64
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Accept { client, is_direct, is_kept, count } => self.accept(client, is_direct, is_kept, count),
            Step::Acknowledge { part } => {
                let number = self.number(part);
                self.receipts.acknowledge(number, 0);
                self.messages.iter_mut().take(number as usize).for_each(|message| message.is_on_disk = true);
            }
            Step::Confirm { node, part } => {
                let height = self.number(part).max(self.confirmed.get(&node).copied().unwrap_or(0));
                let before = self.receipts.confirm(node, height);
                self.confirmed.insert(node, height);
                let last = self.receipts.held_by(NODES).min(height);
                self.receipts.hold(before + 1..=last, NODES);
                if self.confirmed.len() == NODES - 1 {
                    let everywhere = self.confirmed.values().min().copied().unwrap_or(0);
                    let held = self.messages.iter_mut().take(everywhere as usize).filter(|message| !message.is_over);
                    held.for_each(|message| message.holding = NODES as u32);
                }
            }
            Step::Outcome { from, to, name, gone } => self.outcome(self.number(from) + 1, self.number(to), name, gone),
            Step::Room { client, has_room: false } => drop(self.full.insert(client)),
            Step::Room { client, has_room: true } => {
                self.full.remove(&client);
                let news = self.receipts.release(client, 2);
                self.tell(news);
            }
            Step::Tell => {
                let news = self.receipts.take_news();
                self.tell(news);
            }
        }
    }

    fn accept(&mut self, client: ClientId, is_direct: bool, is_kept: bool, count: u64) {
        let mut runs = Vec::new();
        for _ in 0..count {
            let reference = self.references.entry(client).or_insert(100);
            *reference += 1;
            let message = Message {
                client,
                reference: *reference,
                is_direct,
                is_kept,
                is_on_disk: false,
                recipients: 0,
                names: BTreeSet::new(),
                is_gone: false,
                holding: 1,
                is_over: false,
            };
            self.messages.push(message);
            self.heard.push(Vec::new());
            runs.push(Run::new(self.messages.len() as u64, *reference, about(client, is_direct, is_kept), NODES));
        }
        self.receipts.accepted(runs);
    }

    fn outcome(&mut self, first: u64, last: u64, name: u8, gone: bool) {
        let Some(count) = (last + 1).checked_sub(first).filter(|count| *count > 0) else { return };
        let names = if gone { Vec::new() } else { vec![format!("{name:02}")] };
        let delivered = u32::from(!gone);
        self.receipts.take_outcome(&Outcome { origin: ME, first, count, delivered, gone, names: names.clone() });
        for message in &mut self.messages[first as usize - 1..last as usize] {
            if message.is_over {
                continue;
            }
            message.recipients += delivered;
            if message.is_direct {
                message.recipients = message.recipients.min(1);
            }
            message.names.extend(names.iter().cloned());
            message.is_gone = gone && message.recipients == 0;
        }
    }

    fn tell(&mut self, news: Vec<u64>) {
        for first in news {
            let Some(run) = self.receipts.run(first) else { continue };
            let Listener::Here(client) = run.listener() else { continue };
            if self.full.contains(&client) || self.receipts.is_held_back(client) {
                self.receipts.hold_back(client, first);
                continue;
            }
            let mut told = Vec::new();
            for receipt in run.news(ME).flat_map(ReceiptRun::each) {
                let number = receipt.id.as_ref().map_or(0, |id| id.number) as usize;
                let message = &mut self.messages[number - 1];
                assert_eq!((message.client, message.reference), (client, receipt.reference));
                assert!(message.is_on_disk, "{number} is not on the disk");
                assert!(!message.is_over, "{number} was over, then {receipt:?}");
                self.heard[number - 1].push(receipt);
                told.push(number);
            }
            for number in told {
                let message = &mut self.messages[number - 1];
                let is_delivered = message.is_direct && message.recipients > 0;
                message.is_over = message.is_gone || is_delivered && message.holding == NODES as u32;
            }
            self.receipts.told(first);
        }
    }

    /// Everybody reads, and everything is on the disk: each sender knows how its messages are.
    fn check(mut self) {
        self.take(Step::Acknowledge { part: 1.0 });
        self.full.clear();
        for client in (0..CLIENTS).cycle().take(2 * CLIENTS as usize) {
            self.take(Step::Room { client, has_room: true });
            self.take(Step::Tell);
        }
        for (message, heard) in self.messages.iter().zip(&self.heard) {
            let states: Vec<State> = heard.iter().map(Receipt::state).collect();
            let first = if message.is_kept { State::Kept } else { State::Accepted };
            assert_eq!(states.first(), Some(&first), "{message:?}");
            assert!(states[1..].iter().all(|state| !matches!(state, State::Kept | State::Accepted)), "{states:?}");
            let Some(last) = heard.last() else { continue };
            let state = match message {
                Message { is_gone: true, .. } => State::Undelivered,
                Message { recipients: 1.., .. } => State::Delivered,
                Message { holding: 2.., .. } => State::Replicated,
                _ => first,
            };
            let names: Vec<String> = message.names.iter().take(16).cloned().collect();
            assert_eq!(
                (last.state(), last.recipients, last.nodes_holding),
                (state, message.recipients, message.holding)
            );
            assert_eq!(last.recipients_names, names);
        }
    }
}

proptest! {
    #[test]
    fn every_sender_hears_what_became_of_each_message(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::default();
        steps.into_iter().for_each(|step| world.take(step));
        world.check();
    }
}
