//! The innermost loops of products of bfloat16 numbers: AVX-512's dot products of pairs, twice as fast as single precision, and
//! the packing of numbers, for them and for tiles.
//!
//! Numbers lie in pairs of neighbours of the inner dimension, the lower half of a word first. Each function says what its
//! slices must hold and checks it, so that the pointers stay inside.

use std::arch::x86_64::{
    __cpuid, __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cvtne2ps_pbh,
    _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_maskz_loadu_ps, _mm512_mul_ps,
    _mm512_permutexvar_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::packed::{COLUMNS, LANES, Line, ROWS};

/// Vectors in a row of a tile.
const VECTORS: usize = COLUMNS / LANES;

/// Whether this processor has the instructions.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16")
}

/// Whether they are faster than single precision. Intel's take four times as long as a multiplication of half as many numbers.
pub(super) fn is_fast() -> bool {
    const INTEL: [u32; 3] = [0x756e_6547, 0x4965_6e69, 0x6c65_746e];
    let name = __cpuid(0);
    [name.ebx, name.edx, name.ecx] != INTEL
}

/// Where a tile goes: rows of [`COLUMNS`] numbers that begin `stride` apart.
#[derive(Debug)]
pub(in crate::ops) struct Place<'a> {
    pub(in crate::ops) values: &'a mut [f32],
    pub(in crate::ops) stride: usize,
    /// Whether the sums are added to what is there.
    pub(in crate::ops) add: bool,
    pub(in crate::ops) scale: f32,
}

/// Products of [`ROWS`] rows with [`COLUMNS`] columns, both pair after pair, a line for the rows.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn tile(rows: &[Line], columns: &[Line], to: &mut Place<'_>) {
    assert_eq!(rows.len() * VECTORS, columns.len());
    assert!(to.values.len() >= (ROWS - 1) * to.stride + COLUMNS);
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for (rows, columns) in rows.iter().zip(columns.as_chunks::<VECTORS>().0) {
        let mut right = [bf16(_mm512_setzero_si512()); VECTORS];
        for (right, line) in right.iter_mut().zip(columns) {
            *right = bf16(load_words(line));
        }
        for (sums, pair) in sums.iter_mut().zip(rows.0) {
            let pair = bf16(_mm512_set1_epi32(pair.cast_signed()));
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_dpbf16_ps(*sum, pair, right);
            }
        }
    }
    let scale = _mm512_set1_ps(to.scale);
    for (row, sums) in sums.iter().enumerate() {
        for (vector, &sum) in sums.iter().enumerate() {
            let sum = _mm512_mul_ps(sum, scale);
            let at = to.values[row * to.stride + vector * LANES..].as_mut_ptr();
            // SAFETY: the last row's last vector ends inside `to.values`, checked above.
            #[allow(unsafe_code, reason = "the bounds were checked before the loop")]
            unsafe {
                let sum = if to.add { _mm512_add_ps(_mm512_loadu_ps(at), sum) } else { sum };
                _mm512_storeu_ps(at, sum);
            }
        }
    }
}

/// Rounds up to [`LANES`] numbers of two rows, and lays them side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn interleave(first: &[f32], second: &[f32], to: &mut Line) {
    store(to, pairs_of(load(first), load(second)));
}

/// Rounds up to [`LANES`] pairs of a row.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn line(row: &[f32], to: &mut Line) {
    store(to, line_of(row));
}

/// Rounds up to [`LANES`] rows, [`LANES`] pairs of each, and turns them: every `step`th line of `to` from the first on holds a
/// pair of all rows.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn turn(rows: [&[f32]; LANES], to: &mut [Line], step: usize) {
    let mut lines = [_mm512_setzero_si512(); LANES];
    for (line, row) in lines.iter_mut().zip(rows) {
        *line = line_of(row);
    }
    let turned = transposed(lines);
    for (line, turned) in to.iter_mut().step_by(step).zip(turned) {
        store(line, turned);
    }
}

/// Rounds up to [`LANES`] pairs of columns, [`LANES`] numbers of each: every `step`th line of `to` holds all pairs of a row.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn turn_columns(columns: [[&[f32]; 2]; LANES], to: &mut [Line], step: usize) {
    let mut lines = [_mm512_setzero_si512(); LANES];
    for (line, [first, second]) in lines.iter_mut().zip(columns) {
        *line = pairs_of(load(first), load(second));
    }
    for (line, turned) in to.iter_mut().step_by(step).zip(transposed(lines)) {
        store(line, turned);
    }
}

