//! Asking the processor for memory ahead of its use. Its only effect is on time: nothing waits for it, and what is
//! never used after all costs little.

/// Octets of a cache line.
const LINE: usize = 64;

/// Asks for `place`, as far as its first cache line.
pub fn first_line<T>(place: &T) {
    line(std::ptr::from_ref(place).cast());
}

/// Asks for what is in `slice`, at most `most` cache lines from its start.
pub fn lines<T>(slice: &[T], most: usize) {
    let start = slice.as_ptr().cast::<u8>();
    let into_line = start.addr() % LINE;
    let count = (into_line + size_of_val(slice)).div_ceil(LINE);
    (0..count.min(most)).for_each(|at| line(start.wrapping_add(at * LINE)));
}

#[inline]
#[allow(unsafe_code)]
fn line(address: *const u8) {
    // SAFETY: a prefetch gives nothing to the program and changes nothing it can see; it faults at no address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    // SAFETY: as above; the instruction touches neither stack nor flags.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_may_be_asked_for() {
        first_line(&1u8);
        lines::<u64>(&[], 4);
        lines(&[1u64; 100], 4);
        lines(&[1u8; 3], usize::MAX);
    }
}
