//! Deliberate faults, to prove that the checker bites. A run without any must be clean; a run with one must not.

use clique::{node::hub::Registering, wire::peer::PeerFrame};

use crate::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Now and then entries vanish on a link that stays up.
    DropEntries,
    /// Now and then a message is written to a reader twice.
    DeliverTwice,
    /// Two messages to a reader change places.
    Reorder,
    /// A resuming client claims one message more than it had from each origin.
    SkipOnResume,
    /// A resuming client claims one message less.
    ForgetOnResume,
    /// What does not fit into a slow reader's output is dropped.
    DropWhenFull,
    /// Nodes agree to every name, and do not hear who has which.
    GiveNamesTwice,
    /// The disk says that something is synced before it is.
    SkipSync,
    /// A node that starts again goes on under its former incarnation.
    ReuseNumbers,
    /// A disk comes up with less than it had.
    ForgetHeight,
    /// Nobody hears what became of messages.
    LoseOutcomes,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Faults(pub Option<Fault>);

impl Faults {
    fn is(self, fault: Fault) -> bool {
        self.0 == Some(fault)
    }

    /// What becomes of a frame between two nodes.
    pub fn on_the_way(self, from: u16, to: u16, frame: PeerFrame, dice: &mut Dice) -> Option<PeerFrame> {
        match frame {
            PeerFrame::Entries(_) if self.is(Fault::DropEntries) && dice.chance(10) => None,
            PeerFrame::Outcomes { .. } if self.is(Fault::LoseOutcomes) => None,
            PeerFrame::Vote { ballot, former, mail, .. } if self.is(Fault::GiveNamesTwice) => {
                Some(PeerFrame::Vote { ballot, granted: true, former, mail })
            }
            PeerFrame::Presence { left, quit, .. } if self.is(Fault::GiveNamesTwice) && from < to => {
                Some(PeerFrame::Presence { joined: Vec::new(), left, quit })
            }
            frame => Some(frame),
        }
    }

    pub fn on_registering(self, mut registering: Box<Registering>) -> Box<Registering> {
        let Some(resume) = &mut registering.resume else { return registering };
        if self.is(Fault::SkipOnResume) || self.is(Fault::ForgetOnResume) {
            let shifted =
                |height: u64| if self.is(Fault::SkipOnResume) { height + 1 } else { height.saturating_sub(1) };
            resume.received = resume.received.iter().map(|(origin, height)| (origin, shifted(height))).collect();
        }
        registering
    }
}
