//! The spool: records that were handed over and are not in the trail yet (`docs/formats/spool.md`).
//!
//! Invariants:
//! - what [`Spool::append`] returned for is on the disk, sealed, under a number that is never given again;
//! - what [`Spool::acknowledge`] was told of is forgotten, and its place is free again;
//! - a frame that a crash cut off was handed over by nobody: it is left out when the spool is opened.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::error::{Error, io};

/// Bytes of one record, at most: what the server takes in one line.
pub const RECORD_BYTES_MAX: usize = 64 << 10;
/// A segment ends when it is larger than this.
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const STREAM_BYTES_MAX: usize = 100;
const MAGIC: &[u8; 8] = b"CNDRSPOL";
const VERSION: u16 = 1;
/// Number and length before each sealed record.
const HEAD_BYTES: usize = 12;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// How a spool is opened.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The key; without it the spool keeps one of its own beside it, which guards against a stolen backup of the
    /// records alone.
    pub key: Option<[u8; 32]>,
    /// Bytes on disk, at most.
    pub bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { key: None, bytes_max: 1 << 30 }
    }
}

struct Segment {
    path: PathBuf,
    /// The number of its last record; of an empty one that before its first.
    last: u64,
    bytes: u64,
}

/// Where reading goes on: the segment, the place in it, and the number before.
struct Place {
    path: PathBuf,
    at: u64,
    number: u64,
}

/// A spool in a folder of its own. One process at a time has it.
pub struct Spool {
    folder: PathBuf,
    stream: String,
    key: LessSafeKey,
    bytes_max: u64,
    acknowledged: u64,
    next: u64,
    segments: Vec<Segment>,
    /// The last segment, where it takes more.
    file: Option<File>,
    place: Option<Place>,
    read_to: Option<Place>,
    _lock: File,
}

/// A record with its number.
pub type Numbered = (u64, Vec<u8>);

