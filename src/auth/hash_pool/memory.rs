//! The block memory of a worker.

use std::collections::TryReserveError;

use argon2::Block;

/// Bytes of a block are KiB of a cost; glibc hands out everything above 32 MiB as a mapping of its own.
const ALWAYS_MAPPED: usize = 33 * 1024;

/// Blocks of 1 KiB, allocated once and used for one run after the other.
///
/// Allocating for each run instead costs a page fault for each 4 KiB of each run, which is an eighth of its time, and
/// glibc before 2.38 reuses such aligned pieces so badly that the process grows without bound.
pub(super) struct Memory {
    blocks: Vec<Block>,
    length: usize,
}

impl Memory {
    /// Reserves address space for `length` blocks. Nothing is touched yet, so this takes no time.
    pub(super) fn reserve(length: usize) -> Result<Self, TryReserveError> {
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(length)?;
        Ok(Self { blocks, length })
    }

    /// As [`reserve`](Self::reserve), for memory that is needed once: it goes back to the operating system when it is
    /// dropped, whatever its size. The rest of the reservation is never touched, so it costs nothing.
    pub(super) fn reserve_for_once(length: usize) -> Result<Self, TryReserveError> {
        let mut memory = Self::reserve(length.max(ALWAYS_MAPPED))?;
        memory.length = length;
        Ok(memory)
    }

    /// Writes every block, so that the memory is there: what the process holds is seen at the start and not in the middle
    /// of the first rush, and no run waits for a page.
    pub(super) fn touch(&mut self) {
        self.ask_for_huge_pages();
        self.blocks.resize(self.length, Block::new());
    }

    /// How many blocks there are, touched or not.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn blocks(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    /// argon2 jumps through its memory, so it gains from pages of 2 MiB. Most distributions give them only to who asks.
    #[cfg(target_os = "linux")]
    #[expect(
        unsafe_code,
        reason = "a hint to the kernel about memory of our own; no safe interface offers it"
    )]
    fn ask_for_huge_pages(&mut self) {
        use rustix::mm::{Advice, madvise};

        let first = self.blocks.as_mut_ptr().cast::<u8>();
        // The kernel wants the start of a page, and the allocator's own header stands before our first block.
        let into_page = first.addr() % rustix::param::page_size();
        let length = self.length * Block::SIZE + into_page;
        // SAFETY: this advice changes no content and no mapping, only the size of the pages that will back them. The range
        // is the reserved capacity and the beginning of the page that it starts in.
        let advised = unsafe {
            madvise(
                first.wrapping_sub(into_page).cast(),
                length,
                Advice::LinuxHugepage,
            )
        };
        if let Err(error) = advised {
            tracing::debug!(%error, "no huge pages for the hash memory");
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn ask_for_huge_pages(&mut self) {}
}
