//! One frame: how its bytes follow from stream and sequence number, and how the other side tells that they are the same.
//!
//! Everything is in 64-bit little endian words, so that making and checking cost a few operations a word and no memory
//! but the frame itself. The header's checksum is a sum of one bijection a word: a change within one word is always seen.
//! The rest is a counter that starts where stream and sequence number say, and is compared byte for byte.

/// Shortest frame.
pub const FRAME_BYTES_MIN: usize = 64;
/// Longest frame.
pub const FRAME_BYTES_MAX: usize = 9000;

/// Bytes before the pattern.
const HEADER_BYTES: usize = 48;
const WORD: usize = 8;
/// In the word of the stream: see [`Header::bare`].
const BARE: u64 = 1 << 16;
/// Where each part of the header begins.
const SEQ_AT: usize = 16;
const STAMP_AT: usize = 24;
const STREAM_AT: usize = 32;
const SUM_AT: usize = 40;

/// Locally administered addresses, the EtherType for local experiments (IEEE 802, 0x88b5), and a mark.
const OPENING: [u8; SEQ_AT] = *b"\x02vuh\x00\x03\x02vuh\x00\x04\x88\xb5vT";

// odd, so that a multiplication by one is a bijection
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const OF_SEQ: u64 = 0xd6e8_feb8_6659_fd93;
const OF_STAMP: u64 = 0xa076_1d64_78bd_642f;
const OF_STREAM: u64 = 0xe703_7ed1_a0b4_28db;
const OF_CONTENT: u64 = 0x8ebc_6af0_9c88_c6e3;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The stream it belongs to.
    pub stream: u16,
    /// Its number in the stream, from 0.
    pub seq: u64,
    /// When it was made, in nanoseconds of the source's clock; 0 if nobody asked for it.
    pub stamp: u64,
    /// It has no content of its own: what stood in its buffer is what goes with it, and nobody looks at it.
    pub bare: bool,
}

impl Header {
    fn of(seq: u64, stamp: u64, stream_word: u64) -> Self {
        Self {
            stream: stream_word as u16,
            seq,
            stamp,
            bare: stream_word & BARE != 0,
        }
    }
}

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is no frame of ours.
    Foreign,
    /// Its header is not what was sent; which frame it was cannot be told.
    Header,
    /// Too short to have a header.
    Short,
    /// It has another length than it was made with.
    Length {
        /// The frame.
        header: Header,
        /// Bytes it was made with.
        made: usize,
    },
    /// This byte is not what was sent.
    Content {
        /// The frame.
        header: Header,
        /// The first wrong byte.
        at: usize,
    },
}

#[inline(always)]
fn mix(word: u64, odd: u64) -> u64 {
    let word = word.wrapping_mul(odd);
    // a shift by at least half the width is undone by itself: still a bijection
    word ^ (word >> 32)
}

/// Where the counter of a frame's pattern begins: another place for every frame of a stream.
#[inline(always)]
fn first_word(header: &Header) -> u64 {
    mix(mix(header.seq ^ (u64::from(header.stream) << 48), OF_SEQ), OF_CONTENT)
}

/// The word with stream, length, and whether it is bare.
#[inline(always)]
fn stream_word(header: &Header, length: usize) -> u64 {
    let bare = if header.bare { BARE } else { 0 };
    u64::from(header.stream) | bare | (length as u64) << 32
}

#[inline(always)]
fn checksum(header: &Header, stream_word: u64, content: u64) -> u64 {
    mix(header.seq, OF_SEQ)
        .wrapping_add(mix(header.stamp, OF_STAMP).rotate_left(17))
        .wrapping_add(mix(stream_word, OF_STREAM).rotate_left(31))
        .wrapping_add(mix(content, OF_CONTENT).rotate_left(47))
}

/// Words of a frame of [`FRAME_BYTES_MIN`] bytes.
pub const LEAST_WORDS: usize = FRAME_BYTES_MIN / WORD;

/// The opening's two words.
const OPENING_WORDS: [u64; 2] = {
    let (words, _) = OPENING.as_chunks::<WORD>();
    [u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]
};

/// Words of a header.
pub const HEADER_WORDS: usize = HEADER_BYTES / WORD;

