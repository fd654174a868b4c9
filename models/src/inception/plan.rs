//! The blocks of the network (Szegedy et al. 2015, as the 2015-12-05 graph has them).

use super::layers::{HALVE, Plan, Window};

use Plan::{Fork, Maxima, To};
use Window::{Column, Row};

const ONE: Window = Window::Square(1, 1, 0);
const THREE: Window = Window::Square(3, 1, 1);
const FIVE: Window = Window::Square(5, 1, 2);
const HALF: Window = Window::Square(3, 2, 0);

/// Maps of 35 x 35; `channels` of the branch that pools by `means`.
pub(super) fn large(channels: usize, means: Plan) -> Vec<Vec<Plan>> {
    vec![
        vec![To("branch1x1", 64, ONE)],
        vec![To("branch5x5_1", 48, ONE), To("branch5x5_2", 64, FIVE)],
        vec![To("branch3x3dbl_1", 64, ONE), To("branch3x3dbl_2", 96, THREE), To("branch3x3dbl_3", 96, THREE)],
        vec![means, To("branch_pool", channels, ONE)],
    ]
}

/// From 35 x 35 to 17 x 17.
pub(super) fn large_to_middle() -> Vec<Vec<Plan>> {
    vec![
        vec![To("branch3x3", 384, HALF)],
        vec![To("branch3x3dbl_1", 64, ONE), To("branch3x3dbl_2", 96, THREE), To("branch3x3dbl_3", 96, HALF)],
        vec![Maxima(HALVE)],
    ]
}

/// Maps of 17 x 17; `inner` channels between the long kernels.
pub(super) fn middle(inner: usize, means: Plan) -> Vec<Vec<Plan>> {
    vec![
        vec![To("branch1x1", 192, ONE)],
        vec![To("branch7x7_1", inner, ONE), To("branch7x7_2", inner, Row(7)), To("branch7x7_3", 192, Column(7))],
        vec![
            To("branch7x7dbl_1", inner, ONE),
            To("branch7x7dbl_2", inner, Column(7)),
            To("branch7x7dbl_3", inner, Row(7)),
            To("branch7x7dbl_4", inner, Column(7)),
            To("branch7x7dbl_5", 192, Row(7)),
        ],
        vec![means, To("branch_pool", 192, ONE)],
    ]
}

/// From 17 x 17 to 8 x 8.
pub(super) fn middle_to_small() -> Vec<Vec<Plan>> {
    vec![
        vec![To("branch3x3_1", 192, ONE), To("branch3x3_2", 320, HALF)],
        vec![
            To("branch7x7x3_1", 192, ONE),
            To("branch7x7x3_2", 192, Row(7)),
            To("branch7x7x3_3", 192, Column(7)),
            To("branch7x7x3_4", 192, HALF),
        ],
        vec![Maxima(HALVE)],
    ]
}

/// Maps of 8 x 8. The last block's `pool` takes maxima instead of means in the graph that FID is defined by.
pub(super) fn small(pool: Plan) -> Vec<Vec<Plan>> {
    let fork = |row, column| Fork([(row, Row(3)), (column, Column(3))], 384);
    vec![
        vec![To("branch1x1", 320, ONE)],
        vec![To("branch3x3_1", 384, ONE), fork("branch3x3_2a", "branch3x3_2b")],
        vec![
            To("branch3x3dbl_1", 448, ONE),
            To("branch3x3dbl_2", 384, THREE),
            fork("branch3x3dbl_3a", "branch3x3dbl_3b"),
        ],
        vec![pool, To("branch_pool", 192, ONE)],
    ]
}
