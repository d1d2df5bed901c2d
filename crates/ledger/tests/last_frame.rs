//! The last frame is signed by none: one that this trail would not have written is refused, and named.

mod support;

use ledger::directory::scan;
use support::{SimDisk, create, open, write};

/// Where a frame's header has them (`docs/formats/frame.md`).
const EPOCH: usize = 50;
const GENERATION: usize = 54;
const CHECKPOINT: usize = 134;

#[test]
fn a_last_frame_that_this_trail_did_not_write_is_refused_by_name() {
    let (disk, folder) = (SimDisk::new(), tempfile::tempdir().expect("a folder"));
    create(&disk);
    let mut ledger = open(&disk, folder.path()).expect("it opens");
    write(&mut ledger, 0..10, 7).map_err(|(_, error)| error).expect("written");
    ledger.close().expect("closed");
    drop(ledger);
    let scanned = scan(disk.as_ref(), 0, |_, _| Ok(())).expect("it reads");
    let last = scanned.frames.last().expect("a frame");
    assert_eq!(last.header.count, 0, "it closes the trail");
    let at = last.location.offset as usize;
    let name = "0000000000.seg";
    let whole = disk.get(name);
    // Without a high-water mark, as after the loss of the directory.
    let opened = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = whole.clone();
        let frame = &mut bytes[at..];
        change(frame);
        let length = proof::encoding::big_endian(&frame[10..14]) as usize;
        let check = crc32c::crc32c(&frame[..length]).to_be_bytes();
        frame[length..length + 4].copy_from_slice(&check);
        let (disk, folder) = (disk.copy(), tempfile::tempdir().expect("a folder"));
        disk.set(name, bytes);
        open(&disk, folder.path()).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(opened(&|_| {}), Ok(()));
    for (said, change) in [
        ("its epoch is not the one that comes next", &(|frame: &mut [u8]| frame[EPOCH + 3] += 2) as &dyn Fn(&mut [u8])),
        ("names other keys", &|frame: &mut [u8]| frame[GENERATION + 7] += 1),
        ("does not carry the signed state", &|frame: &mut [u8]| {
            let length = proof::encoding::big_endian(&frame[CHECKPOINT..CHECKPOINT + 2]) as usize;
            let within = &mut frame[CHECKPOINT + length - 10];
            *within = if *within == b'A' { b'B' } else { b'A' };
        }),
    ] {
        let refused = opened(change).expect_err(said);
        assert!(refused.contains(said) && refused.contains("the last"), "{refused}");
    }
}