/// The header of a frame whose words add up to `content`.
#[inline(always)]
fn head(header: &Header, length: usize, content: u64) -> [u64; HEADER_WORDS] {
    let stream = stream_word(header, length);
    let sum = checksum(header, stream, content);
    let [one, two] = OPENING_WORDS;
    [one, two, header.seq, header.stamp, stream, sum]
}

/// A frame without content, which is its header alone, whatever its length.
#[inline(always)]
#[must_use]
pub fn make_bare(header: &Header, length: usize) -> [u64; HEADER_WORDS] {
    head(header, length, 0)
}

/// Whether a frame of this length has no content and a header as it was sent. If not, [`check`] tells what it is.
#[inline(always)]
#[must_use]
pub fn check_bare(words: &[u64; HEADER_WORDS], length: usize) -> Option<Header> {
    let [_, _, seq, stamp, stream, _] = *words;
    let header = Header::of(seq, stamp, stream);
    (header.bare && *words == make_bare(&header, length)).then_some(header)
}

/// Whether what begins so is none of ours at all, as [`check`] would tell after a longer look.
#[inline(always)]
#[must_use]
pub fn is_foreign(words: &[u64; HEADER_WORDS]) -> bool {
    // the last four bytes of the opening are what others would not have by chance
    let [_, two, seq, stamp, stream, sum] = *words;
    let has_mark = two >> 32 == OPENING_WORDS[1] >> 32;
    !has_mark && !is_sum(&Header::of(seq, stamp, stream), stream, sum)
}

/// The shortest frame, which is what rates are measured with: all of it fits into registers.
#[inline(always)]
#[must_use]
pub fn make_least(header: &Header) -> [u64; LEAST_WORDS] {
    let first = first_word(header);
    let next = first.wrapping_add(STEP);
    let [one, two, seq, stamp, stream, sum] = head(header, FRAME_BYTES_MIN, first.wrapping_add(next));
    [one, two, seq, stamp, stream, sum, first, next]
}

/// Whether this is a shortest frame as it was sent: all of it is compared. If not, [`check`] tells what is wrong.
#[inline(always)]
#[must_use]
pub fn check_least(words: &[u64; LEAST_WORDS]) -> Option<Header> {
    let [_, _, seq, stamp, stream, _, _, _] = *words;
    let header = Header::of(seq, stamp, stream);
    let sent = make_least(&header);
    let differs = words.iter().zip(&sent).fold(0, |all, (is, sent)| all | (is ^ sent));
    (differs == 0 && !header.bare).then_some(header)
}

#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// Writes a frame over all of `into`, whose length is the frame's: [`FRAME_BYTES_MIN`] to [`FRAME_BYTES_MAX`] bytes. What is
/// behind the header of a bare one stays.
#[inline]
pub fn make(header: &Header, into: &mut [u8]) {
    let length = into.len();
    assert!(length >= FRAME_BYTES_MIN, "callers keep to the sizes of `Sizes`");
    let (begin, pattern) = into.split_at_mut(HEADER_BYTES);
    let words = match header.bare {
        true => make_bare(header, length),
        false => head(header, length, write_pattern(pattern, first_word(header))),
    };
    for (bytes, word) in begin.as_chunks_mut::<WORD>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
}

/// Gives the sum of the words written, the last one filled up with zeroes.
#[inline(always)]
fn write_pattern(pattern: &mut [u8], first: u64) -> u64 {
    let mut sum = 0u64;
    let mut word = first;
    let (words, rest) = pattern.as_chunks_mut::<WORD>();
    for bytes in words {
        *bytes = word.to_le_bytes();
        sum = sum.wrapping_add(word);
        word = word.wrapping_add(STEP);
    }
    let tail = word & tail_mask(rest.len());
    rest.copy_from_slice(&tail.to_le_bytes()[..rest.len()]);
    sum.wrapping_add(tail)
}

#[inline(always)]
fn tail_mask(bytes: usize) -> u64 {
    (1u64 << (8 * bytes)) - 1
}

/// Reads the header; every byte of the frame is compared with what was sent, of a bare one the header's.
#[inline]
pub fn check(bytes: &[u8]) -> Result<Header, Damage> {
    let length = bytes.len();
    if length < FRAME_BYTES_MIN {
        return Err(too_short(bytes));
    }
    let (header, made) = header_of(bytes);
    let seen = match header.bare {
        true => Pattern::default(),
        false => read_pattern(&bytes[HEADER_BYTES..], first_word(&header)),
    };
    let sum = checksum(&header, word_at(bytes, STREAM_AT), seen.sum);
    let same = bytes[..SEQ_AT] == OPENING && made == length && seen.differs == 0 && sum == word_at(bytes, SUM_AT);
    if same {
        Ok(header)
    } else {
        Err(look_closer(bytes, &header, made))
    }
}

