//! The gRPC codec: requests are decoded by prost, responses are written from the shared bytes of their resources.
//!
//! *Invariant:* no resource is encoded here.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A response in pieces.
pub(crate) struct Frame(pub(crate) Vec<Bytes>);

/// Decodes `R`, encodes [`Frame`]s.
pub(crate) struct XdsCodec<R>(PhantomData<R>);

impl<R> Default for XdsCodec<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R: Message + Default + 'static> Codec for XdsCodec<R> {
    type Encode = Frame;
    type Decode = R;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self::default()
    }
    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<R> Encoder for XdsCodec<R> {
    type Item = Frame;
    type Error = Status;
    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(frame.0.iter().map(Bytes::len).sum());
        frame.0.iter().for_each(|chunk| out.put_slice(chunk));
        Ok(())
    }
}

impl<R: Message + Default> Decoder for XdsCodec<R> {
    type Item = R;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        R::decode(from)
            .map(Some)
            .map_err(|e| Status::invalid_argument(format!("the request cannot be decoded: {e}")))
    }
}
