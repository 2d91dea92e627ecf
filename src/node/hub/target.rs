//! Whom a message is for.

use std::sync::Arc;

use crate::chat::{Registration, SERVICE_NAME, message::EVERYONE};

/// Whom a client's message is for, found out.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Everyone,
    Service,
    Person {
        name: Arc<str>,
        registration: Registration,
        /// What is waited for, if they are not connected.
        waits_for: Option<WaitsFor>,
        /// Until when it need not be said again whose session that is, in Unix milliseconds.
        recorded_until_ms: u64,
    },
    /// The owner of a claimed name.
    Owner {
        name: Arc<str>,
        registration: Registration,
        is_away: bool,
    },
    Room(Arc<str>),
}

/// Until when what is sent to somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// They were last seen on this node, which cannot be reached.
    Node(u16),
    /// Their connection has just broken, and they are expected back.
    Return,
}

impl Target {
    /// As people write it.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Everyone => EVERYONE,
            Self::Service => SERVICE_NAME,
            Self::Person { name, .. } | Self::Owner { name, .. } | Self::Room(name) => name,
        }
    }

    /// Who is waited for, if their connection has just broken.
    pub(super) fn waits_for_return_of(&self) -> Option<Registration> {
        match self {
            Self::Person { registration, waits_for: Some(WaitsFor::Return), .. } => Some(*registration),
            _ => None,
        }
    }
}