/// The header, and the length that stands in it.
#[inline(always)]
fn header_of(bytes: &[u8]) -> (Header, usize) {
    let stream = word_at(bytes, STREAM_AT);
    let header = Header::of(word_at(bytes, SEQ_AT), word_at(bytes, STAMP_AT), stream);
    (header, (stream >> 32) as usize)
}

#[derive(Default)]
struct Pattern {
    /// Sum of the words.
    sum: u64,
    /// Bits that were not as expected, anywhere.
    differs: u64,
}

/// What the words of a frame's pattern add up to.
fn pattern_sum(length: usize, first: u64) -> u64 {
    let bytes = length - HEADER_BYTES;
    let words = (bytes / WORD) as u64;
    let steps = words.wrapping_mul(words.wrapping_sub(1)) / 2;
    let tail = first.wrapping_add(words.wrapping_mul(STEP)) & tail_mask(bytes % WORD);
    first
        .wrapping_mul(words)
        .wrapping_add(steps.wrapping_mul(STEP))
        .wrapping_add(tail)
}

#[inline(always)]
fn read_pattern(pattern: &[u8], first: u64) -> Pattern {
    let (mut sum, mut differs, mut expected) = (0u64, 0u64, first);
    let (words, rest) = pattern.as_chunks::<WORD>();
    for bytes in words {
        let word = u64::from_le_bytes(*bytes);
        sum = sum.wrapping_add(word);
        differs |= word ^ expected;
        expected = expected.wrapping_add(STEP);
    }
    let mut tail = [0; WORD];
    tail[..rest.len()].copy_from_slice(rest);
    let tail = u64::from_le_bytes(tail);
    differs |= tail ^ (expected & tail_mask(rest.len()));
    Pattern {
        sum: sum.wrapping_add(tail),
        differs,
    }
}

/// A frame that was cut so far that the least one does not fit. What is left of its header may still tell which it was.
#[cold]
fn too_short(bytes: &[u8]) -> Damage {
    if bytes.len() < HEADER_BYTES || bytes[..SEQ_AT] != OPENING {
        return Damage::Short;
    }
    let (header, made) = header_of(bytes);
    if is_whole(bytes, &header) {
        Damage::Length { header, made }
    } else {
        Damage::Short
    }
}

/// Whether header and checksum belong together, whatever became of the content.
fn is_whole(bytes: &[u8], header: &Header) -> bool {
    is_sum(header, word_at(bytes, STREAM_AT), word_at(bytes, SUM_AT))
}

/// The same of the words themselves.
#[inline(always)]
fn is_sum(header: &Header, stream_word: u64, sum: u64) -> bool {
    let made = (stream_word >> 32) as usize;
    if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&made) {
        return false;
    }
    let content = match header.bare {
        true => 0,
        false => pattern_sum(made, first_word(header)),
    };
    checksum(header, stream_word, content) == sum
}

/// Tells what is wrong with a frame that is not as it should be.
#[cold]
#[inline(never)]
fn look_closer(bytes: &[u8], header: &Header, made: usize) -> Damage {
    let opening = bytes[..SEQ_AT].iter().zip(&OPENING).position(|(is, sent)| is != sent);
    let (header, whole) = (*header, is_whole(bytes, header));
    match opening {
        Some(at) if whole => return Damage::Content { header, at },
        // the last four bytes of the opening are what others would not have by chance
        Some(_) if bytes[12..SEQ_AT] != OPENING[12..] => return Damage::Foreign,
        Some(_) => return Damage::Header,
        None => {}
    }
    if !whole {
        return Damage::Header;
    }
    if made != bytes.len() {
        return Damage::Length { header, made };
    }
    let mut sent = vec![0; made];
    make(&header, &mut sent);
    let at = sent.iter().zip(bytes).position(|(sent, is)| sent != is);
    Damage::Content {
        header,
        at: at.unwrap_or(SUM_AT),
    }
}
