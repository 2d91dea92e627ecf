//! One span for each message that is sent: from the order to the node's first answer.

/// The spans of messages that wait for an answer.
#[derive(Default)]
pub struct Traced {}

impl Traced {
    /// A message is sent; gives its W3C traceparent, empty if it is not traced.
    pub fn begin(&self, _reference: u64, _to: &str, _text_bytes: usize) -> String {
        String::new()
    }

    /// The node has answered.
    pub fn answered(&self, _reference: u64, _is_refused: bool) {}
}
