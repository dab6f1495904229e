//! scrypt (RFC 7914): `$scrypt$ln=17,r=8,p=1$SALT$OUTPUT`, in which the PHC string format and passlib agree.
//!
//! The crates that compute it allocate its table for each run, which is as large as the hash wants it. Here it is computed in
//! memory that the hash gate has, so that a rush of such logins takes no more memory than any other.

use argon2::Block;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::stored::{Bounds, RunError, Unusable, base64, numbers, salted};

/// KiB that are written and read, over all lanes: four times what OWASP asks for, two and a half seconds.
const MAX_WORK_KIB: u64 = 512 * 1024;

/// The largest `r`, and the largest `p`. Beside the table, a run needs 128 bytes times both.
const MAX_FACTOR: u32 = 64;

/// A scrypt hash.
#[derive(Clone)]
pub struct ScryptHash {
    /// Rows of the table, a power of two.
    rows: u64,
    block_size: u32,
    lanes: u32,
    blocks: usize,
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl ScryptHash {
    /// Of a string whose kind was recognised.
    pub(super) fn parse(stored: &str, bounds: &Bounds) -> Result<Self, Unusable> {
        let parts: Vec<&str> = stored.splitn(6, '$').collect();
        let &["", _, cost, salt, output] = parts.as_slice() else {
            return Err(Unusable::Malformed);
        };
        let [log_rows, block_size, lanes] = numbers(cost, ["ln", "r", "p"])?;
        let (salt, output) = salted(base64(salt)?, base64(output)?)?;
        if log_rows == 0 || block_size == 0 || lanes == 0 {
            return Err(Unusable::Malformed);
        }
        if log_rows > 31 || block_size > MAX_FACTOR || lanes > MAX_FACTOR {
            return Err(Unusable::BeyondBounds);
        }
        let rows = 1_u64 << log_rows;
        // A row has 128 bytes for each unit of the block size.
        let table_kib = (rows * u64::from(block_size)).div_ceil(8);
        let most_work = MAX_WORK_KIB.max(bounds.memory_kib());
        if table_kib > bounds.memory_kib() || table_kib * u64::from(lanes) > most_work {
            return Err(Unusable::BeyondBounds);
        }
        Ok(Self {
            rows,
            block_size,
            lanes,
            blocks: usize::try_from(table_kib).map_err(|_| Unusable::BeyondBounds)?,
            salt,
            output,
        })
    }

    /// The blocks of 1 KiB that the table takes.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Runs scrypt over `input` and compares in constant time.
    pub(super) fn matches(&self, input: &[u8], memory: &mut [Block]) -> Result<bool, RunError> {
        let output = self.run(input, memory)?;
        Ok(output.ct_eq(&self.output).into())
    }

    /// RFC 7914, 6.
    fn run(&self, input: &[u8], memory: &mut [Block]) -> Result<Zeroizing<Vec<u8>>, RunError> {
        let table = memory.get_mut(..self.blocks).ok_or(RunError::Memory)?;
        let row = 128 * self.block_size as usize;
        let mut lanes = Zeroizing::new(vec![0; row * self.lanes as usize]);
        ::pbkdf2::pbkdf2_hmac::<Sha256>(input, &self.salt, 1, &mut lanes);
        for lane in lanes.chunks_exact_mut(row) {
            mix_lane(lane, self.rows, table);
        }
        let mut output = Zeroizing::new(vec![0; self.output.len()]);
        ::pbkdf2::pbkdf2_hmac::<Sha256>(input, &lanes, 1, &mut output);
        Ok(output)
    }
}

/// 64 bytes, which is what Salsa20 works on. Its sixteen words of 32 bits stand in the order of [`DIAGONALS`], so that four of
/// them at a time are worked on.
type Piece = [u64; 8];

/// Pieces in a block of memory.
const PIECES: usize = Block::SIZE / size_of::<Piece>();

/// Where the words of a piece come from: the diagonals of the square that RFC 7914 draws them in.
const DIAGONALS: [usize; 16] = [0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11];

/// The algorithm `scryptROMix` (RFC 7914, 5).
fn mix_lane(lane: &mut [u8], rows: u64, table: &mut [Block]) {
    let mut row: Zeroizing<Vec<Piece>> = Zeroizing::new(lane.chunks_exact(64).map(load).collect());
    let mut next = row.clone();
    let length = row.len();
    let mut number = 0;
    for _ in 0..rows {
        for piece in row.iter() {
            if let Some(place) = place_mut(table, number) {
                place.copy_from_slice(piece);
            }
            number += 1;
        }
        mix_row(&mut row, &mut next);
    }
    for _ in 0..rows {
        // The number of rows is a power of two of less than 33 bits, and so much is in the first word of the last piece.
        let first = row.last().map_or(0, |piece| piece[0]);
        let chosen = usize::try_from(first & (rows - 1)).unwrap_or_default();
        for (number, piece) in (chosen * length..).zip(row.iter_mut()) {
            xor(piece, place(table, number));
        }
        mix_row(&mut row, &mut next);
    }
    for (piece, bytes) in row.iter().zip(lane.chunks_exact_mut(64)) {
        store(piece, bytes);
    }
}

/// The algorithm `scryptBlockMix` (RFC 7914, 4). What is in `next` before does not matter.
fn mix_row(row: &mut Zeroizing<Vec<Piece>>, next: &mut Zeroizing<Vec<Piece>>) {
    let mut x = row.last().copied().unwrap_or_default();
    let (first, second) = next.split_at_mut(row.len() / 2);
    for (pair, to) in row.chunks_exact(2).zip(first.iter_mut().zip(second)) {
        if let [even, odd] = pair {
            xor(&mut x, even);
            salsa20_8(&mut x);
            *to.0 = x;
            xor(&mut x, odd);
            salsa20_8(&mut x);
            *to.1 = x;
        }
    }
    std::mem::swap(row, next);
}

/// The core of Salsa20 with eight rounds (RFC 7914, 3).
fn salsa20_8(piece: &mut Piece) {
    let mut start = [[0; 4]; 4];
    for (row, pair) in start.iter_mut().zip(piece.chunks_exact(2)) {
        if let [one, two] = pair {
            let ([a, b], [c, d]) = (split(*one), split(*two));
            *row = [a, b, c, d];
        }
    }
    let [mut a, mut b, mut c, mut d] = start;
    for _ in 0..4 {
        // The columns, and then the rows, of the square.
        step(&mut b, a, d, 7);
        step(&mut c, b, a, 9);
        step(&mut d, c, b, 13);
        step(&mut a, d, c, 18);
        b.rotate_right(1);
        c.rotate_right(2);
        d.rotate_right(3);
        step(&mut d, a, b, 7);
        step(&mut c, d, a, 9);
        step(&mut b, c, d, 13);
        step(&mut a, b, c, 18);
        b.rotate_left(1);
        c.rotate_left(2);
        d.rotate_left(3);
    }
    for ((pair, end), start) in piece.chunks_exact_mut(2).zip([a, b, c, d]).zip(start) {
        let mut sum = end;
        for (word, start) in sum.iter_mut().zip(start) {
            *word = word.wrapping_add(start);
        }
        let [a, b, c, d] = sum;
        if let [one, two] = pair {
            *one = join(a, b);
            *two = join(c, d);
        }
    }
}

fn step(to: &mut [u32; 4], a: [u32; 4], b: [u32; 4], by: u32) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to ^= a.wrapping_add(b).rotate_left(by);
    }
}

