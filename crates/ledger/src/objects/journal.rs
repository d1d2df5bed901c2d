//! Frames into a bucket, in order, one object each.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::settle::{Seen, settle};
use super::table::{Place, oldest};
use super::{FRAMES, Objects, name_of};
use crate::directory::Scan;
use crate::error::{Error, io as at};
use crate::journal::{Journal, Location};
use crate::segment::{Identity, Position, SegmentHeader};

/// The writer of a bucket's frames.
pub struct ObjectJournal {
    objects: Arc<Objects>,
    header: SegmentHeader,
    /// Who the trail is from the next segment on, where its key changes with it.
    next: Option<Identity>,
    bytes: u64,
    failed: bool,
}

impl ObjectJournal {
    /// Goes on after a scan of the last segment.
    pub(crate) fn resume(objects: Arc<Objects>, scan: &Scan) -> ObjectJournal {
        // Without a frame the bytes that were read are those of the trail's own object.
        let bytes = if scan.frames.is_empty() { 0 } else { scan.good_bytes };
        ObjectJournal { objects, header: scan.header.clone(), next: None, bytes, failed: false }
    }

    fn try_append(&mut self, position: &Position, frame: &[u8]) -> Result<Location, Error> {
        let (segment, place) = ((position.frame / FRAMES) as u32, (position.frame % FRAMES) as usize);
        let mut bytes = Vec::new();
        if place == 0 {
            if position.frame > 0 {
                let before = self.header.chain(&position.before);
                let identity = self.next.take().unwrap_or_else(|| self.header.identity.clone());
                self.header = SegmentHeader { number: segment, position: position.clone(), before, identity };
            }
            bytes = self.header.to_bytes();
            self.bytes = 0;
        }
        let header = bytes.len() as u64;
        bytes.extend_from_slice(frame);
        let bytes = Bytes::from(bytes);
        let name = name_of(segment, place);
        let version = self.make(&name, &bytes, position.frame)?;
        // The frame counts from here on. Clients that were not answered will send again and be told that it is a repeat.
        let location = Location { segment, offset: self.bytes + header, length: frame.len() as u64 };
        self.bytes += bytes.len() as u64;
        let place = Place { name, number: place as u8, version, length: bytes.len() as u64 };
        self.objects.grown(segment, place, &bytes).map_err(at("note", "an object"))?;
        Ok(location)
    }

    /// Makes the object of a frame. Once it was sent, only these bytes are ever sent for it, and what stands at its name
    /// says whether it was made.
    fn make(&self, name: &str, bytes: &Bytes, frame: u64) -> Result<Option<String>, Error> {
        let store = self.objects.store();
        // Of several versions the first says by whom.
        let look = || {
            Ok(match self.first(name)? {
                Some((held, version)) if held == *bytes => Seen::Ours(version),
                Some(_) => Seen::Another,
                None => Seen::Before,
            })
        };
        // If we stop once it was sent: the frame is there and nobody was answered, which recovery cannot tell from one
        // that was.
        let made = settle(|| store.create(name, bytes), look, |pause| store.pause(pause));
        made.map_err(at("write", format!("frame {frame} to the object store")))?.ok_or(Error::Fenced { frame })
    }

    /// The first version of an object, with its id.
    fn first(&self, name: &str) -> io::Result<Option<(Bytes, Option<String>)>> {
        let store = self.objects.store();
        let mut versions = store.versions(name)?;
        versions.retain(|version| version.name == name);
        let Some((id, _)) = oldest(&versions) else { return Ok(None) };
        Ok(store.get(name, id.as_deref(), None)?.map(|bytes| (bytes, id)))
    }
}

impl Journal for ObjectJournal {
    fn append(&mut self, position: &Position, frame: &[u8]) -> Result<Location, Error> {
        if self.failed {
            return Err(Error::Stopped);
        }
        self.try_append(position, frame).inspect_err(|_| self.failed = true)
    }

    fn may_change_key(&self, position: &Position) -> bool {
        position.frame.is_multiple_of(FRAMES)
    }

    fn change_key(&mut self, _: &Position, identity: Identity) -> Result<Option<u32>, Error> {
        // The header is part of the object of the first frame.
        self.next = Some(identity);
        Ok(None)
    }
}
