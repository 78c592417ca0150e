#![allow(clippy::unwrap_used)]
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use http_body_util::StreamBody;
use prost::Message as _;

use super::*;

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// Requests that arrive in pieces of this size.
fn requests(bytes: &[u8], size: usize) -> Requests<DiscoveryRequest> {
    let pieces: Vec<_> = bytes
        .chunks(size)
        .map(|piece| Ok::<_, Infallible>(http_body::Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    Requests::new(Body::new(StreamBody::new(futures::stream::iter(pieces))))
}

#[tokio::test]
async fn requests_are_whole_however_they_arrive_and_leave_no_buffer() {
    let asks = |name: &str| DiscoveryRequest {
        type_url: name.to_owned(),
        resource_names: vec!["x".repeat(40_000)],
        ..DiscoveryRequest::default()
    };
    let sent = [asks("a"), DiscoveryRequest::default(), asks("b")];
    let bytes: Vec<u8> = sent
        .iter()
        .flat_map(|it| framed(&it.encode_to_vec()))
        .collect();
    for size in [1, 4, 5, 6, 39_999, usize::MAX] {
        let mut requests = requests(&bytes, size);
        for expected in &sent {
            assert_eq!(
                requests.message().await.unwrap().as_ref(),
                Some(expected),
                "{size}"
            );
        }
        assert_eq!(requests.buffer.capacity(), 0, "{size}");
        assert_eq!(requests.message().await.unwrap(), None, "{size}");
    }
}

#[tokio::test]
async fn what_is_no_request_ends_the_stream_with_the_reason() {
    let code = async |bytes: &[u8]| requests(bytes, 3).message().await.unwrap_err().code();
    assert_eq!(code(&[0, 0, 0]).await, tonic::Code::Internal);
    assert_eq!(
        code(&framed(&[0xff, 0xff])).await,
        tonic::Code::InvalidArgument
    );
    assert_eq!(code(&[1, 0, 0, 0, 0]).await, tonic::Code::Unimplemented);
    assert_eq!(
        code(&[0, 0xff, 0, 0, 0]).await,
        tonic::Code::ResourceExhausted
    );
}

#[tokio::test]
async fn responses_are_sent_in_pieces_of_shared_bytes() {
    let (send, frames) = mpsc::channel(1);
    let large = Bytes::from(vec![7; 3 * PIECE]);
    let small: Vec<Bytes> = (0..1000).map(|_| Bytes::from_static(&[1; 100])).collect();
    let chunks: Vec<Bytes> = small
        .iter()
        .chain([&large])
        .chain(&small)
        .cloned()
        .collect();
    let expected = framed(&chunks.concat());
    send.send(Ok(Frame(chunks))).await.unwrap();
    let mut body = Responses::new(frames);
    let (mut seen, mut shared) = (Vec::new(), false);
    while seen.len() < expected.len() {
        let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
        shared |= piece.as_ptr() == large.as_ptr();
        assert!(piece.len() <= PIECE || piece.len() == large.len());
        assert!(piece.len() > 1000 || seen.len() + piece.len() == expected.len());
        seen.extend_from_slice(&piece);
    }
    assert_eq!(seen, expected);
    assert!(shared, "a large chunk is not copied");
    assert_eq!(body.chunks.capacity(), 0);

    send.send(Err(Status::unavailable("gone"))).await.unwrap();
    let trailers = body
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    assert_eq!(
        (&trailers["grpc-status"], &trailers["grpc-message"]),
        (&"14".parse().unwrap(), &"gone".parse().unwrap())
    );
    assert!(body.frame().await.is_none());
}