fn xor(piece: &mut Piece, other: &[u64]) {
    for (word, other) in piece.iter_mut().zip(other) {
        *word ^= other;
    }
}

/// A piece of the table. The caller has seen to it that the table is large enough.
fn place(table: &[Block], number: usize) -> &[u64] {
    let at = number % PIECES * 8;
    let block = table.get(number / PIECES).map(AsRef::as_ref);
    block
        .and_then(|block| block.get(at..at + 8))
        .unwrap_or_default()
}

fn place_mut(table: &mut [Block], number: usize) -> Option<&mut [u64]> {
    let at = number % PIECES * 8;
    table.get_mut(number / PIECES)?.as_mut().get_mut(at..at + 8)
}

fn load(bytes: &[u8]) -> Piece {
    let mut words = [0; 16];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = bytes.try_into().map_or(0, u32::from_le_bytes);
    }
    let words = DIAGONALS.map(|from| words.get(from).copied().unwrap_or_default());
    let mut piece = [0; 8];
    for (to, pair) in piece.iter_mut().zip(words.chunks_exact(2)) {
        if let [one, two] = pair {
            *to = join(*one, *two);
        }
    }
    piece
}

fn store(piece: &Piece, bytes: &mut [u8]) {
    let words = piece.iter().flat_map(|pair| split(*pair));
    for (word, to) in words.zip(DIAGONALS) {
        if let Some(bytes) = bytes.get_mut(4 * to..4 * to + 4) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

fn join(one: u32, two: u32) -> u64 {
    u64::from(one) | u64::from(two) << 32
}

fn split(pair: u64) -> [u32; 2] {
    let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or_default();
    [half(pair), half(pair >> 32)]
}
