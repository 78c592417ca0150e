//! The two directions of a passed stream: requests, whose beginning can be sent twice, and responses, which end with a status
//! whatever happens to the link.
//!
//! *Invariant:* of the client's body, nothing but its beginning is sent before the owner has answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use tokio::sync::{oneshot, watch};
use tonic::Status;

use super::origin::End;

/// A client's body whose beginning was read.
pub(crate) struct First {
    bytes: Bytes,
    rest: Body,
}

impl First {
    pub(crate) fn new(bytes: Bytes, rest: Body) -> Self {
        Self { bytes, rest }
    }

    /// A body that begins with what was read, and goes on when it is given the rest.
    pub(crate) fn apart(&self) -> (Body, oneshot::Sender<Body>) {
        let (go_on, rest) = oneshot::channel();
        let replay = Replay {
            first: Some(self.bytes.clone()),
            rest: Rest::Waits(rest),
        };
        (Body::new(replay), go_on)
    }

    /// What was not read yet.
    pub(crate) fn take_rest(&mut self) -> Body {
        std::mem::take(&mut self.rest)
    }

    /// All of it.
    pub(crate) fn whole(self) -> Body {
        Body::new(Replay {
            first: Some(self.bytes),
            rest: Rest::Here(self.rest),
        })
    }
}

struct Replay {
    first: Option<Bytes>,
    rest: Rest,
}

enum Rest {
    Waits(oneshot::Receiver<Body>),
    Here(Body),
}

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Rest::Waits(rest) = &mut self.rest {
            let gone =
                |_| axum::Error::new(std::io::Error::other("the stream is served elsewhere"));
            match ready!(Pin::new(rest).poll(context)).map_err(gone) {
                Ok(rest) => self.rest = Rest::Here(rest),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        match &mut self.rest {
            Rest::Here(rest) => Pin::new(rest).poll_frame(context),
            Rest::Waits(_) => Poll::Pending,
        }
    }
}

/// Responses that end when the server says so, when the link breaks, and when they are told to.
pub(crate) struct Relay<T> {
    body: Option<Body>,
    end: End,
    /// Kept for as long as the stream is open.
    _held: T,
}

impl<T> Relay<T> {
    pub(crate) fn new(body: Body, end: End, held: T) -> Self {
        Self {
            body: Some(body),
            end,
            _held: held,
        }
    }
}

/// The status that somebody closes a stream with.
pub(crate) fn asked_to_close(mut closed: watch::Receiver<Option<Status>>) -> End {
    Box::pin(async move {
        match closed.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(status)) => status.clone(),
            _ => Status::unavailable("the stream is not passed on any more"),
        }
    })
}

/// A response that ends with this status, if it is still open then.
pub(crate) fn until(response: Response, end: Option<End>) -> Response {
    match end {
        None => response,
        Some(end) => response.map(|body| Body::new(Relay::new(body, end, ()))),
    }
}

impl<T: Unpin + Send + 'static> http_body::Body for Relay<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let relay = &mut *self;
        let Some(body) = &mut relay.body else {
            return Poll::Ready(None);
        };
        // First, or a busy stream would never end.
        let status = match relay.end.as_mut().poll(context) {
            Poll::Ready(status) => status,
            Poll::Pending => match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                None => return Poll::Ready(None),
                Some(Err(_)) => Status::unavailable(
                    "the replica that served this stream is lost; connect again",
                ),
            },
        };
        // Whoever wrote the body learns that nobody reads it any more.
        relay.body = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))))
    }
}

/// A gRPC response that begins now and whose messages come when it is there.
pub(crate) fn later(response: impl Future<Output = Response> + Send + 'static) -> Response {
    let mut begun = Response::new(Body::new(Later::Waits(Box::pin(response))));
    let grpc = HeaderValue::from_static("application/grpc");
    begun.headers_mut().insert(header::CONTENT_TYPE, grpc);
    begun
}

enum Later {
    Waits(Pin<Box<dyn Future<Output = Response> + Send>>),
    Here(Body),
    Ended,
}

impl http_body::Body for Later {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            match &mut *self {
                Self::Waits(response) => {
                    let (head, body) = ready!(response.as_mut().poll(context)).into_parts();
                    // What is refused has its status at the beginning; this one has begun already.
                    match Status::from_header_map(&head.headers) {
                        None => *self = Self::Here(body),
                        Some(status) => {
                            *self = Self::Ended;
                            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&status)))));
                        }
                    }
                }
                Self::Here(body) => return Pin::new(body).poll_frame(context),
                Self::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// A status as gRPC ends a stream with it.
fn trailers(status: &Status) -> HeaderMap {
    let mut map = HeaderMap::new();
    if status.add_header(&mut map).is_err() {
        map.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
    }
    map
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tonic::Code;

    use super::*;

    async fn bytes(body: Body) -> Result<Bytes, axum::Error> {
        Ok(body.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn the_beginning_can_be_sent_twice_and_the_rest_once() {
        let mut first = First::new("begin".into(), Body::from(", rest"));
        // Tried, and not taken.
        let (tried, go_on) = first.apart();
        let mut tried = tried.into_data_stream();
        assert_eq!(tried.next().await.unwrap().unwrap(), "begin");
        drop(go_on);
        assert!(
            tried.next().await.unwrap().is_err(),
            "the rest is not for it"
        );
        // Taken.
        let (taken, go_on) = first.apart();
        go_on.send(first.take_rest()).unwrap();
        assert_eq!(bytes(taken).await.unwrap(), "begin, rest");

        let here = First::new("begin".into(), Body::from(", rest")).whole();
        assert_eq!(bytes(here).await.unwrap(), "begin, rest");
    }

    /// The status that a body ends with, after these data.
    async fn end(body: impl http_body::Body<Data = Bytes, Error = Infallible>) -> (Bytes, Code) {
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap();
        let code = Status::from_header_map(&trailers).unwrap().code();
        (collected.to_bytes(), code)
    }

    fn never() -> End {
        Box::pin(std::future::pending())
    }

    #[tokio::test]
    async fn a_lost_link_ends_a_stream_with_a_status() {
        let pieces = [Ok(Bytes::from("data")), Err(std::io::Error::other("gone"))];
        let body = Body::from_stream(stream::iter(pieces));
        let ended = end(Relay::new(body, never(), ())).await;
        assert_eq!(ended, ("data".into(), Code::Unavailable));
    }

    #[tokio::test]
    async fn what_comes_later_is_whole_and_may_be_a_refusal() {
        let response = later(async { Response::new(Body::from("data")) });
        assert_eq!(bytes(response.into_body()).await.unwrap(), "data");
        let response = later(async { Status::permission_denied("no").into_http() });
        let collected = response.into_body().collect().await.unwrap();
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(
            (status.code(), status.message()),
            (Code::PermissionDenied, "no")
        );
    }

    #[tokio::test]
    async fn who_is_told_to_end_ends_even_while_there_is_more_to_send() {
        let (close, closed) = watch::channel(None);
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from("x")));
        close.send_replace(Some(Status::permission_denied("revoked")));
        let relay = Relay::new(Body::from_stream(endless), asked_to_close(closed), ());
        assert_eq!(end(relay).await, (Bytes::new(), Code::PermissionDenied));
    }
}
