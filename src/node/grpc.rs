//! The stream between two nodes as the bodies of an HTTP/2 request and its response: gRPC's length-prefixed messages
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>), as any client or server of the service has them.
//!
//! The general codec copies each message into a buffer of its own on either side. Here entries go from the log to HTTP/2,
//! and from HTTP/2 to the log, as they are: one copy less for each link of the one that sends, one less for each that receives.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body as _, Frame};
use tonic::{Code, Status, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use super::{link_outbox::LinkOutbox, pieces::Pieces};
use crate::wire::{peer::PeerFrame, peer_codec};

/// The path of the one method.
pub const LINK_PATH: &str = "/clique.v1.Peer/Link";
/// Longest message, in bytes: the hello of a node with many people.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Small messages go to HTTP/2 together, up to about so many bytes.
const GATHERED_BYTES: usize = 64 * 1024;
/// Memory that small messages are encoded in, one after the other, in bytes.
const BUFFER_BYTES: usize = 8 * 1024;
/// Entries of so many bytes are not copied to what else is sent.
const MIN_APART_BYTES: usize = 16 * 1024;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: &str = "grpc-status";

/// Opens the stream as the one who dials. What is in the outbox is sent.
///
/// # Errors
/// If the other side cannot be reached, or refuses.
pub async fn open(mut channel: Channel, outbox: Arc<LinkOutbox>) -> Result<Incoming, Status> {
    let failed = |error: tonic::transport::Error| Status::from_error(Box::new(error));
    let mut request = Request::new(Body::new(Outgoing::new(outbox, None)));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(LINK_PATH);
    *request.version_mut() = Version::HTTP_2;
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    let response = channel.ready().await.map_err(failed)?.call(request).await.map_err(failed)?;
    if let Some(status) = refusal(response.headers()) {
        return Err(status);
    }
    match response.status() {
        StatusCode::OK => Ok(Incoming::new(response.into_body())),
        other => Err(Status::unavailable(format!("the peer answered with HTTP status {other}"))),
    }
}

/// The answer of the one who was dialled.
#[must_use]
pub fn answer(outbox: Arc<LinkOutbox>) -> Response<Body> {
    let success = HeaderMap::from_iter([(header::HeaderName::from_static(GRPC_STATUS), HeaderValue::from_static("0"))]);
    let mut response = Response::new(Body::new(Outgoing::new(outbox, Some(success))));
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

fn refusal(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != Code::Ok)
}

/// What is sent.
struct Outgoing {
    outbox: Arc<LinkOutbox>,
    /// Encoded, and not yet given to HTTP/2.
    gathered: BytesMut,
    /// Entries that follow it.
    entries: Bytes,
    /// How it ends.
    trailers: Option<HeaderMap>,
}

impl Outgoing {
    fn new(outbox: Arc<LinkOutbox>, trailers: Option<HeaderMap>) -> Self {
        Self { outbox, gathered: BytesMut::with_capacity(BUFFER_BYTES), entries: Bytes::new(), trailers }
    }

    fn put(&mut self, frame: &PeerFrame) {
        let (head, entries) = peer_codec::encode(frame);
        let is_apart = entries.len() >= MIN_APART_BYTES;
        let length = head.len() + entries.len();
        self.gathered.reserve(PREFIX_BYTES + if is_apart { head.len() } else { length });
        self.gathered.put_u8(0);
        // A longer one would be refused by its receiver in any case.
        self.gathered.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        self.gathered.put_slice(&head);
        if is_apart {
            self.entries = entries;
        } else {
            self.gathered.put_slice(&entries);
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        let mut is_over = false;
        while self.entries.is_empty() && self.gathered.len() < GATHERED_BYTES {
            match self.outbox.poll_frame(context) {
                Poll::Ready(Some(frame)) => self.put(&frame),
                Poll::Ready(None) => {
                    is_over = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        if !self.gathered.is_empty() {
            return data(self.gathered.split().freeze());
        }
        if !self.entries.is_empty() {
            return data(std::mem::take(&mut self.entries));
        }
        if is_over {
            Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.outbox.abandon();
    }
}

/// What is received.
pub struct Incoming {
    body: Body,
    pieces: Pieces,
    /// Length of the message that is being received.
    expected: Option<usize>,
    is_over: bool,
}

impl Incoming {
    #[must_use]
    pub fn new(body: Body) -> Self {
        Self { body, pieces: Pieces::default(), expected: None, is_over: false }
    }

    /// The next message, once it is there.
    fn next_message(&mut self) -> Result<Option<PeerFrame>, Status> {
        if self.expected.is_none() && self.pieces.remaining() >= PREFIX_BYTES {
            if self.pieces.get_u8() != 0 {
                return Err(Status::unimplemented("compressed messages are not understood"));
            }
            let length = usize::try_from(self.pieces.get_u32()).unwrap_or(usize::MAX);
            if length > MAX_MESSAGE_BYTES {
                return Err(Status::out_of_range(format!(
                    "a message of {length} bytes; {MAX_MESSAGE_BYTES} are allowed"
                )));
            }
            self.expected = Some(length);
        }
        let Some(length) = self.expected.filter(|length| *length <= self.pieces.remaining()) else { return Ok(None) };
        self.expected = None;
        let frame = peer_codec::decode(&mut (&mut self.pieces).take(length));
        frame.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<PeerFrame, Status>>> {
        loop {
            if let Some(message) = self.next_message().transpose() {
                return Poll::Ready(Some(message));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.pieces.push(data),
                    Err(frame) => {
                        if let Some(status) = frame.trailers_ref().and_then(refusal) {
                            return Poll::Ready(Some(Err(status)));
                        }
                    }
                },
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None if self.expected.is_some() || self.pieces.has_remaining() => {
                    return Poll::Ready(Some(Err(Status::internal("the stream ended within a message"))));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Incoming {
    type Item = Result<PeerFrame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let message = ready!(self.poll_message(context));
        self.is_over = !matches!(message, Some(Ok(_)));
        Poll::Ready(message)
    }
}

#[cfg(test)]
#[path = "grpc_tests.rs"]
mod tests;