impl Spool {
    /// Opens the spool in a folder, which is made if it is not there. `stream` is the part of the records' ids before
    /// their numbers: 1 to 100 visible ASCII characters, another one for each spool.
    ///
    /// # Errors
    /// Another process has it; it is of another version or stream; the disk refuses.
    pub fn open(folder: &Path, stream: &str, options: Options) -> Result<Spool, Error> {
        if !(1..=STREAM_BYTES_MAX).contains(&stream.len()) || !stream.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Invalid("stream must be 1 to 100 visible ASCII characters".into()));
        }
        std::fs::create_dir_all(folder).map_err(io("make"))?;
        let private = |name: &str| {
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(name))
        };
        let lock = private("lock").map_err(io("lock"))?;
        lock.try_lock().map_err(|_| Error::Locked(folder.display().to_string()))?;
        let key = match options.key {
            Some(key) => key,
            None => own_key(folder)?,
        };
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| Error::Stopped)?;
        let mut spool = Spool {
            folder: folder.to_owned(),
            stream: stream.to_owned(),
            key: LessSafeKey::new(key),
            bytes_max: options.bytes_max,
            acknowledged: read_acknowledged(&folder.join("acknowledged"), stream)?,
            next: 1,
            segments: Vec::new(),
            file: None,
            place: None,
            read_to: None,
            _lock: lock,
        };
        spool.look()?;
        Ok(spool)
    }

    /// The part of the records' ids before their numbers.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The number that the next record gets.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Records that are not acknowledged.
    pub fn pending(&self) -> u64 {
        self.next - 1 - self.acknowledged
    }

    fn header(&self) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&(self.stream.len() as u16).to_be_bytes());
        header.extend_from_slice(self.stream.as_bytes());
        header
    }

    /// Looks at every segment.
    fn look(&mut self) -> Result<(), Error> {
        let mut paths = Vec::new();
        for item in std::fs::read_dir(&self.folder).map_err(io("list"))? {
            let path = item.map_err(io("list"))?.path();
            if path.extension().is_some_and(|extension| extension == "spool") {
                paths.push(path);
            }
        }
        paths.sort();
        let mut last = self.acknowledged;
        for path in paths {
            let (end, number) = self.check(&path)?;
            let file = OpenOptions::new().write(true).open(&path).map_err(io("open"))?;
            if file.metadata().map_err(io("open"))?.len() > end {
                file.set_len(end).and_then(|()| file.sync_all()).map_err(io("cut"))?;
            }
            match number.filter(|number| *number > self.acknowledged) {
                None => std::fs::remove_file(&path).map_err(io("remove"))?,
                Some(number) => {
                    last = last.max(number);
                    self.segments.push(Segment { path, last: number, bytes: end });
                }
            }
        }
        self.next = last + 1;
        Ok(())
    }

    /// Where the whole frames of a segment end, and the number of the last one.
    fn check(&self, path: &Path) -> Result<(u64, Option<u64>), Error> {
        let header = self.header();
        let mut file = File::open(path).map_err(io("open"))?;
        let size = file.metadata().map_err(io("open"))?.len();
        let mut held = vec![0; header.len().min(size as usize)];
        file.read_exact(&mut held).map_err(io("read"))?;
        if held != header {
            // A crash can leave a header that was not written to its end.
            if header.starts_with(&held) {
                return Ok((0, None));
            }
            return Err(damaged(path, "not of this version or of another stream"));
        }
        let (mut end, mut last) = (header.len() as u64, None);
        while let Some((number, length)) = read_head(&mut file)? {
            let next = end + (HEAD_BYTES + length) as u64;
            let fits = (NONCE_BYTES + TAG_BYTES + 1..=RECORD_BYTES_MAX + NONCE_BYTES + TAG_BYTES).contains(&length);
            if next > size || !fits {
                break;
            }
            file.seek(SeekFrom::Start(next)).map_err(io("read"))?;
            (end, last) = (next, Some(number));
        }
        Ok((end, last))
    }

    fn bound(&self, number: u64) -> Vec<u8> {
        [b"candor/v1/spool\n", self.stream.as_bytes(), b"\n", &number.to_be_bytes()].concat()
    }

    /// Takes records under the next numbers; the first of them. They are on the disk when it returns.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Invalid`], or the disk refuses: nothing was taken.
    pub fn append(&mut self, records: &[Vec<u8>]) -> Result<u64, Error> {
        let first = self.next;
        let mut data = Vec::new();
        for (number, record) in (first..).zip(records) {
            if record.is_empty() || record.len() > RECORD_BYTES_MAX {
                let why = format!("a record has {} bytes, 1 to {RECORD_BYTES_MAX} are allowed", record.len());
                return Err(Error::Invalid(why));
            }
            let mut nonce = [0; NONCE_BYTES];
            getrandom::fill(&mut nonce).map_err(|_| Error::Stopped)?;
            let mut sealed = record.clone();
            let bound = Aad::from(self.bound(number));
            self.key
                .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed)
                .map_err(|_| Error::Stopped)?;
            data.extend_from_slice(&number.to_be_bytes());
            data.extend_from_slice(&((NONCE_BYTES + sealed.len()) as u32).to_be_bytes());
            data.extend_from_slice(&nonce);
            data.extend_from_slice(&sealed);
        }
        let held: u64 = self.segments.iter().map(|segment| segment.bytes).sum();
        if held + data.len() as u64 > self.bytes_max {
            return Err(Error::Full { limit: self.bytes_max });
        }
        self.segment(first)?;
        let (Some(file), Some(segment)) = (&mut self.file, self.segments.last_mut()) else {
            return Err(Error::Stopped);
        };
        if let Err(error) = file.write_all(&data).and_then(|()| file.sync_data()) {
            // Whether it is there is not known: nobody was told that it is, and no other record may get its number
            // while it may be.
            let cut = file.set_len(segment.bytes).and_then(|()| file.sync_data());
            self.file = None;
            return Err(io("write")(cut.err().unwrap_or(error)));
        }
        segment.bytes += data.len() as u64;
        self.next = first + records.len() as u64;
        segment.last = self.next - 1;
        Ok(first)
    }

    /// Makes sure that there is a segment that takes more.
    fn segment(&mut self, first: u64) -> Result<(), Error> {
        let room = self.segments.last().is_some_and(|segment| segment.bytes < SEGMENT_BYTES_MAX);
        if self.file.is_some() && room {
            return Ok(());
        }
        let path = self.folder.join(format!("{first:020}.spool"));
        let header = self.header();
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(io("make"))?;
        file.write_all(&header).map_err(io("write"))?;
        sync_folder(&self.folder)?;
        self.file = Some(file);
        self.segments.push(Segment { path, last: first - 1, bytes: header.len() as u64 });
        Ok(())
    }

    /// The oldest records that are not acknowledged.
    ///
    /// # Errors
    /// The disk refuses, or a record does not open under the key.
    pub fn waiting(&mut self, records_max: usize, bytes_max: usize) -> Result<Vec<Numbered>, Error> {
        let (mut found, mut size, mut read_to) = (Vec::new(), 0, None);
        'segments: for segment in self.segments.iter().filter(|segment| segment.last > self.acknowledged) {
            let mut file = File::open(&segment.path).map_err(io("open"))?;
            let known =
                self.place.as_ref().filter(|place| place.path == segment.path && place.number == self.acknowledged);
            let mut at = known.map_or(self.header().len() as u64, |place| place.at);
            file.seek(SeekFrom::Start(at)).map_err(io("read"))?;
            let mut file = std::io::BufReader::new(file);
            while let Some((number, length)) = read_head(&mut file)? {
                let mut sealed = vec![0; length];
                file.read_exact(&mut sealed).map_err(io("read"))?;
                at += (HEAD_BYTES + length) as u64;
                if number <= self.acknowledged {
                    continue;
                }
                if found.len() == records_max || !found.is_empty() && size + length > bytes_max {
                    break 'segments;
                }
                size += length;
                found.push((number, self.open_record(&segment.path, number, sealed)?));
                read_to = Some(Place { path: segment.path.clone(), at, number });
            }
        }
        self.read_to = read_to;
        Ok(found)
    }

    fn open_record(&self, path: &Path, number: u64, sealed: Vec<u8>) -> Result<Vec<u8>, Error> {
        let bad = || damaged(path, "a record does not open under this key");
        let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or_else(bad)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(self.bound(number)), &mut body).map_err(|_| bad())?;
        Ok(opened.to_vec())
    }

    /// Everything up to this number is in the trail, or was refused for good. Told again it changes nothing.
    ///
    /// # Errors
    /// The disk refuses; what was acknowledged may then be sent again, which the trail knows.
    pub fn acknowledge(&mut self, number: u64) -> Result<(), Error> {
        if number <= self.acknowledged {
            return Ok(());
        }
        self.acknowledged = number;
        if self.read_to.as_ref().is_some_and(|place| place.number == number) {
            self.place = self.read_to.take();
        }
        let (path, new) = (self.folder.join("acknowledged"), self.folder.join("acknowledged.new"));
        std::fs::write(&new, format!("candor/spool/v1 {} {number}\n", self.stream)).map_err(io("write"))?;
        std::fs::rename(&new, &path).map_err(io("write"))?;
        if self.next - 1 <= number {
            // Nothing waits: the last segment's place is free too.
            self.file = None;
        }
        let open = self.file.is_some();
        let count = self.segments.len();
        for (place, segment) in std::mem::take(&mut self.segments).into_iter().enumerate() {
            if segment.last <= number && !(open && place + 1 == count) {
                std::fs::remove_file(&segment.path).map_err(io("remove"))?;
            } else {
                self.segments.push(segment);
            }
        }
        Ok(())
    }
}

