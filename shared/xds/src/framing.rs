//! gRPC messages on a long stream: requests read from a body, responses written to one.
//!
//! tonic's own reader and writer keep a buffer as large as the largest message they have seen for as long as a stream is
//! open. With ten thousand clusters that is megabytes for each idle stream; here it is nothing.
//!
//! *Invariant:* between two messages no buffer is held, and of a response that is being sent at most [`PIECE`] bytes are
//! copied at a time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;
use tonic::Status;

use crate::codec::Frame;

/// Of a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// The largest request: what a large client holds, listed when it reconnects, exceeds gRPC's usual 4 MiB (rule C6).
pub(crate) const LARGEST_REQUEST: usize = 64 << 20;

/// Small chunks of a response are sent together in pieces of this size, that of an HTTP/2 frame.
const PIECE: usize = 16 << 10;

/// The requests of a client.
pub(crate) struct Requests<R> {
    body: Body,
    buffer: BytesMut,
    of: PhantomData<fn() -> R>,
}

impl<R: prost::Message + Default> Requests<R> {
    pub(crate) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            of: PhantomData,
        }
    }

    /// The next request; `None` once the client has said its last. Nothing is lost if this is dropped while it waits.
    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    pub(crate) async fn message(&mut self) -> Result<Option<R>, Status> {
        loop {
            if let Some(request) = self.decode()? {
                return Ok(Some(request));
            }
            match self.read().await? {
                true => {}
                false if self.buffer.is_empty() => return Ok(None),
                false => return Err(Status::internal("the stream ends within a request")),
            }
        }
    }

    /// The first request, what was read to have it, and what was not.
    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    pub(crate) async fn first(mut self) -> Result<(R, Bytes, Body), Status> {
        loop {
            if let Some((request, _)) = self.whole()? {
                return Ok((request, self.buffer.freeze(), self.body));
            }
            if !self.read().await? {
                return Err(Status::invalid_argument(
                    "the stream ends without a request",
                ));
            }
        }
    }

    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    fn decode(&mut self) -> Result<Option<R>, Status> {
        let Some((request, end)) = self.whole()? else {
            return Ok(None);
        };
        self.buffer = BytesMut::from(&self.buffer[end..]);
        Ok(Some(request))
    }

    /// Reads some more; whether there was more.
    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    async fn read(&mut self) -> Result<bool, Status> {
        match self.body.frame().await {
            // Trailers of a client mean nothing to gRPC.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                Ok(true)
            }
            Some(Err(error)) => Err(Status::cancelled(format!("the client is gone: {error}"))),
            None => Ok(false),
        }
    }

    /// The request at the beginning of what was read, if it is whole, and where it ends.
    #[allow(clippy::result_large_err, reason = "tonic's error type")]
    fn whole(&self) -> Result<Option<(R, usize)>, Status> {
        let Some(mut head) = self.buffer.get(..HEAD) else {
            return Ok(None);
        };
        if head.get_u8() != 0 {
            let message = "compressed requests are not supported; send without grpc-encoding";
            return Err(Status::unimplemented(message));
        }
        let length = head.get_u32() as usize;
        if length > LARGEST_REQUEST {
            return Err(Status::resource_exhausted(format!(
                "a request of {length} bytes; the limit is {LARGEST_REQUEST}"
            )));
        }
        let Some(message) = self.buffer.get(HEAD..HEAD + length) else {
            return Ok(None);
        };
        let request = R::decode(message)
            .map_err(|e| Status::invalid_argument(format!("the request cannot be decoded: {e}")))?;
        Ok(Some((request, HEAD + length)))
    }
}

/// The responses to a client, as the body of the HTTP response; a status ends it.
pub(crate) struct Responses {
    frames: mpsc::Receiver<Result<Frame, Status>>,
    /// What is left of the response that is being sent.
    chunks: VecDeque<Bytes>,
    ended: bool,
}

impl Responses {
    pub(crate) fn new(frames: mpsc::Receiver<Result<Frame, Status>>) -> Self {
        Self {
            frames,
            chunks: VecDeque::new(),
            ended: false,
        }
    }

    fn next_piece(&mut self) -> Option<Bytes> {
        let mut size = 0;
        let small = self.chunks.iter().take_while(|chunk| {
            size += chunk.len();
            size <= PIECE
        });
        let piece = match small.count() {
            0 | 1 => self.chunks.pop_front(),
            several => {
                let mut piece = BytesMut::with_capacity(size.min(PIECE));
                self.chunks
                    .drain(..several)
                    .for_each(|chunk| piece.put(chunk));
                Some(piece.freeze())
            }
        };
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
        piece
    }
}

impl http_body::Body for Responses {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.chunks.is_empty() {
            match ready!(self.frames.poll_recv(context)) {
                Some(Ok(Frame(chunks))) => {
                    let length: usize = chunks.iter().map(Bytes::len).sum();
                    let mut head = BytesMut::with_capacity(HEAD);
                    head.put_u8(0);
                    head.put_u32(u32::try_from(length).expect("a response is under 4 GiB"));
                    self.chunks = chunks.into();
                    self.chunks.push_front(head.freeze());
                }
                end => {
                    self.ended = true;
                    let status = end.and_then(Result::err).unwrap_or_else(|| Status::ok(""));
                    return Poll::Ready(Some(Ok(http_body::Frame::trailers(trailers(&status)))));
                }
            }
        }
        Poll::Ready(
            self.next_piece()
                .map(|piece| Ok(http_body::Frame::data(piece))),
        )
    }
}

/// A status as gRPC ends a stream with it.
fn trailers(status: &Status) -> HeaderMap {
    let mut map = HeaderMap::new();
    if status.add_header(&mut map).is_err() {
        map.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("13"));
    }
    map
}

#[cfg(test)]
mod tests;
