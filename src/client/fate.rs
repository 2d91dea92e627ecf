//! What became of the messages that were sent: one line each, once it is settled.
//!
//! ```text
//! sent ──▶ accepted ──▶ on k of n nodes ──▶ delivered
//!   │          └──▶ kept (its addressee's node is cut off, or their connection has just broken) ──▶ delivered
//!   │                 └──▶ not delivered ──▶ delivered, if they come back later
//!   ├──▶ refused
//!   └──▶ unknown: the connection was lost before the node answered, and no other node knew more
//! ```
//!
//! Pure: receipts and the time come in, verdicts go out. A verdict is given at once where nothing is left to happen, or
//! where the person should know now; otherwise after a moment without news. When a message gets further after its
//! verdict, such as delivered after a cut, there is one more.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::input::is_for_many;
use crate::wire::extended::{Receipt, State};

/// A message counts as settled after this long without news.
const QUIET_MS: u64 = 400;
/// After this long without any answer the person is told so.
const NO_ANSWER_MS: u64 = 3_000;
/// Most messages that are watched; beyond it the oldest are forgotten.
const MAX_WATCHED: usize = 10_000;

/// How far a message got; later is further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No answer yet.
    Sent,
    /// The connection was lost before an answer; whether the node took it is not known.
    Unknown,
    /// The node has it.
    Accepted,
    /// It waits for a node that cannot be reached, or for somebody whose connection has just broken.
    Kept,
    /// Perhaps only not in time: whoever comes back later gets it.
    Undelivered,
    Delivered,
    Refused,
    /// It never left.
    NotSent,
}

/// What is known of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    pub to: String,
    /// Tells this message from others to the same person; the beginning of its text.
    pub text: String,
    pub stage: Stage,
    pub nodes_holding: u32,
    pub nodes_known: u32,
    pub recipients: u32,
    /// Some of them.
    pub names: Vec<String>,
    pub reason: String,
    pub trace_id: String,
    /// From sending to this stage.
    pub took: Duration,
}

/// A fate to be told, for a message that is perhaps not the last one sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub reference: u64,
    pub fate: Fate,
    /// Others were sent since, so the text is needed to say which one is meant.
    pub is_older: bool,
}

#[derive(Debug)]
struct Watched {
    fate: Fate,
    sent_at: Instant,
    /// When a verdict is due; `None` if there is nothing to tell.
    due: Option<Instant>,
    /// The stage, nodes and recipients of the last verdict.
    told: Option<(Stage, u32, u32)>,
}

impl Watched {
    fn news(&self) -> (Stage, u32, u32) {
        (self.fate.stage, self.fate.nodes_holding, self.fate.recipients)
    }

    fn is_for_many(&self) -> bool {
        is_for_many(&self.fate.to)
    }

    /// Nothing more can happen that anybody wants to know.
    fn is_over(&self) -> bool {
        match self.fate.stage {
            Stage::Delivered => !self.is_for_many(),
            Stage::Refused | Stage::NotSent => true,
            Stage::Sent | Stage::Unknown | Stage::Accepted | Stage::Kept | Stage::Undelivered => false,
        }
    }

    /// How long to wait for more before telling what is known.
    fn patience(&self) -> Duration {
        match self.fate.stage {
            Stage::Sent => Duration::from_millis(NO_ANSWER_MS),
            Stage::Accepted => Duration::from_millis(QUIET_MS),
            Stage::Delivered if self.is_for_many() => Duration::from_millis(QUIET_MS),
            _ => Duration::ZERO,
        }
    }
}

/// The fates of all messages of this process.
#[derive(Debug, Default)]
pub struct Fates {
    watched: BTreeMap<u64, Watched>,
    unanswered: usize,
    has_failures: bool,
    last: u64,
}

