//! Matrix products of plain slices.

/// `out[m, n] = a[m, inner] b[inner, n]`, row by row; m and n follow from the lengths.
pub(super) fn product(out: &mut [f32], a: &[f32], b: &[f32], inner: usize) {
    let columns = b.len() / inner;
    multiply(out, a, b, [inner, columns], [1, columns]);
}

/// `out[m, n] = a[m, inner] b[n, inner]^T`, row by row; m and n follow from the lengths.
pub(super) fn product_transposed(out: &mut [f32], a: &[f32], b: &[f32], inner: usize) {
    let columns = b.len() / inner;
    multiply(out, a, b, [inner, columns], [inner, 1]);
}

/// `steps`: from one column of b to the next, from one row to the next.
#[allow(unsafe_code, reason = "the gemm crate takes pointers; their bounds are checked here")]
fn multiply(out: &mut [f32], a: &[f32], b: &[f32], [inner, columns]: [usize; 2], steps: [usize; 2]) {
    let rows = a.len() / inner;
    assert_eq!([rows * inner, inner * columns, rows * columns], [a.len(), b.len(), out.len()]);
    let [column_step, row_step] = steps.map(usize::cast_signed);
    // SAFETY: the lengths were just checked, `steps` are the strides of a dense matrix with `inner * columns` entries,
    // and `out` is borrowed mutably, so it overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            columns.cast_signed(),
            false,
            a.as_ptr(),
            1,
            inner.cast_signed(),
            b.as_ptr(),
            column_step,
            row_step,
            0.0,
            1.0,
            false,
            false,
            false,
            // The caller is one of many problems in parallel; alone, a product also has one order of additions.
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_small_matrices() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 2.0, 1.0, 0.0, -1.0]);
        let mut out = [0.0; 4];
        product(&mut out, &a, &b, 3);
        assert_eq!(out, [5.0, -1.0, 14.0, -1.0]);
        product_transposed(&mut out, &a, &b, 3);
        assert_eq!(out, [7.0, -2.0, 16.0, -2.0]);
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn lengths_that_do_not_fit_never_reach_the_pointers() {
        product(&mut [0.0; 3], &[0.0; 6], &[0.0; 6], 3);
    }
}