/// Takes `centre` from up to [`LANES`] rows and rounds what is left: [`LANES`] lines for every chunk of as many pairs, one for each
/// row, to `lines`, and the same turned, a pair of all rows in each, to every `step`th line of `turned`. Gives the squared norm of each
/// row. Rows that are not there are of zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn centred(
    rows: [&[f32]; LANES],
    centre: &[f32],
    lines: &mut [Line],
    (turned, step): (&mut [Line], usize),
) -> [f32; LANES] {
    let mut squares = _mm512_setzero_ps();
    let odd = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
    let (centres, rest) = centre.as_chunks::<{ 2 * LANES }>();
    let mut heads: [(&[[f32; 2 * LANES]], &[f32]); LANES] = [(&[], &[]); LANES];
    for (head, row) in heads.iter_mut().zip(rows) {
        *head = row.as_chunks();
    }
    let chunks = lines.as_chunks_mut::<LANES>().0.iter_mut().zip(turned.chunks_mut(LANES * step));
    for (chunk, (lines, turned)) in chunks.enumerate() {
        let mut words = [_mm512_setzero_si512(); LANES];
        if let Some(centre) = centres.get(chunk) {
            let (low, high) = halves(centre);
            for (words, (head, _)) in words.iter_mut().zip(&heads) {
                if let Some(row) = head.get(chunk) {
                    let (first, second) = halves(row);
                    *words = rounded(_mm512_sub_ps(first, low), _mm512_sub_ps(second, high));
                }
            }
        } else {
            let (low, high) = rest.split_at(rest.len().min(LANES));
            let (low, high) = (load(low), load(high));
            for (words, (_, row)) in words.iter_mut().zip(&heads) {
                if !row.is_empty() {
                    let (first, second) = row.split_at(row.len().min(LANES));
                    *words = rounded(_mm512_sub_ps(load(first), low), _mm512_sub_ps(load(second), high));
                }
            }
        }
        for (line, words) in lines.iter_mut().zip(&words) {
            store(line, *words);
        }
        for (words, line) in transposed(words).iter().zip(turned.iter_mut().step_by(step)) {
            store(line, *words);
            // The numbers of bfloat16 are the upper halves of those of single precision.
            let first = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(*words));
            let second = _mm512_castsi512_ps(_mm512_and_si512(*words, odd));
            squares = _mm512_fmadd_ps(second, second, _mm512_fmadd_ps(first, first, squares));
        }
    }
    let mut norms = [0.0; LANES];
    // SAFETY: they are 64 bytes.
    #[allow(unsafe_code, reason = "stores take pointers")]
    unsafe {
        _mm512_storeu_ps(norms.as_mut_ptr(), squares);
    }
    norms
}

/// Takes `centre` from two rows, rounds what is left, and lays it side by side, [`LANES`] pairs to a line: to the first `at` lines from
/// every `step`th one on. A row that is not there is of zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn centred_pairs(first: &[f32], second: &[f32], centre: &[f32], lines: &mut [Line], step: usize, at: usize) {
    let (centres, rest) = centre.as_chunks::<LANES>();
    let (first, second) = (first.as_chunks::<LANES>(), second.as_chunks::<LANES>());
    for (part, centre) in centres.iter().enumerate() {
        let centre = whole(centre);
        let (mut left, mut right) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        if let Some(first) = first.0.get(part) {
            left = _mm512_sub_ps(whole(first), centre);
        }
        if let Some(second) = second.0.get(part) {
            right = _mm512_sub_ps(whole(second), centre);
        }
        store(&mut lines[part / at * step + part % at], pairs_of(left, right));
    }
    if !rest.is_empty() {
        let (centre, part) = (load(rest), centres.len());
        let (mut left, mut right) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        if !first.1.is_empty() {
            left = _mm512_sub_ps(load(first.1), centre);
        }
        if !second.1.is_empty() {
            right = _mm512_sub_ps(load(second.1), centre);
        }
        store(&mut lines[part / at * step + part % at], pairs_of(left, right));
    }
}

/// [`LANES`] pairs, rounded.
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded(low: __m512, high: __m512) -> __m512i {
    words(_mm512_cvtne2ps_pbh(high, low))
}