impl Fates {
    /// A message is on its way.
    pub fn sent(&mut self, reference: u64, to: &str, text: &str, now: Instant) {
        let fate = Fate {
            to: to.to_owned(),
            text: text.chars().take(40).collect(),
            stage: Stage::Sent,
            nodes_holding: 0,
            nodes_known: 0,
            recipients: 0,
            names: Vec::new(),
            reason: String::new(),
            trace_id: String::new(),
            took: Duration::ZERO,
        };
        let due = Some(now + Duration::from_millis(NO_ANSWER_MS));
        self.watched.insert(reference, Watched { fate, sent_at: now, due, told: None });
        self.unanswered += 1;
        self.last = self.last.max(reference);
        if self.watched.len() > MAX_WATCHED
            && let Some((_, forgotten)) = self.watched.pop_first()
            && forgotten.fate.stage == Stage::Sent
        {
            self.unanswered -= 1;
            self.has_failures = true;
        }
    }

    /// The node says how far a message got.
    pub fn receipt(&mut self, receipt: &Receipt, now: Instant) -> Option<Verdict> {
        let stage = match receipt.state() {
            State::Unspecified => return None,
            // On more nodes is the same stage: numbers tell how many.
            State::Accepted | State::Replicated => Stage::Accepted,
            State::Delivered => Stage::Delivered,
            State::Kept => Stage::Kept,
            State::Refused => Stage::Refused,
            State::Undelivered => Stage::Undelivered,
        };
        self.advance(receipt.reference, stage, now, |fate| {
            fate.nodes_holding = fate.nodes_holding.max(receipt.nodes_holding);
            fate.nodes_known = fate.nodes_known.max(receipt.nodes_known);
            fate.recipients = fate.recipients.max(receipt.recipients);
            if receipt.recipients_names.len() > fate.names.len() {
                fate.names.clone_from(&receipt.recipients_names);
            }
            if !receipt.reason.is_empty() {
                fate.reason.clone_from(&receipt.reason);
            }
            if !receipt.trace_id.is_empty() {
                fate.trace_id.clone_from(&receipt.trace_id);
            }
        })
    }

    /// The connection was lost before an answer.
    pub fn not_answered(&mut self, reference: u64, written: bool, now: Instant) -> Option<Verdict> {
        let stage = if written { Stage::Unknown } else { Stage::NotSent };
        self.advance(reference, stage, now, |_| ())
    }

    /// The verdicts that are due.
    pub fn tick(&mut self, now: Instant) -> Vec<Verdict> {
        let due = self.watched.iter().filter(|(_, watched)| watched.due.is_some_and(|due| due <= now));
        let due: Vec<u64> = due.map(|(reference, _)| *reference).collect();
        due.into_iter().filter_map(|reference| self.tell(reference)).collect()
    }

    /// When the next verdict is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.watched.values().filter_map(|watched| watched.due).min()
    }

    /// Messages without any answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether anything was refused, not delivered or lost from sight.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.has_failures
    }

    fn advance(
        &mut self,
        reference: u64,
        stage: Stage,
        now: Instant,
        learn: impl FnOnce(&mut Fate),
    ) -> Option<Verdict> {
        let watched = self.watched.get_mut(&reference)?;
        learn(&mut watched.fate);
        if watched.fate.stage == Stage::Sent {
            self.unanswered -= 1;
        }
        if stage > watched.fate.stage {
            watched.fate.stage = stage;
            watched.fate.took = now.saturating_duration_since(watched.sent_at);
        }
        self.has_failures |=
            matches!(watched.fate.stage, Stage::Refused | Stage::Undelivered | Stage::NotSent | Stage::Unknown);
        let is_known = watched.told.is_some_and(|(told, ..)| {
            // That a message that is kept is held by more nodes changes nothing for anybody.
            told == watched.fate.stage && (told == Stage::Kept || watched.told == Some(watched.news()))
        });
        if is_known {
            return None;
        }
        watched.due = Some(now + watched.patience());
        if watched.patience().is_zero() { self.tell(reference) } else { None }
    }

    fn tell(&mut self, reference: u64) -> Option<Verdict> {
        let is_older = reference < self.last;
        let watched = self.watched.get_mut(&reference)?;
        watched.due = None;
        watched.told = Some(watched.news());
        let is_over = watched.is_over();
        let fate = watched.fate.clone();
        if is_over {
            self.watched.remove(&reference);
        }
        Some(Verdict { reference, fate, is_older })
    }
}

#[cfg(test)]
#[path = "fate_tests.rs"]
mod tests;
