//! Names and fixed values of span attributes.
//!
//! The `messaging.` names are those of OpenTelemetry's semantic conventions; what those have no word for is under
//! `clique.`.

pub use opentelemetry_semantic_conventions::attribute::{
    MESSAGING_CLIENT_ID, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_BODY_SIZE, MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_SYSTEM,
};

/// Value of [`MESSAGING_SYSTEM`].
pub const SYSTEM: &str = "clique";

/// Value of [`MESSAGING_OPERATION_TYPE`]: a message is handed to the service.
pub const OPERATION_SEND: &str = "send";
/// Value of [`MESSAGING_OPERATION_TYPE`]: a message is handed on to another node or to its reader.
pub const OPERATION_PROCESS: &str = "process";

/// The node that recorded the span.
pub const CLIQUE_NODE: &str = "clique.node";
/// The node that a link sends from.
pub const CLIQUE_LINK_FROM: &str = "clique.link.from";
/// The node that a link sends to.
pub const CLIQUE_LINK_TO: &str = "clique.link.to";
/// What a message waited for: a cut link, a slow reader, an absent addressee.
pub const CLIQUE_WAIT_REASON: &str = "clique.wait.reason";
/// Whether the reader may have seen the message before.
pub const CLIQUE_REPLAYED: &str = "clique.replayed";
