//! The innermost loop of products of bfloat16 numbers on AMX: tiles of 16 rows by 16 columns, eight times as fast as vectors of
//! pairs.
//!
//! The standard library has no stable functions for these instructions, so they are written out.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

use super::kernel::Place;
use super::packed::{COLUMNS, LANES, Line};

/// Rows of two tiles, one below the other.
pub(in crate::ops) const ROWS: usize = 2 * LANES;

/// Whether this processor has the instructions, and the system lets this process use them.
pub(super) fn are_there() -> bool {
    static THERE: OnceLock<bool> = OnceLock::new();
    *THERE.get_or_init(|| super::kernel::is_there() && processor_has_tiles() && system_permits())
}

fn processor_has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u64 = 3 << 17;
    /// # Safety
    /// The system must have enabled `xgetbv`.
    #[target_feature(enable = "xsave")]
    #[allow(unsafe_code, reason = "marks what its caller checked")]
    unsafe fn enabled() -> u64 {
        // SAFETY: the caller vouches for it.
        unsafe { _xgetbv(0) }
    }
    let features = __cpuid_count(7, 0).edx;
    if __cpuid(0).eax < 7 || features & (BF16 | TILE) != BF16 | TILE || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: OSXSAVE says that the system enabled it.
    #[allow(unsafe_code, reason = "the instruction is known to be there")]
    let states = unsafe { enabled() };
    states & TILE_STATE == TILE_STATE
}

