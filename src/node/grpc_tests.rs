use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;

use super::*;
use crate::{
    clique::Origin,
    wire::{entry::ENTRY_TAG, peer::Entries},
};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn entries(first: u64, length: usize) -> PeerFrame {
    let origin = Origin { node: 2, incarnation: 9 };
    PeerFrame::Entries(Entries { origin, first, sent_unix_us: 0, bytes: vec![ENTRY_TAG; length].into() })
}

/// What goes to HTTP/2 for these frames, piece by piece, and the trailers.
async fn sent(frames: &[PeerFrame]) -> (Vec<Bytes>, Option<HeaderMap>) {
    let outbox = Arc::new(LinkOutbox::new(usize::MAX));
    frames.iter().for_each(|frame| outbox.push(frame.clone()));
    outbox.end();
    let (mut body, mut pieces, mut trailers) = (answer(outbox).into_body(), Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(piece) => pieces.push(piece),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    (pieces, trailers)
}

async fn received(pieces: Vec<Bytes>) -> Vec<Result<PeerFrame, Code>> {
    let body = StreamBody::new(stream::iter(pieces).map(|piece| Ok::<_, Status>(Frame::data(piece))));
    Incoming::new(Body::new(body)).map(|frame| frame.map_err(|status| status.code())).collect().await
}

/// The same bytes in other pieces.
fn cut(pieces: &[Bytes], lengths: &[usize]) -> Vec<Bytes> {
    let mut rest: Bytes = pieces.concat().into();
    let mut cut = Vec::new();
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty()
        && let Some(length) = lengths.next()
    {
        cut.push(rest.split_to((*length).min(rest.len())));
    }
    cut
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_come_as_they_were_sent_however_the_stream_is_cut(
        lengths in prop::collection::vec(prop_oneof![Just(0), 1..300_usize, 10_000..70_000_usize], 0..12),
        pieces in prop::collection::vec(prop_oneof![1..9_usize, 1_000..40_000_usize], 1..5),
    ) {
        let frames: Vec<PeerFrame> = lengths
            .iter()
            .zip(1..)
            .map(|(length, number)| if *length == 0 { PeerFrame::Goodbye } else { entries(number, *length) })
            .collect();
        runtime().block_on(async {
            let (sent, trailers) = sent(&frames).await;
            let trailers = trailers.unwrap();
            prop_assert_eq!(trailers.get(GRPC_STATUS).unwrap(), "0");
            let expected: Vec<_> = frames.into_iter().map(Ok).collect();
            prop_assert_eq!(received(cut(&sent, &pieces)).await, expected.clone());
            prop_assert_eq!(received(sent).await, expected);
            Ok(())
        })?;
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize) {
        let frames = runtime().block_on(received(cut(&[bytes.into()], &[piece])));
        prop_assert!(frames.iter().rev().skip(1).all(Result::is_ok), "it ends with the first error: {frames:?}");
    }
}

#[test]
fn large_entries_are_not_copied_on_their_way() {
    let frame = entries(1, 64 * 1024);
    let place = match &frame {
        PeerFrame::Entries(entries) => entries.bytes.as_ptr(),
        other => panic!("{other:?}"),
    };
    runtime().block_on(async {
        let (sent, _) = sent(std::slice::from_ref(&frame)).await;
        let received = received(sent).await;
        assert!(matches!(&received[..], [Ok(PeerFrame::Entries(received))] if received.bytes.as_ptr() == place));
    });
}

#[test]
fn small_frames_go_together() {
    let frames: Vec<PeerFrame> = (1..=100).map(|number| entries(number, 100)).collect();
    let (sent, _) = runtime().block_on(sent(&frames));
    // Two, if the runtime's budget for one turn of a task was used up between them.
    assert!(sent.len() <= 2, "{:?}", sent.iter().map(Bytes::len).collect::<Vec<_>>());
}

#[test]
fn what_is_no_message_ends_the_stream_with_a_reason() {
    let too_long = [&[0][..], &(u32::try_from(MAX_MESSAGE_BYTES).unwrap() + 1).to_be_bytes()].concat();
    let cases = [
        (vec![1, 0, 0, 0, 0], Code::Unimplemented),
        (too_long, Code::OutOfRange),
        (vec![0, 0, 0, 0, 9, 1], Code::Internal),
        (vec![0, 0], Code::Internal),
        (vec![0, 0, 0, 0, 1, 7], Code::InvalidArgument),
    ];
    for (bytes, code) in cases {
        let frames = runtime().block_on(received(vec![bytes.clone().into()]));
        assert_eq!(frames, [Err(code)], "{bytes:?}");
    }
}
