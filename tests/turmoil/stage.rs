//! What everybody in a run shares: the model and the transcript.

use std::{
    cell::{RefCell, RefMut},
    rc::Rc,
};

use crate::{model::Model, transcript::Transcript};

#[derive(Clone, Default)]
pub struct Stage(Rc<RefCell<Model>>, Rc<RefCell<Transcript>>);

impl Stage {
    pub fn model(&self) -> RefMut<'_, Model> {
        self.0.borrow_mut()
    }

    pub fn transcript(&self) -> RefMut<'_, Transcript> {
        self.1.borrow_mut()
    }
}

/// Notes something in the transcript.
macro_rules! note {
    ($stage:expr, $now_ms:expr, $($what:tt)*) => {
        $stage.transcript().note($now_ms, format_args!($($what)*))
    };
}
pub(crate) use note;