/// Asks Linux for the registers, which it hands out on demand (Documentation/arch/x86/xstate.rst).
fn system_permits() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    if !cfg!(target_os = "linux") {
        return false;
    }
    let mut answer = ARCH_PRCTL;
    // SAFETY: a call of the system that takes two numbers and touches no memory.
    #[allow(unsafe_code, reason = "the standard library has no function for it")]
    unsafe {
        asm!(
            "syscall",
            inout("rax") answer,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

/// Bytes of a [`Line`].
const LINE: usize = size_of::<Line>();

/// [`LANES`] rows, or two times as many, in chunks of [`LANES`] pairs.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Rows<'a> {
    pub(in crate::ops) lines: &'a [Line],
    /// Lines from a row to the next.
    pub(in crate::ops) row: usize,
    /// Lines from the first row to the first one of the lower half; nothing where there is none.
    pub(in crate::ops) lower: Option<usize>,
    /// Numbers before each chunk of the first row; they may begin within a line.
    pub(in crate::ops) chunks: &'a [usize],
}

/// The registers as tiles of 16 rows of 64 bytes, until it is dropped.
#[derive(Debug)]
pub(in crate::ops) struct Tiles(());

impl Tiles {
    /// # Panics
    /// Where [`are_there`] says no: a mistake of the caller's, never of the data.
    pub(in crate::ops) fn new() -> Self {
        #[repr(C, align(64))]
        struct Shapes {
            palette: u8,
            start: u8,
            reserved: [u8; 14],
            bytes: [u16; 16],
            rows: [u8; 16],
        }
        let shapes = {
            let (mut bytes, mut rows) = ([0; 16], [0; 16]);
            bytes[..8].fill(64);
            rows[..8].fill(16);
            Shapes { palette: 1, start: 0, reserved: [0; 14], bytes, rows }
        };
        assert!(are_there(), "tiles on a processor without them");
        // SAFETY: the instruction is there, as was asserted, and reads these 64 bytes.
        #[allow(unsafe_code, reason = "the standard library has no function for it")]
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly));
        }
        Self(())
    }

    /// Products of the rows with [`COLUMNS`] columns, which lie pair after pair; the scale of `to` must be 1.
    ///
    /// # Panics
    /// Slices that are too short: a mistake of the caller's, never of the data.
    pub(in crate::ops) fn multiply(&self, rows: &Rows<'_>, columns: &[Line], to: &mut Place<'_>) {
        let chunks = rows.chunks.len();
        let last = rows.chunks.iter().fold(0, |last, chunk| last.max(*chunk));
        let lines = (LANES - 1) * rows.row + rows.lower.unwrap_or(0) + 1;
        assert!(chunks > 0 && columns.len() == 2 * LANES * chunks);
        assert!(last + 2 * LANES * lines <= 2 * LANES * rows.lines.len());
        let height = if rows.lower.is_some() { ROWS } else { LANES };
        assert!(to.values.len() >= (height - 1) * to.stride + COLUMNS && to.scale.to_bits() == 1.0_f32.to_bits());
        let result = to.values.as_mut_ptr();
        let (stride, add) = (4 * to.stride, usize::from(to.add));
        // SAFETY: the last line of the rows is there, there are 32 lines of columns for each chunk, which is what the loops read,
        // and the last row of the result ends inside `to.values`; all of it was checked above. There are tiles, since there is a
        // `self`, and no other code uses them.
        #[allow(unsafe_code, reason = "the standard library has no functions for these instructions")]
        unsafe {
            if let Some(lower) = rows.lower {
                asm!(
                    "test {at}, {at}",
                    "jz 2f",
                    "tileloadd tmm0, [{result} + {stride}*1]",
                    "tileloadd tmm1, [{result} + {stride}*1 + 64]",
                    "tileloadd tmm2, [{below} + {stride}*1]",
                    "tileloadd tmm3, [{below} + {stride}*1 + 64]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "3:",
                    "mov {at}, [{places}]",
                    "tileloadd tmm6, [{columns} + {line}*2]",
                    "tileloadd tmm7, [{columns} + {line}*2 + 64]",
                    "shl {at}, 1",
                    "add {at}, {rows}",
                    "tileloadd tmm4, [{at} + {row}*1]",
                    "add {at}, {lower}",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{at} + {row}*1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {places}, 8",
                    "add {columns}, 2048",
                    "dec {chunks}",
                    "jnz 3b",
                    "tilestored [{result} + {stride}*1], tmm0",
                    "tilestored [{result} + {stride}*1 + 64], tmm1",
                    "tilestored [{below} + {stride}*1], tmm2",
                    "tilestored [{below} + {stride}*1 + 64], tmm3",
                    result = in(reg) result,
                    below = in(reg) result.add(LANES * to.stride),
                    stride = in(reg) stride,
                    chunks = inout(reg) chunks => _,
                    rows = in(reg) rows.lines.as_ptr(),
                    row = in(reg) LINE * rows.row,
                    lower = in(reg) LINE * lower,
                    places = inout(reg) rows.chunks.as_ptr() => _,
                    columns = inout(reg) columns.as_ptr() => _,
                    line = in(reg) LINE,
                    at = inout(reg) add => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            } else {
                asm!(
                    "test {at}, {at}",
                    "jz 2f",
                    "tileloadd tmm0, [{result} + {stride}*1]",
                    "tileloadd tmm1, [{result} + {stride}*1 + 64]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "3:",
                    "mov {at}, [{places}]",
                    "tileloadd tmm6, [{columns} + {line}*2]",
                    "tileloadd tmm7, [{columns} + {line}*2 + 64]",
                    "shl {at}, 1",
                    "add {at}, {rows}",
                    "tileloadd tmm4, [{at} + {row}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "add {places}, 8",
                    "add {columns}, 2048",
                    "dec {chunks}",
                    "jnz 3b",
                    "tilestored [{result} + {stride}*1], tmm0",
                    "tilestored [{result} + {stride}*1 + 64], tmm1",
                    result = in(reg) result,
                    stride = in(reg) stride,
                    chunks = inout(reg) chunks => _,
                    rows = in(reg) rows.lines.as_ptr(),
                    row = in(reg) LINE * rows.row,
                    places = inout(reg) rows.chunks.as_ptr() => _,
                    columns = inout(reg) columns.as_ptr() => _,
                    line = in(reg) LINE,
                    at = inout(reg) add => _,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there are tiles, or there would be no `self`.
        #[allow(unsafe_code, reason = "the standard library has no function for it")]
        unsafe {
            asm!("tilerelease", options(nostack, nomem));
        }
    }
}