#[target_feature(enable = "avx512f")]
fn halves(numbers: &[f32; 2 * LANES]) -> (__m512, __m512) {
    let [low, high] = *numbers.as_chunks::<LANES>().0 else { return (_mm512_setzero_ps(), _mm512_setzero_ps()) };
    (whole(&low), whole(&high))
}

#[target_feature(enable = "avx512f")]
fn whole(numbers: &[f32; LANES]) -> __m512 {
    // SAFETY: they are 64 bytes.
    #[allow(unsafe_code, reason = "loads take pointers")]
    unsafe {
        _mm512_loadu_ps(numbers.as_ptr())
    }
}

/// Up to [`LANES`] pairs of a row, rounded.
#[target_feature(enable = "avx512f,avx512bf16")]
fn line_of(row: &[f32]) -> __m512i {
    let (low, high) = row.split_at(row.len().min(LANES));
    rounded(load(low), load(high))
}

/// The sixteen columns of sixteen rows of words.
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut twos = rows;
    for i in (0..LANES).step_by(2) {
        twos[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        twos[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    // Of four rows each, columns c, c + 4, c + 8 and c + 12 in quarter c.
    let mut fours = twos;
    for i in (0..LANES).step_by(4) {
        fours[i] = _mm512_unpacklo_epi64(twos[i], twos[i + 2]);
        fours[i + 1] = _mm512_unpackhi_epi64(twos[i], twos[i + 2]);
        fours[i + 2] = _mm512_unpacklo_epi64(twos[i + 1], twos[i + 3]);
        fours[i + 3] = _mm512_unpackhi_epi64(twos[i + 1], twos[i + 3]);
    }
    let mut columns = fours;
    for c in 0..4 {
        let [a, b, c4, d] = [fours[c], fours[c + 4], fours[c + 8], fours[c + 12]];
        let (low, high) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (low4, high4) = (_mm512_shuffle_i32x4::<0x88>(c4, d), _mm512_shuffle_i32x4::<0xdd>(c4, d));
        columns[c] = _mm512_shuffle_i32x4::<0x88>(low, low4);
        columns[c + 4] = _mm512_shuffle_i32x4::<0x88>(high, high4);
        columns[c + 8] = _mm512_shuffle_i32x4::<0xdd>(low, low4);
        columns[c + 12] = _mm512_shuffle_i32x4::<0xdd>(high, high4);
    }
    columns
}

/// Numbers of two rows, rounded and side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs_of(first: __m512, second: __m512) -> __m512i {
    // Words 0 to 15 are those of the first row, 16 to 31 those of the second.
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: 32 words are 64 bytes.
    #[allow(unsafe_code, reason = "a constant of the right size")]
    let order = unsafe { _mm512_loadu_si512(ORDER.as_ptr().cast()) };
    _mm512_permutexvar_epi16(order, words(_mm512_cvtne2ps_pbh(second, first)))
}

/// Up to [`LANES`] numbers, then zeros.
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    let count = values.len().min(LANES);
    // A masked load from no memory at all is right, and slow.
    if count == 0 {
        return _mm512_setzero_ps();
    }
    let mask = ((1u32 << count) - 1) as u16;
    // SAFETY: the mask leaves out what is beyond `values`.
    #[allow(unsafe_code, reason = "masked loads take pointers")]
    unsafe {
        _mm512_maskz_loadu_ps(mask, values.as_ptr())
    }
}

#[target_feature(enable = "avx512f")]
fn load_words(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes.
    #[allow(unsafe_code, reason = "loads take pointers")]
    unsafe {
        _mm512_loadu_si512(line.0.as_ptr().cast())
    }
}

#[target_feature(enable = "avx512f")]
fn store(to: &mut Line, words: __m512i) {
    // SAFETY: a line is 64 bytes.
    #[allow(unsafe_code, reason = "stores take pointers")]
    unsafe {
        _mm512_storeu_si512(to.0.as_mut_ptr().cast(), words);
    }
}

#[inline(always)]
fn bf16(words: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits, of which every pattern is a value.
    #[allow(unsafe_code, reason = "there is no other conversion")]
    unsafe {
        std::mem::transmute(words)
    }
}

#[inline(always)]
fn words(numbers: __m512bh) -> __m512i {
    // SAFETY: both are 512 bits, of which every pattern is a value.
    #[allow(unsafe_code, reason = "there is no other conversion")]
    unsafe {
        std::mem::transmute(numbers)
    }
}
