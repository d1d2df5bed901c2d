//! Numbers and short texts in the files of the views: big-endian, a text with a length of 16 bits before it.

use proof::encoding::big_endian;

pub(crate) fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_be_bytes());
}

/// Ids, names and tokens are short: 16 bits of length are enough.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Bytes that are read from their beginning; `None` where they end too early.
pub(crate) struct Input<'b> {
    pub(crate) rest: &'b [u8],
}

impl<'b> Input<'b> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        self.take(8).map(big_endian)
    }

    pub(crate) fn small(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| big_endian(bytes) as u32)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        let length = self.take(2).map(big_endian)? as usize;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }
}
