//! Bodies: read within a time and a length, expanded within a length.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::Limits;
use crate::problem::Problem;

/// Between two pieces of a body, at most.
const PIECE_WAIT: Duration = Duration::from_secs(10);
/// For a whole body, at most.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// For the rest of a body that was refused, at most.
const DISCARD_WAIT: Duration = Duration::from_secs(2);

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// How the headers say that the body is packed.
pub(crate) fn packing(headers: &HeaderMap) -> Result<Packing, Problem> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let one = match (values.next(), values.next()) {
        (None, _) => return Ok(Packing::Plain),
        (Some(value), None) => value.to_str().unwrap_or_default().trim().to_ascii_lowercase(),
        (Some(_), Some(_)) => String::new(),
    };
    match one.as_str() {
        "identity" => Ok(Packing::Plain),
        "gzip" | "x-gzip" => Ok(Packing::Gzip),
        "zstd" => Ok(Packing::Zstd),
        _ => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "encoding",
            "Content-Encoding must be gzip, zstd or identity, once",
        )),
    }
}

/// A share of the memory that all bodies together may take, grown as a body grows and given back when it is dropped.
pub(crate) struct Share {
    all: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

/// Bytes of a permit.
const SHARE_BYTES: usize = 64 << 10;

impl Share {
    /// Permits for so many bytes.
    pub(crate) fn all(bytes: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(bytes / SHARE_BYTES))
    }

    pub(crate) fn new(all: &Arc<Semaphore>) -> Share {
        Share { all: Arc::clone(all), held: None }
    }

    /// Takes what is needed to hold so many bytes in all.
    fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let have = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(SHARE_BYTES).saturating_sub(have);
        if more == 0 {
            return Ok(());
        }
        let count = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.all).try_acquire_many_owned(count).map_err(|_| {
            let detail = "the server holds as many bytes of bodies as it may: send this again";
            Problem::later(StatusCode::SERVICE_UNAVAILABLE, detail)
        })?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        Ok(())
    }
}

/// Reads a body as it comes.
pub(crate) async fn read(body: Body, share: &mut Share, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let slow =
        || Problem::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body came too slowly: 10 s for a piece, 60 s in all");
    let all = async {
        let mut body = body;
        let mut bytes = Vec::new();
        loop {
            let Ok(frame) = tokio::time::timeout(PIECE_WAIT, body.frame()).await else { return Err(slow()) };
            let Some(frame) = frame else { return Ok(bytes) };
            let frame = frame.map_err(|_| Problem::bad("the body ended before its end"))?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > limits.body_bytes_max {
                    return Err(too_large(limits.body_bytes_max));
                }
                share.grow(bytes.len() + data.len())?;
                bytes.extend_from_slice(data);
            }
        }
    };
    tokio::time::timeout(BODY_WAIT, all).await.unwrap_or_else(|_| Err(slow()))
}

/// Reads a refused body to its end, if that comes soon, and keeps nothing of it: a client that is still sending would
/// not see its answer, and the connection can be used again.
pub(crate) async fn discard(mut body: Body, limits: &Limits) {
    let mut count = 0;
    let all = async {
        while let Some(Ok(frame)) = body.frame().await {
            count += frame.data_ref().map_or(0, |data| data.len());
            if count > limits.body_bytes_max {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_WAIT, all).await;
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("the body is over the limit of {limit} bytes: send it in parts");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}

/// Expands a body. Blocks.
pub(crate) fn expand(bytes: Vec<u8>, packing: Packing, share: &mut Share, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let broken = |_| Problem::bad("the body is not what its Content-Encoding says, or is cut");
    match packing {
        Packing::Plain => Ok(bytes),
        Packing::Gzip => drain(flate2::read::MultiGzDecoder::new(bytes.as_slice()), bytes.len(), share, limits),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(bytes.as_slice()).map_err(broken)?;
            drain(decoder, bytes.len(), share, limits)
        }
    }
}

/// Reads all of a decoder, a piece at a time, within the limit and the share; `packed` bytes are held beside it.
fn drain(mut from: impl Read, packed: usize, share: &mut Share, limits: &Limits) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    let mut piece = vec![0; SHARE_BYTES];
    loop {
        let count = from
            .read(&mut piece)
            .map_err(|_| Problem::bad("the body is not what its Content-Encoding says, or is cut"))?;
        if count == 0 {
            return Ok(out);
        }
        if out.len() + count > limits.expanded_bytes_max {
            return Err(too_large(limits.expanded_bytes_max));
        }
        share.grow(packed + out.len() + count)?;
        out.extend_from_slice(&piece[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_bomb_is_refused_at_the_limit_and_a_good_body_expands() {
        let limits = Limits { expanded_bytes_max: 1 << 20, ..Limits::default() };
        let all = Share::all(64 << 20);
        let share = || Share::new(&all);
        let pack = |bytes: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(bytes).expect("packed");
            (gzip.finish().expect("packed"), zstd::bulk::compress(bytes, 19).expect("packed"))
        };
        for length in [0, 10, 1 << 20] {
            let (gzip, zstd) = pack(&vec![b'x'; length]);
            assert_eq!(expand(gzip, Packing::Gzip, &mut share(), &limits).expect("expands").len(), length);
            assert_eq!(expand(zstd, Packing::Zstd, &mut share(), &limits).expect("expands").len(), length);
        }
        let (gzip, zstd) = pack(&vec![b'x'; 64 << 20]);
        assert!(gzip.len() < 100_000 && zstd.len() < 100_000);
        assert!(expand(gzip.clone(), Packing::Gzip, &mut share(), &limits).is_err());
        assert!(expand(zstd, Packing::Zstd, &mut share(), &limits).is_err());
        assert!(expand(gzip[..gzip.len() / 2].to_vec(), Packing::Gzip, &mut share(), &Limits::default()).is_err());
        assert!(expand(b"no gzip".to_vec(), Packing::Gzip, &mut share(), &limits).is_err());
        // Everything was given back; what is over the share of all is refused, however small it came.
        assert_eq!(all.available_permits(), (64 << 20) / SHARE_BYTES);
        let small = Share::all(512 << 10);
        assert!(expand(gzip, Packing::Gzip, &mut Share::new(&small), &Limits::default()).is_err());
        assert_eq!(small.available_permits(), 8);
    }
}
