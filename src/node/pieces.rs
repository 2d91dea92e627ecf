//! Bytes in pieces, read as if they were one: what was received, or what is to be written.
//!
//! A piece can be shared with other outputs: what is said to everybody is in memory once, however many read it.

use std::{collections::VecDeque, io::IoSlice, mem};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};

/// Shorter pieces are copied together: one system call takes few pieces, and a piece is a count to be kept.
const MIN_SHARED_BYTES: usize = 2 * 1024;

#[derive(Debug, Default)]
pub struct Pieces {
    /// None is empty.
    pieces: VecDeque<Bytes>,
    /// Behind them: what was copied together since.
    tail: BytesMut,
    /// Of the pieces.
    length: usize,
}

impl Pieces {
    /// Appends a piece as it is.
    pub fn push(&mut self, piece: Bytes) {
        self.end_tail();
        self.length += piece.len();
        if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// Appends a piece: shared if it is long, copied if not.
    pub fn share(&mut self, piece: &Bytes) {
        if piece.len() < MIN_SHARED_BYTES {
            self.copy(piece);
        } else {
            self.push(piece.clone());
        }
    }

    /// Appends a copy.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends all of another; nothing is left there.
    pub fn append(&mut self, other: &mut Self) {
        other.pieces.drain(..).for_each(|piece| self.share(&piece));
        other.length = 0;
        self.copy(&other.tail);
        other.tail.clear();
    }

    /// Forgets everything but the memory to copy to.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.length = 0;
        self.tail.clear();
    }

    fn end_tail(&mut self) {
        if !self.tail.is_empty() {
            self.length += self.tail.len();
            self.pieces.push_back(mem::take(&mut self.tail).freeze());
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.length + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail[..], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let all = self.pieces.iter().map(|piece| &piece[..]).chain((!self.tail.is_empty()).then_some(&self.tail[..]));
        slices.iter_mut().zip(all).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining(), "advanced by {count} of {}", self.remaining());
        while count > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let here = count.min(piece.len());
            piece.advance(here);
            count -= here;
            self.length -= here;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        self.tail.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self.pieces.front_mut() {
            Some(piece) if piece.len() == length => {
                self.length -= length;
                self.pieces.pop_front().unwrap_or_default()
            }
            Some(piece) if piece.len() > length => {
                self.length -= length;
                piece.split_to(length)
            }
            _ => {
                let mut joined = BytesMut::with_capacity(length);
                joined.put(self.take(length));
                joined.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push(usize),
        Share(usize),
        Copy(usize),
        Append(usize, usize),
        Advance(usize),
        Take(usize),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let length = || prop_oneof![0..40_usize, MIN_SHARED_BYTES - 1..MIN_SHARED_BYTES + 40];
        let step = prop_oneof![
            length().prop_map(Step::Push),
            length().prop_map(Step::Share),
            length().prop_map(Step::Copy),
            (length(), length()).prop_map(|(shared, copied)| Step::Append(shared, copied)),
            length().prop_map(Step::Advance),
            length().prop_map(Step::Take),
            Just(Step::Clear),
        ];
        prop::collection::vec(step, 1..30)
    }

    proptest! {
        #[test]
        fn pieces_read_like_one_row_of_bytes(steps in steps()) {
            let (mut pieces, mut model, mut next) = (Pieces::default(), Vec::<u8>::new(), 0_u32);
            let mut some = |length: usize| {
                let bytes: Vec<u8> = (0..length).map(|_| { next += 1; next.to_le_bytes()[0] }).collect();
                Bytes::from(bytes)
            };
            for step in steps {
                match step {
                    Step::Push(length) => {
                        let bytes = some(length);
                        model.extend_from_slice(&bytes);
                        pieces.push(bytes);
                    }
                    Step::Share(length) => {
                        let bytes = some(length);
                        model.extend_from_slice(&bytes);
                        pieces.share(&bytes);
                    }
                    Step::Copy(length) => {
                        let bytes = some(length);
                        model.extend_from_slice(&bytes);
                        pieces.copy(&bytes);
                    }
                    Step::Append(shared, copied) => {
                        let (mut other, shared, copied) = (Pieces::default(), some(shared), some(copied));
                        model.extend_from_slice(&[&shared[..], &copied[..]].concat());
                        other.share(&shared);
                        other.copy(&copied);
                        pieces.append(&mut other);
                        prop_assert_eq!(other.remaining(), 0);
                    }
                    Step::Advance(length) => {
                        let length = length.min(model.len());
                        pieces.advance(length);
                        model.drain(..length);
                    }
                    Step::Take(length) => {
                        let length = length.min(model.len());
                        let taken: Vec<u8> = model.drain(..length).collect();
                        prop_assert_eq!(&pieces.copy_to_bytes(length)[..], &taken[..]);
                    }
                    Step::Clear => {
                        pieces.clear();
                        model.clear();
                    }
                }
                prop_assert_eq!(pieces.remaining(), model.len());
                let mut slices = [IoSlice::new(&[]); 64];
                let count = pieces.chunks_vectored(&mut slices);
                let read: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                prop_assert_eq!(&read, &model);
                prop_assert!(model.starts_with(pieces.chunk()) && pieces.chunk().is_empty() == model.is_empty());
            }
        }
    }

    #[test]
    fn what_is_long_is_shared() {
        let (long, mut one, mut other) = (Bytes::from(vec![7; MIN_SHARED_BYTES]), Pieces::default(), Pieces::default());
        one.copy(b"a");
        one.share(&long);
        other.append(&mut one);
        assert_eq!((other.pieces.len(), other.pieces[1].as_ptr()), (1 + 1, long.as_ptr()));
    }
}
