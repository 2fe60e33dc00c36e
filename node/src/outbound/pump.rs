//! Moves a request body into a hop stream.

use std::future::poll_fn;

use starling_proto::ErrorCode;
use starling_proto::mesh::v1;
use starling_transport::{SendHalf, StreamError};

use super::CallerBody;
use super::upload::{CallerError, Cursor, Piece, Upload};
use crate::fields;

/// Why a body did not get through.
#[derive(Debug, thiserror::Error)]
pub(super) enum PumpError {
    #[error(transparent)]
    Caller(#[from] CallerError),
    #[error(transparent)]
    Hop(#[from] StreamError),
}

/// Sends the body from its beginning to its end, as fast as the far side takes it. If the caller fails, the stream is
/// reset, so that the far application never takes half a body for a whole one.
pub(super) async fn pump(upload: Upload<CallerBody>, mut send: SendHalf) -> Result<(), PumpError> {
    let mut cursor = Cursor::default();
    loop {
        match poll_fn(|cx| upload.poll_next(&mut cursor, cx)).await {
            Some(Ok(Piece::Data(data))) => send.send_data(data).await?,
            Some(Ok(Piece::Trailers(headers))) => {
                let trailers = v1::Trailers { headers: fields::to_wire(&headers), load: None };
                send.send_trailers(&trailers).await?;
            }
            Some(Err(error)) => {
                send.reset(ErrorCode::Cancelled);
                return Err(error.into());
            }
            None => {
                // Trailers have ended the stream already.
                let _ = send.finish();
                return Ok(());
            }
        }
    }
}