fn damaged(path: &Path, why: &'static str) -> Error {
    Error::Damaged { path: path.display().to_string(), why }
}

/// Number and length of the next frame; `None` where there is no whole head.
fn read_head(file: &mut impl Read) -> Result<Option<(u64, usize)>, Error> {
    let mut head = [0; HEAD_BYTES];
    let mut held = 0;
    while held < head.len() {
        match file.read(&mut head[held..]) {
            Ok(0) => return Ok(None),
            Ok(read) => held += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(io("read")(error)),
        }
    }
    let number = proof::encoding::big_endian(&head[..8]);
    Ok(Some((number, proof::encoding::big_endian(&head[8..]) as usize)))
}

fn read_acknowledged(path: &Path, stream: &str) -> Result<u64, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(io("read")(error)),
    };
    let rest = text.strip_prefix("candor/spool/v1 ").and_then(|rest| rest.strip_prefix(stream)?.strip_prefix(' '));
    let number = rest.and_then(|number| number.trim_end().parse().ok());
    number.ok_or_else(|| damaged(path, "not of this version or of another stream"))
}

fn own_key(folder: &Path) -> Result<[u8; 32], Error> {
    let path = folder.join("key");
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| damaged(&path, "a key has 32 bytes")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|_| Error::Stopped)?;
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io("make"))?;
            file.write_all(&key).and_then(|()| file.sync_all()).map_err(io("write"))?;
            sync_folder(folder)?;
            Ok(key)
        }
        Err(error) => Err(io("read")(error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync"))
}
